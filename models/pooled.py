"""Intensities of winning and losing by stage (or age) and bin, pooled toward the bin's and the overall rate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from models.bins import CAUSES, ROUND_DAYS, BinGrid, BinOutcomes, read_clocks

# A rate resting on as many closed deals is believed half (the shape of a gamma prior, in deals).
_PRIOR_DEALS = 8.0
# Rates of stages and of bins depend on one another: estimated in turns, which settles within so many.
_TURNS = 20


@dataclass(frozen=True)
class PooledRates:
    """Log-intensities per day by stage and bin: what is left of the model where data are too few for more.

    A deal of which no stage is known has the place of its age: a row for each of `ROUND_DAYS`, by how old it will be in
    the middle of the bin.

    Attributes
    ----------
    stages : stages seen in training.
    log_rates : by cause, (rows, bins); a row for each stage, one for deals of unknown stage and age, and one for each
        range of ages.
    """

    stages: tuple[str, ...]
    log_rates: Mapping[str, np.ndarray]

    @staticmethod
    def fit(
        features: pd.DataFrame,
        grid: BinGrid,
        outcomes: BinOutcomes,
        *,
        bins: int,
        snapshots_per_deal: float,
        season: np.ndarray | float = 1.0,
    ) -> "PooledRates":
        """Fit from days at risk and closings per snapshot and bin.

        Parameters
        ----------
        features, grid, outcomes : snapshots, their bins, and what was seen in them; `bins` is how many uncut ones.
        snapshots_per_deal : how often a deal is seen on average; its snapshots count as one deal together.
        season : how many times as often as on average deals are won in each bin of a snapshot, (n, m).
        """
        stages = tuple(sorted(stage_of(features).dropna().unique()))
        cell = (_rows_of(features, grid, stages) * bins + grid.base[grid.group]).ravel()
        cells = (len(stages) + 1 + len(ROUND_DAYS) + 1) * bins

        def by_cell(values: np.ndarray) -> np.ndarray:
            return np.bincount(cell, values.ravel(), cells).reshape(-1, bins) / snapshots_per_deal

        days = {"won": by_cell(outcomes.exposure * season), "lost": by_cell(outcomes.exposure)}
        rates = {cause: np.log(_shrunk_rates(by_cell(outcomes.events[cause]), days[cause])) for cause in CAUSES}
        return PooledRates(stages, rates)

    def at_pace(self, pace: float, edges: np.ndarray) -> "PooledRates":
        """The same while deals move on `pace` times as often: for a deal in a stage time ahead passes so fast.

        It is won in a bin as often as it usually is so many times as many days ahead: slow stages to come put off the
        wins of early ones most. Losses, and deals of no stage, keep their time.

        Parameters
        ----------
        edges : of the uncut bins, in days; beyond them the last bin's rate goes on.
        """
        count = len(self.stages)
        reach = np.append(edges, edges[-1] * max(pace, 1.0) + 1.0)
        rates = np.exp(self.log_rates["won"][:count])
        until = np.cumsum(np.hstack([np.zeros((count, 1)), rates, rates[:, -1:]]) * np.diff(reach, prepend=0.0), axis=1)
        passed = np.array([np.interp(pace * edges, reach, each) for each in until]).reshape(count, len(edges))
        won = self.log_rates["won"].copy()
        won[:count] = np.log(np.diff(passed, axis=1) / (pace * np.diff(edges)))
        return PooledRates(self.stages, {**self.log_rates, "won": won})

    def log_intensities(self, features: pd.DataFrame, grid: BinGrid) -> dict[str, np.ndarray]:
        """By cause, (n, m) log-intensities of snapshots for their bins."""
        rows, base = _rows_of(features, grid, self.stages), grid.base[grid.group]
        return {cause: table[rows, base] for cause, table in self.log_rates.items()}

    def goes_by_age(self, features: pd.DataFrame, grid: BinGrid) -> np.ndarray:
        """(n, m) where a deal has the place of its age."""
        return _rows_of(features, grid, self.stages) > len(self.stages)

    def to_dict(self) -> dict[str, Any]:
        return {"stages": list(self.stages), "log_rates": {cause: r.tolist() for cause, r in self.log_rates.items()}}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "PooledRates":
        return PooledRates(tuple(stored["stages"]), {c: np.array(r) for c, r in stored["log_rates"].items()})


def stage_of(features: pd.DataFrame) -> pd.Series:
    """The stage of each snapshot; all unknown if stage is not among the features."""
    if "stage" in features:
        return features["stage"]
    return pd.Series(np.nan, index=features.index, dtype="str")


def _rows_of(features: pd.DataFrame, grid: BinGrid, stages: tuple[str, ...]) -> np.ndarray:
    """(n, m) the row of `log_rates` of each snapshot and bin."""
    stage = stage_of(features).to_numpy(dtype=object)
    known = pd.Index(stages, dtype=object).get_indexer(pd.Index(stage))[:, None]
    if (known >= 0).all():
        return np.broadcast_to(known, (len(features), grid.base.shape[1]))
    age = read_clocks(features)[:, 1:] + grid.inputs[grid.group, :, 0]
    by_age = np.where(np.isnan(age), 0, 1 + np.searchsorted(ROUND_DAYS, age, side="right"))
    return np.where(known < 0, len(stages) + by_age, known)


def _shrunk_rates(events: np.ndarray, days: np.ndarray) -> np.ndarray:
    """(rows, bins) rates: overall, then each bin's toward it, each row's level, then each cell toward both."""
    overall = (events.sum() + 0.5) / (days.sum() + 1.0)
    level = np.ones((len(events), 1))
    for _ in range(_TURNS):
        expected = (days * level).sum(axis=0)
        by_bin = (events.sum(axis=0) + _PRIOR_DEALS) / (expected + _PRIOR_DEALS / overall)
        expected = (days * by_bin).sum(axis=1, keepdims=True)
        level = (events.sum(axis=1, keepdims=True) + _PRIOR_DEALS) / (expected + _PRIOR_DEALS)
    return (events + _PRIOR_DEALS) / (days + _PRIOR_DEALS / (by_bin * level))
