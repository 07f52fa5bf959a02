"""The win model: competing intensities of winning and losing, constant in bins of days ahead.

Each intensity is a pooled rate of stage (or age) and bin, that of winning times the season, times the exponential of a
blend of two unlike learners: LightGBM Poisson trees and a ridge Poisson regression, both fitted to what the pooled rate
leaves unexplained. With few closed deals both stay near zero and the pooled rates remain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from crm.calendar import Calendar
from models.bins import BIN_INPUTS, CAUSES, BinGrid, bin_outcomes, bin_rows, build_grid, read_clocks
from models.curves import Curves
from models.encoding import DeclaredFeature, FeatureEncoder
from models.learners import HazardSettings, Intensity, TrainingRows, fit_design, fit_intensities
from models.linear import LinearDesign
from models.pooled import PooledRates
from models.season import Season

_SNAPSHOTS_AT_ONCE = 10_000


@dataclass(frozen=True)
class HazardMargins:
    """Log-intensities by learner before blending: by cause (n, m), with the edges (n, m+1) they hold between."""

    edges: np.ndarray
    pooled: Mapping[str, np.ndarray]
    trees: Mapping[str, np.ndarray]
    linear: Mapping[str, np.ndarray]

    def blend(self, weight_linear: float) -> Curves:
        """Pooled + (1 - weight) trees + weight linear."""
        log_intensity = {
            cause: self.pooled[cause] + (1 - weight_linear) * self.trees[cause] + weight_linear * self.linear[cause]
            for cause in CAUSES
        }
        return Curves(self.edges, log_intensity["won"], log_intensity["lost"])


@dataclass(frozen=True)
class HazardModel:
    """Fitted intensities of winning and losing, as known at the training moment.

    Attributes
    ----------
    encoder : features to numbers.
    bins : uncut edges in days, 0 to 365.
    pooled : rates by stage (or age) and bin that the learners start from, of an average month at the present pace.
    design : regressors of the linear partner.
    intensities : learners by cause.
    weight_linear : share of the linear partner in the blend, 0..1.
    snapshots_per_deal : how often training saw a deal on average: that many rows are one piece of evidence.
    reach_days : the longest time a training snapshot was watched; beyond it intensities are the last bin's, pooled.
    contradicted : features whose declared direction the data speak against; the trees are free of it there.
    season : how many times as often as on average deals are won in each month of the year.
    """

    encoder: FeatureEncoder
    bins: np.ndarray
    pooled: PooledRates
    design: LinearDesign
    intensities: Mapping[str, Intensity]
    weight_linear: float
    snapshots_per_deal: float
    reach_days: float
    contradicted: tuple[str, ...] = ()
    season: Season = Season()

    def curves(self, features: pd.DataFrame, calendar: Calendar) -> Curves:
        """The curves of snapshots (as_of and features), in their order; uncalibrated."""
        return self.margins(features, calendar).blend(self.weight_linear)

    def pooled_curves(self, features: pd.DataFrame, calendar: Calendar) -> Curves:
        """The curves by stage (or age) and bin alone."""
        grid = build_grid(features["as_of"], calendar, self.bins)
        rates = self.starting_rates(features, grid)
        return Curves(grid.rows(), rates["won"], rates["lost"])

    def starting_rates(self, features: pd.DataFrame, grid: BinGrid) -> dict[str, np.ndarray]:
        """By cause, (n, m) log-intensities that the learners start from: pooled rates, and the season of the bins."""
        return _in_season(self.pooled.log_intensities(features, grid), self.season.of_bins(grid)[grid.group])

    def margins(self, features: pd.DataFrame, calendar: Calendar) -> HazardMargins:
        """What each learner says, to be blended."""
        return self.margins_of([self.intensities], features, calendar)[0]

    def margins_of(
        self, learners: Sequence[Mapping[str, Intensity]], features: pd.DataFrame, calendar: Calendar
    ) -> list[HazardMargins]:
        """The same of several learners in the place of the model's own: bin rows are made once for all."""
        grid = build_grid(features["as_of"], calendar, self.bins)
        encoded, clocks = self.encoder.transform(features), read_clocks(features)
        shape = (len(features), grid.base.shape[1])
        trees, linear = ([{cause: np.zeros(shape) for cause in CAUSES} for _ in learners] for _ in range(2))
        for start in range(0, len(features), _SNAPSHOTS_AT_ONCE):
            part = slice(start, start + _SNAPSHOTS_AT_ONCE)
            rows = bin_rows(encoded[part], clocks[part], replace(grid, group=grid.group[part]))
            regressors = self.design.regressors(rows)
            for its, by_trees, by_line in zip(learners, trees, linear, strict=True):
                for cause, intensity in its.items():
                    by_trees[cause][part] = intensity.tree_margin(rows).reshape(-1, shape[1])
                    # Row by row: a matrix product's last digits depend on what other rows there are.
                    by_line[cause][part] = np.vecdot(regressors, intensity.coefficients).reshape(-1, shape[1])
        pooled = self.starting_rates(features, grid)
        edges = grid.rows()
        return [HazardMargins(edges, pooled, *each) for each in zip(trees, linear, strict=True)]

    def with_weight(self, weight_linear: float) -> "HazardModel":
        """The same learners, blended otherwise."""
        return replace(self, weight_linear=weight_linear)

    def importance(self) -> pd.Series:
        """Each input's share of the trees' gain, the mean over the causes; all zero without trees."""
        return sum((self.gain_shares(cause) for cause in CAUSES), start=0.0) / len(CAUSES)

    def gain_shares(self, cause: str) -> pd.Series:
        """How much each input reduced the loss of one cause's trees, as a share of all; all zero without trees."""
        names = [*self.encoder.columns, *BIN_INPUTS]
        trees = self.intensities[cause].trees
        gains = np.zeros(len(names)) if trees is None else trees.feature_importance("gain")
        # Clocks and the days left in the period come twice: as known at the moment, and of each bin.
        shares = pd.Series(gains / max(gains.sum(), 1e-12), index=names)
        return shares.groupby(level=0, sort=False).sum()

    def to_dict(self) -> dict[str, Any]:
        return {
            "encoder": self.encoder.to_dict(),
            "bins": self.bins.tolist(),
            "pooled": self.pooled.to_dict(),
            "design": self.design.to_dict(),
            "intensities": {cause: intensity.to_dict() for cause, intensity in self.intensities.items()},
            "weight_linear": self.weight_linear,
            "snapshots_per_deal": self.snapshots_per_deal,
            "reach_days": self.reach_days,
            "contradicted": list(self.contradicted),
            "season": list(self.season.months),
        }

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "HazardModel":
        return HazardModel(
            encoder=FeatureEncoder.from_dict(stored["encoder"]),
            bins=np.array(stored["bins"], dtype=float),
            pooled=PooledRates.from_dict(stored["pooled"]),
            design=LinearDesign.from_dict(stored["design"]),
            intensities={cause: Intensity.from_dict(value) for cause, value in stored["intensities"].items()},
            weight_linear=stored["weight_linear"],
            snapshots_per_deal=stored["snapshots_per_deal"],
            reach_days=stored["reach_days"],
            contradicted=tuple(stored["contradicted"]),
            season=Season(tuple(stored["season"])),
        )


def fit_hazards(
    features: pd.DataFrame,
    outcomes: pd.DataFrame,
    calendar: Calendar,
    bins: np.ndarray,
    *,
    catalogue: Mapping[str, DeclaredFeature],
    seed: int,
    weight_linear: float = 0.5,
    settings: HazardSettings | None = None,
    season: Season | None = None,
    pace: float = 1.0,
    num_threads: int = 2,
) -> HazardModel:
    """Fit both causes on snapshots and what had become of them by the training moment.

    Parameters
    ----------
    features : deal_id, as_of and features, one row per snapshot.
    outcomes : aligned: days_observed (days from as_of to the deal's end or the training moment, whichever is first),
        outcome ("won", "lost", NaN if still open or censored).
    bins : edges from `choose_bins`.
    catalogue : features by name.
    season : default none, every month is like any other.
    pace : how many times as fast as usual time passes for deals now; see `PooledRates.at_pace`.
    num_threads : causes fitted at once; the result is the same.
    """
    encoder = FeatureEncoder.fit(features, catalogue, outcomes=outcomes)
    grid = build_grid(features["as_of"], calendar, bins)
    seen = bin_outcomes(grid.rows(), outcomes)
    repeats = len(features) / max(features["deal_id"].nunique(), 1)
    season = season or Season()
    lively = season.of_bins(grid)[grid.group]
    pooled = PooledRates.fit(features, grid, seen, bins=len(bins) - 1, snapshots_per_deal=repeats, season=lively)
    table = training_rows(features, outcomes, calendar, bins, encoder=encoder, pooled=pooled, season=season)
    design = fit_design(table, seed)
    free = np.any([each == 0 for each in table.directions.values()], axis=0) & (table.declared != 0)
    return HazardModel(
        encoder=encoder,
        bins=bins,
        pooled=pooled.at_pace(pace, bins),
        design=design,
        intensities=fit_intensities(table, design, settings or HazardSettings(), seed=seed, num_threads=num_threads),
        weight_linear=weight_linear,
        snapshots_per_deal=repeats,
        reach_days=float(outcomes["days_observed"].max()) if len(outcomes) else 0.0,
        contradicted=tuple(name for name, is_free in zip(encoder.columns, free, strict=False) if is_free),
        season=season,
    )


def _in_season(rates: dict[str, np.ndarray], lively: np.ndarray) -> dict[str, np.ndarray]:
    """Log-intensities of an average month, as they are in bins that are `lively` times as lively."""
    return {**rates, "won": rates["won"] + np.log(lively)}


def training_rows(
    features: pd.DataFrame,
    outcomes: pd.DataFrame,
    calendar: Calendar,
    bins: np.ndarray,
    *,
    encoder: FeatureEncoder,
    pooled: PooledRates,
    season: Season,
) -> TrainingRows:
    """The rows with days at risk of training snapshots, their closings, and what the pooled rates expect of them."""
    grid = build_grid(features["as_of"], calendar, bins)
    seen = bin_outcomes(grid.rows(), outcomes)
    rates = _in_season(pooled.log_intensities(features, grid), season.of_bins(grid)[grid.group])
    chosen = np.flatnonzero(seen.exposure.ravel() > 0)
    log_days = np.log(seen.exposure.ravel()[chosen])
    return TrainingRows(
        inputs=bin_rows(encoder.transform(features), read_clocks(features), grid, chosen),
        snapshot=chosen // grid.base.shape[1],
        events={cause: seen.events[cause].ravel()[chosen].astype(np.float32) for cause in CAUSES},
        log_expected={cause: log_days + rates[cause].ravel()[chosen] for cause in CAUSES},
        snapshots_per_deal=len(features) / max(features["deal_id"].nunique(), 1),
        declared=np.array([*encoder.directions, *[0] * len(BIN_INPUTS)]),
    )
