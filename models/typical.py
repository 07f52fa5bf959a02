"""What was usual for deals that were won, stage by stage: what a reason compares a deal's own value with."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

FEWEST_DEALS = 20
"""Deals won from a stage, below which nothing is called usual."""


@dataclass(frozen=True)
class Typical:
    """The median of features over the training snapshots of deals that had been won by the training moment.

    A deal seen in a stage many times counts there once.

    Attributes
    ----------
    medians : by feature, then stage.
    """

    medians: Mapping[str, Mapping[str, float]]

    @staticmethod
    def fit(features: pd.DataFrame, outcomes: pd.DataFrame, names: Iterable[str]) -> "Typical":
        """Learn from snapshots (deal_id, stage and numbers) and what had become of them (outcome), row by row."""
        if "stage" not in features:
            return Typical({})
        won = features[((outcomes["outcome"] == "won") & features["stage"].notna()).to_numpy()]
        weight = 1.0 / won.groupby(["deal_id", "stage"])["deal_id"].transform("size")
        medians: dict[str, dict[str, float]] = {}
        for name in names:
            known = won[won[name].notna()]
            for stage, rows in known.groupby("stage"):
                if rows["deal_id"].nunique() >= FEWEST_DEALS:
                    middle = _median(rows[name].to_numpy(dtype=float), weight.loc[rows.index].to_numpy())
                    medians.setdefault(name, {})[str(stage)] = middle
        return Typical(medians)

    def of(self, name: str, stage: object) -> float | None:
        """The usual value of a feature for deals won from a stage; None if too few were."""
        return self.medians.get(name, {}).get(str(stage))

    def to_dict(self) -> dict[str, Any]:
        return {name: dict(by_stage) for name, by_stage in self.medians.items()}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "Typical":
        return Typical(stored)


def _median(values: np.ndarray, weights: np.ndarray) -> float:
    """The smallest value that holds half of the weight at or below it."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, below[-1] / 2)])
