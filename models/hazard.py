"""The win model: competing intensities of winning and losing, constant in bins of days ahead.

Each intensity is a pooled rate of stage and bin times the exponential of a blend of two unlike learners: LightGBM
Poisson trees and a ridge Poisson regression, both fitted to what the pooled rate leaves unexplained. With few closed
deals both stay near zero and the pooled rates remain.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd

from crm.calendar import Calendar
from models.bins import BIN_INPUTS, CAUSES, BinGrid, BinOutcomes, bin_outcomes, bin_rows, build_grid, days_to_close_date
from models.curves import Curves
from models.encoding import DeclaredFeature, FeatureEncoder
from models.linear import LinearDesign, fit_poisson, sample_rows
from models.pooled import PooledRates

_PREDICT_SNAPSHOTS = 10_000
_CLOCK = BIN_INPUTS.index("bin_log_midpoint") - len(BIN_INPUTS)


@dataclass(frozen=True)
class HazardSettings:
    """How hard the learners may pull away from the pooled rates; amounts of evidence are in closed deals.

    Attributes
    ----------
    rounds, learning_rate, leaves, feature_share : size of the trees.
    deals_per_leaf : expected closings a leaf needs.
    shrinkage_deals : closings a leaf's value is shrunk by (L2).
    linear_deals : ridge of the linear partner: the prior of a coefficient is worth so many deals.
    fewest_deals : with fewer closings of a cause there are no trees for it.
    """

    rounds: int = 200
    learning_rate: float = 0.05
    leaves: int = 15
    feature_share: float = 0.5
    deals_per_leaf: float = 5.0
    shrinkage_deals: float = 5.0
    linear_deals: float = 10.0
    fewest_deals: int = 30


@dataclass(frozen=True)
class Intensity:
    """One cause's learners on top of the pooled rate: trees (None if closings were too few) and linear coefficients."""

    trees: lgb.Booster | None
    coefficients: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        trees = None if self.trees is None else self.trees.model_to_string()
        return {"trees": trees, "coefficients": self.coefficients.tolist()}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "Intensity":
        trees = None if stored["trees"] is None else lgb.Booster(model_str=stored["trees"])
        return Intensity(trees, np.array(stored["coefficients"], dtype=float))


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
    pooled : rates by stage and bin that the learners start from.
    design : regressors of the linear partner.
    intensities : learners by cause.
    weight_linear : share of the linear partner in the blend, 0..1.
    snapshots_per_deal : how often training saw a deal on average: that many rows are one piece of evidence.
    reach_days : the longest time a training snapshot was watched; beyond it intensities are the last bin's, pooled.
    """

    encoder: FeatureEncoder
    bins: np.ndarray
    pooled: PooledRates
    design: LinearDesign
    intensities: Mapping[str, Intensity]
    weight_linear: float
    snapshots_per_deal: float
    reach_days: float

    def curves(self, features: pd.DataFrame, calendar: Calendar) -> Curves:
        """The curves of snapshots (deal_id, as_of, features), in their order; uncalibrated."""
        return self.margins(features, calendar).blend(self.weight_linear)

    def pooled_curves(self, features: pd.DataFrame, calendar: Calendar) -> Curves:
        """The curves by stage and bin alone."""
        grid = build_grid(features["as_of"], calendar, self.bins)
        rates = self.pooled.log_intensities(stage_of(features), grid.base[grid.group])
        return Curves(grid.rows(), rates["won"], rates["lost"])

    def margins(self, features: pd.DataFrame, calendar: Calendar) -> HazardMargins:
        """What each learner says, to be blended."""
        grid = build_grid(features["as_of"], calendar, self.bins)
        encoded, close_days = self.encoder.transform(features), days_to_close_date(features)
        shape = (len(features), grid.base.shape[1])
        trees = {cause: np.zeros(shape) for cause in CAUSES}
        linear = {cause: np.zeros(shape) for cause in CAUSES}
        for start in range(0, len(features), _PREDICT_SNAPSHOTS):
            part = slice(start, min(start + _PREDICT_SNAPSHOTS, len(features)))
            rows = bin_rows(encoded[part], close_days[part], replace(grid, group=grid.group[part]))
            regressors = self.design.regressors(rows)
            for cause, intensity in self.intensities.items():
                trees[cause][part] = predict_trees(intensity.trees, rows).reshape(-1, shape[1])
                linear[cause][part] = (regressors @ intensity.coefficients).reshape(-1, shape[1])
        pooled = self.pooled.log_intensities(stage_of(features), grid.base[grid.group])
        return HazardMargins(grid.rows(), pooled, trees, linear)

    def with_weight(self, weight_linear: float) -> "HazardModel":
        """The same learners, blended otherwise."""
        return replace(self, weight_linear=weight_linear)

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
    num_threads : causes fitted at once; the result is the same.
    """
    settings = settings or HazardSettings()
    encoder = FeatureEncoder.fit(features, catalogue, outcomes=outcomes)
    grid = build_grid(features["as_of"], calendar, bins)
    seen = bin_outcomes(grid.rows(), outcomes)
    snapshots_per_deal = len(features) / max(features["deal_id"].nunique(), 1)
    stage, base = stage_of(features), grid.base[grid.group]
    pooled = PooledRates.fit(stage, base, seen, bins=len(bins) - 1, snapshots_per_deal=snapshots_per_deal)
    table = _training_rows(encoder.transform(features), features, grid, seen, pooled.log_intensities(stage, base))
    design, coefficients = _fit_linear(table, seed, settings.linear_deals * snapshots_per_deal)
    trees = _fit_trees(table, seed, settings, snapshots_per_deal, num_threads)
    return HazardModel(
        encoder=encoder,
        bins=bins,
        pooled=pooled,
        design=design,
        intensities={cause: Intensity(trees[cause], coefficients[cause]) for cause in CAUSES},
        weight_linear=weight_linear,
        snapshots_per_deal=snapshots_per_deal,
        reach_days=float(outcomes["days_observed"].max()) if len(outcomes) else 0.0,
    )


@dataclass(frozen=True)
class TrainingRows:
    """The (snapshot, bin) rows with days at risk: inputs (r, k), closings and log expected closings by cause (r,)."""

    inputs: np.ndarray
    snapshot: np.ndarray
    events: Mapping[str, np.ndarray]
    log_expected: Mapping[str, np.ndarray]


def _training_rows(
    encoded: np.ndarray, features: pd.DataFrame, grid: BinGrid, seen: BinOutcomes, rates: Mapping[str, np.ndarray]
) -> TrainingRows:
    chosen = np.flatnonzero(seen.exposure.ravel() > 0)
    exposure = np.log(seen.exposure.ravel()[chosen])
    return TrainingRows(
        inputs=bin_rows(encoded, days_to_close_date(features), grid, chosen),
        snapshot=chosen // grid.base.shape[1],
        events={cause: seen.events[cause].ravel()[chosen].astype(np.float32) for cause in CAUSES},
        log_expected={cause: exposure + rates[cause].ravel()[chosen] for cause in CAUSES},
    )


def _fit_linear(table: TrainingRows, seed: int, penalty: float) -> tuple[LinearDesign, dict[str, np.ndarray]]:
    sample = sample_rows(table.snapshot, np.random.default_rng(seed))
    rows = table.inputs[sample]
    design = LinearDesign.fit(rows, rows.shape[1] + _CLOCK)
    regressors = design.regressors(rows)
    share = len(sample) / max(len(table.inputs), 1)
    coefficients = {
        cause: fit_poisson(
            regressors, table.events[cause][sample], table.log_expected[cause][sample], penalty=penalty * share
        )
        for cause in CAUSES
    }
    return design, coefficients


def _fit_trees(
    table: TrainingRows, seed: int, settings: HazardSettings, snapshots_per_deal: float, num_threads: int
) -> dict[str, lgb.Booster | None]:
    parameters = {
        "objective": "poisson",
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.leaves,
        "feature_fraction": settings.feature_share,
        # The Poisson hessian is the expected number of closings, so both settings count closings.
        "min_sum_hessian_in_leaf": settings.deals_per_leaf * snapshots_per_deal,
        "lambda_l2": settings.shrinkage_deals * snapshots_per_deal,
        "min_data_in_leaf": 20,
        "poisson_max_delta_step": 0.1,
        "max_bin": 127,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        # One thread a booster: LightGBM's own threads wait spinning, twenty times slower on a busy machine.
        "num_threads": 1,
        "verbose": -1,
    }

    def fit_cause(cause: str) -> lgb.Booster | None:
        if table.events[cause].sum() < settings.fewest_deals * snapshots_per_deal:
            return None
        dataset = lgb.Dataset(
            table.inputs, label=table.events[cause], init_score=table.log_expected[cause], params=parameters
        )
        return lgb.train(parameters, dataset, num_boost_round=settings.rounds)

    with ThreadPoolExecutor(max_workers=max(1, min(num_threads, len(CAUSES)))) as threads:
        return dict(zip(CAUSES, threads.map(fit_cause, CAUSES), strict=True))


def predict_trees(trees: lgb.Booster | None, rows: np.ndarray) -> np.ndarray:
    """(r,) what the trees add to the pooled log-intensity; zeros without trees."""
    if trees is None:
        return np.zeros(len(rows))
    return np.asarray(trees.predict(rows, raw_score=True, num_threads=1), dtype=float)


def stage_of(features: pd.DataFrame) -> pd.Series:
    """The stage of each snapshot; all unknown if stage is not among the features."""
    if "stage" in features:
        return features["stage"]
    return pd.Series(np.nan, index=features.index, dtype="str")
