"""The historic win rate of deals of the same stage, or of the same forecast category, due or not due in the period."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from models.baselines.inputs import due_in_period, snapshots_per_deal

_PRIOR_DEALS = 10.0
_DUE, _LATER = "due", "later"


@dataclass(frozen=True)
class CategoryWinRate:
    """Win rates by category and by whether the deal is due, shrunk toward the rate of all deals that are as due.

    Attributes
    ----------
    columns : the category; several are read together (pipeline and stage).
    rates : for deals due and for later ones, rate by category; `""` is the rate over all.
    """

    name: str
    columns: tuple[str, ...]
    rates: Mapping[str, Mapping[str, float]]

    @staticmethod
    def fit(
        name: str, columns: tuple[str, ...], features: pd.DataFrame, won_in_period: np.ndarray
    ) -> "CategoryWinRate":
        """Count the snapshots won in their period; a category with ten deals is believed half."""
        prior = _PRIOR_DEALS * snapshots_per_deal(features)
        overall = (won_in_period.sum() + 0.5) / (len(won_in_period) + 1.0)
        due, category = due_in_period(features), _category(features, columns)
        rates = {}
        for word, chosen in ((_DUE, due), (_LATER, ~due)):
            everyone = (won_in_period[chosen].sum() + prior * overall) / (chosen.sum() + prior)
            counts = pd.Series(won_in_period[chosen]).groupby(category[chosen]).agg(["sum", "size"])
            shrunk = (counts["sum"] + prior * everyone) / (counts["size"] + prior)
            rates[word] = {"": float(everyone), **{str(key): float(rate) for key, rate in shrunk.items() if key}}
        return CategoryWinRate(name, columns, rates)

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        category = pd.Series(_category(features, self.columns))
        due, later = (
            category.map(self.rates[word]).fillna(self.rates[word][""]).to_numpy(dtype=float) for word in (_DUE, _LATER)
        )
        return np.where(due_in_period(features), due, later)

    def to_dict(self) -> dict[str, Any]:
        rates = {word: dict(listed) for word, listed in self.rates.items()}
        return {"name": self.name, "columns": list(self.columns), "rates": rates}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "CategoryWinRate":
        return CategoryWinRate(stored["name"], tuple(stored["columns"]), stored["rates"])


def _category(features: pd.DataFrame, columns: tuple[str, ...]) -> np.ndarray:
    """(n,) text; empty where the last column is unknown."""
    *wider, last = (features[column].fillna("").astype("str") for column in columns)
    joined = last
    for column in wider:
        joined = (column + " / " + joined).where(last != "", "")
    return joined.to_numpy(dtype=object)
