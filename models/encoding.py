"""Features as numbers: categories become shrunk win rates of the training deals, constant features are dropped."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

# A category seen in as many deals is believed half; the rest is the overall win rate.
_PRIOR_DEALS = 10.0

_DIRECTIONS = {"better": 1, "worse": -1, "neutral": 0}

# A text that mostly differs from deal to deal (a name, a note) says nothing of other deals.
_FEW_VALUES, _DEALS_PER_VALUE = 20, 3


class DeclaredFeature(Protocol):
    """What encoding reads of a catalogue entry."""

    @property
    def kind(self) -> str: ...
    @property
    def higher_is(self) -> str: ...


@dataclass(frozen=True)
class FeatureEncoder:
    """Turns a features frame into a matrix; fitted on training snapshots and what had become of them by then.

    Attributes
    ----------
    columns : features kept, in the order of the matrix.
    categories : for each category column, the code of every value seen: the log-odds of its shrunk win rate.
    directions : for each column, 1 if a higher value is declared better, -1 if worse, 0 if neither.
    """

    columns: tuple[str, ...]
    categories: Mapping[str, Mapping[str, float]]
    directions: tuple[int, ...]

    @property
    def numbers(self) -> tuple[str, ...]:
        """The columns that are no categories."""
        return tuple(name for name in self.columns if name not in self.categories)

    @staticmethod
    def fit(
        features: pd.DataFrame, catalogue: Mapping[str, DeclaredFeature], *, outcomes: pd.DataFrame
    ) -> "FeatureEncoder":
        """Learn codes from training snapshots.

        Parameters
        ----------
        features : deal_id and the features of the catalogue, one row per snapshot; other columns are passed over.
        catalogue : by name; kind is "number" or "category", higher_is "better", "worse" or "neutral".
        outcomes : aligned with `features`, column outcome: "won", "lost" or NaN, as known at the training moment.
        """
        won = (outcomes["outcome"] == "won").to_numpy(dtype=float)
        closed = outcomes["outcome"].notna().to_numpy(dtype=float)
        weight = 1.0 / features.groupby("deal_id")["deal_id"].transform("size").to_numpy(dtype=float)
        named = [
            name
            for name in map(str, features.columns)
            if name in catalogue and _varies(features[name]) and _repeats(features, name, catalogue[name])
        ]
        categories = {
            name: _category_codes(features[name], won * weight, closed * weight)
            for name in named
            if catalogue[name].kind == "category"
        }
        directions = tuple(_DIRECTIONS[catalogue[name].higher_is] for name in named)
        return FeatureEncoder(tuple(named), categories, directions)

    def transform(self, features: pd.DataFrame) -> np.ndarray:
        """(n, p) float64; NaN for what is unknown, never seen in training, or not a column of the frame any more."""
        encoded = np.empty((len(features), len(self.columns)))
        for place, name in enumerate(self.columns):
            codes = self.categories.get(name)
            if name not in features:
                encoded[:, place] = np.nan
            else:
                encoded[:, place] = features[name] if codes is None else features[name].map(codes)
        encoded[~np.isfinite(encoded)] = np.nan
        return encoded

    def unseen(self, features: pd.DataFrame) -> dict[str, int]:
        """By category column, how many values were never seen in training; columns without any are left out."""
        counts = {
            name: int((features[name].notna() & ~features[name].isin(list(codes))).sum())
            for name, codes in self.categories.items()
            if name in features
        }
        return {name: count for name, count in counts.items() if count}

    def to_dict(self) -> dict[str, Any]:
        categories = {name: dict(codes) for name, codes in self.categories.items()}
        return {"columns": list(self.columns), "categories": categories, "directions": list(self.directions)}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "FeatureEncoder":
        return FeatureEncoder(tuple(stored["columns"]), stored["categories"], tuple(stored["directions"]))


def _varies(values: pd.Series) -> bool:
    return values.nunique(dropna=False) > 1 and bool(values.notna().any())


def _repeats(features: pd.DataFrame, name: str, declared: DeclaredFeature) -> bool:
    """Whether deals share the values of a category; those of numbers they need not."""
    if declared.kind != "category" or (values := features[name].nunique()) <= _FEW_VALUES:
        return True
    return bool(features.loc[features[name].notna(), "deal_id"].nunique() >= _DEALS_PER_VALUE * values)


def _category_codes(values: pd.Series, won: np.ndarray, closed: np.ndarray) -> dict[str, float]:
    """The log-odds of each value's win rate among closed deals, shrunk toward the rate over all."""
    counts = pd.DataFrame({"won": won, "closed": closed}).groupby(values.to_numpy(dtype=object)).sum()
    overall = (won.sum() + 0.5) / (closed.sum() + 1.0)
    rate = (counts["won"] + _PRIOR_DEALS * overall) / (counts["closed"] + _PRIOR_DEALS)
    odds = np.log(rate / (1 - rate))
    return {str(value): float(code) for value, code in odds.sort_index().items()}
