"""Intensities of winning and losing by stage and bin, pooled toward the bin's and the overall rate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from models.bins import CAUSES, BinOutcomes

# A rate resting on as many closed deals is believed half (the shape of a gamma prior, in deals).
_PRIOR_DEALS = 8.0


@dataclass(frozen=True)
class PooledRates:
    """Log-intensities per day by stage and bin: what is left of the model where data are too few for more.

    Attributes
    ----------
    stages : stages seen in training.
    log_rates : by cause, (stages + 1, bins); the last row is for stages unknown or never seen.
    """

    stages: tuple[str, ...]
    log_rates: Mapping[str, np.ndarray]

    @staticmethod
    def fit(
        stage: pd.Series, base: np.ndarray, outcomes: BinOutcomes, *, bins: int, snapshots_per_deal: float
    ) -> "PooledRates":
        """Fit from days at risk and closings per snapshot and bin.

        Parameters
        ----------
        stage : (n,) stage of each snapshot, NaN if unknown.
        base : (n, m) the uncut bin of each bin of `outcomes`, below `bins`.
        snapshots_per_deal : how often a deal is seen on average; its snapshots count as one deal together.
        """
        stages = tuple(sorted(stage.dropna().unique()))
        cell = (_stage_codes(stage, stages)[:, None] * bins + base).ravel()

        def by_cell(values: np.ndarray) -> np.ndarray:
            return np.bincount(cell, values.ravel(), (len(stages) + 1) * bins).reshape(-1, bins) / snapshots_per_deal

        days = by_cell(outcomes.exposure)
        rates = {cause: np.log(_shrunk_rates(by_cell(outcomes.events[cause]), days)) for cause in CAUSES}
        return PooledRates(stages, rates)

    def log_intensities(self, stage: pd.Series, base: np.ndarray) -> dict[str, np.ndarray]:
        """By cause, (n, m) log-intensities of snapshots in a stage (NaN: unknown) for their bins' uncut bins."""
        codes = _stage_codes(stage, self.stages)[:, None]
        return {cause: table[codes, base] for cause, table in self.log_rates.items()}

    def to_dict(self) -> dict[str, Any]:
        return {"stages": list(self.stages), "log_rates": {cause: r.tolist() for cause, r in self.log_rates.items()}}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "PooledRates":
        return PooledRates(tuple(stored["stages"]), {c: np.array(r) for c, r in stored["log_rates"].items()})


def _stage_codes(stage: pd.Series, stages: tuple[str, ...]) -> np.ndarray:
    codes = pd.Index(stages, dtype=object).get_indexer(pd.Index(stage.to_numpy(dtype=object)))
    return np.where(codes < 0, len(stages), codes)


def _shrunk_rates(events: np.ndarray, days: np.ndarray) -> np.ndarray:
    """(stages + 1, bins) rates: overall, then each bin's toward it, each stage's level, then each cell toward both."""
    overall = (events.sum() + 0.5) / (days.sum() + 1.0)
    by_bin = (events.sum(axis=0) + _PRIOR_DEALS) / (days.sum(axis=0) + _PRIOR_DEALS / overall)
    expected = days * by_bin
    level = (events.sum(axis=1) + _PRIOR_DEALS) / (expected.sum(axis=1) + _PRIOR_DEALS)
    cell = by_bin * level[:, None]
    return (events + _PRIOR_DEALS) / (days + _PRIOR_DEALS / cell)
