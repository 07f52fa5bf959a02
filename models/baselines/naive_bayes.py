"""Naive Bayes as open-source CRMs do it: stage counts cumulated along the pipeline, categorical fields, +0.1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from models.baselines.inputs import SMALLEST, due_in_period

_SMOOTHING = 0.1


@dataclass(frozen=True)
class NaiveBayes:
    """Log-ratios of how often winners and others show a value, added to the log-odds of winning.

    A winner counts in every stage, anyone else in all stages up to its own: what a stage says is how many of each kind
    ever come as far.

    Attributes
    ----------
    prior : log-odds of winning in the period.
    ranks, stage_ratio : stage ranks seen, ascending, and the log-ratio of each.
    ratios : by field and value; `due` is the promised day in the period.
    """

    prior: float
    ranks: tuple[float, ...]
    stage_ratio: tuple[float, ...]
    ratios: Mapping[str, Mapping[str, float]]
    name: str = "naive_bayes"

    @staticmethod
    def fit(features: pd.DataFrame, won_in_period: np.ndarray, fields: Sequence[str]) -> "NaiveBayes":
        """Count every deal once, however many snapshots it has."""
        deal = 1.0 / features.groupby("deal_id")["deal_id"].transform("size").to_numpy(dtype=float)
        won, others = deal * won_in_period, deal * (1 - won_in_period)
        totals = won.sum() + _SMOOTHING, others.sum() + _SMOOTHING
        rank = _stage_rank(features)
        ranks = np.unique(rank[~np.isnan(rank)])
        came_so_far = np.array([others[~(rank < each)].sum() for each in ranks])
        stage_ratio = -np.log((came_so_far + _SMOOTHING) / totals[1])
        ratios = {}
        for field in (*fields, "due"):
            counts = pd.DataFrame({"won": won, "others": others}).groupby(_values(features, field)).sum() + _SMOOTHING
            ratio = np.log(counts["won"] / totals[0]) - np.log(counts["others"] / totals[1])
            ratios[field] = {str(value): float(each) for value, each in ratio.items()}
        prior = float(np.log(totals[0] / totals[1]))
        return NaiveBayes(prior, tuple(ranks.tolist()), tuple(stage_ratio.tolist()), ratios)

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        """Values never seen, or unknown, say nothing."""
        odds = np.full(len(features), self.prior)
        if self.ranks:
            rank = _stage_rank(features)
            place = np.clip(np.searchsorted(self.ranks, rank, side="right") - 1, 0, None)
            odds += np.where(np.isnan(rank), 0.0, np.array(self.stage_ratio)[place])
        for field, ratio in self.ratios.items():
            odds += pd.Series(_values(features, field)).map(ratio).fillna(0.0).to_numpy(dtype=float)
        return np.clip(1 / (1 + np.exp(-odds)), SMALLEST, 1 - SMALLEST)

    def to_dict(self) -> dict[str, Any]:
        ratios = {field: dict(values) for field, values in self.ratios.items()}
        stages = {"ranks": list(self.ranks), "stage_ratio": list(self.stage_ratio)}
        return {"name": self.name, "prior": self.prior, **stages, "ratios": ratios}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "NaiveBayes":
        return NaiveBayes(stored["prior"], tuple(stored["ranks"]), tuple(stored["stage_ratio"]), stored["ratios"])


def _stage_rank(features: pd.DataFrame) -> np.ndarray:
    if "stage_rank" not in features:
        return np.full(len(features), np.nan)
    return features["stage_rank"].to_numpy(dtype=float)


def _values(features: pd.DataFrame, field: str) -> np.ndarray:
    if field == "due":
        return np.where(due_in_period(features), "yes", "no").astype(object)
    return features[field].to_numpy(dtype=object)
