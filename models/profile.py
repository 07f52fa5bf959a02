"""What each feature looked like to a model in training, and how far today's open deals are from that.

Drift is the population stability index, sum of (now - then) ln(now / then) over tenths of the training values, or over
the values of a category; the unknown are a part of their own. Without any change it is about chi-squared over the
harmonic mean of the numbers of deals, so what chance alone gives is said beside it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import chi2

PARTS = 10
MOST_CATEGORIES = 20
OTHER, UNKNOWN = "(other)", "(unknown)"
LARGE = 0.2
"""An index above this is commonly called a large change."""
BY_CHANCE = 0.999
"""Quantile of what chance alone gives; an alarm needs more than that, too."""
_LEAST_SHARE = 1e-4


@dataclass(frozen=True)
class Profile:
    """A feature's values over training snapshots.

    Attributes
    ----------
    edges : of a number, the inner bounds of its parts; None for a category.
    shares : share of the snapshots by part (named 0, 1, …, or by the value), the unknown ones last; sums to 1.
    deals : how many deals the snapshots are of.
    """

    edges: tuple[float, ...] | None
    shares: Mapping[str, float]
    deals: int

    @property
    def known_share(self) -> float:
        """Share of the snapshots with a known value."""
        return 1.0 - self.shares[UNKNOWN]

    def to_dict(self) -> dict[str, Any]:
        edges = None if self.edges is None else list(self.edges)
        return {"edges": edges, "shares": dict(self.shares), "deals": self.deals}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "Profile":
        edges = None if stored["edges"] is None else tuple(stored["edges"])
        return Profile(edges, stored["shares"], stored["deals"])


@dataclass(frozen=True)
class FeatureDrift:
    """How far a feature is from what it was in training.

    Attributes
    ----------
    index : population stability index; 0 = the same.
    by_chance : what it stays below in 99.9 % of cases if nothing changed.
    alarm : whether it is large and more than chance.
    """

    name: str
    index: float
    by_chance: float
    known_share_then: float
    known_share_now: float

    @property
    def alarm(self) -> bool:
        return self.index > LARGE and self.index > self.by_chance

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "index": self.index,
            "by_chance": self.by_chance,
            "known_share_then": self.known_share_then,
            "known_share_now": self.known_share_now,
            "alarm": self.alarm,
        }


def fit_profiles(features: pd.DataFrame, names: Iterable[str]) -> dict[str, Profile]:
    """The profile of each feature; one that all deals share at a moment (the days left in the period) has none.

    Parameters
    ----------
    features : deal_id, as_of and features, one row per snapshot: the open deals at a number of moments, as today's
        open deals are those of one.
    """
    deals = features["deal_id"].nunique()
    of_moment = features.groupby("as_of")
    return {
        name: _profile(features[name], deals) for name in names if (of_moment[name].nunique(dropna=False) > 1).any()
    }


def find_feature_drift(profiles: Mapping[str, Profile], features: pd.DataFrame) -> list[FeatureDrift]:
    """Each profiled feature beside its values in `features` (a row per deal), the farthest first.

    A column that the frame no longer has is unknown for every deal. Empty without rows.
    """
    if features.empty:
        return []
    gone = pd.Series(np.nan, index=features.index)
    found = [_drift(name, profile, features.get(name, gone)) for name, profile in profiles.items()]
    return sorted(found, key=lambda drift: (-drift.index, drift.name))


def _profile(values: pd.Series, deals: int) -> Profile:
    if pd.api.types.is_numeric_dtype(values):
        known = values[np.isfinite(values)]
        edges = (
            tuple(float(edge) for edge in np.unique(known.quantile(np.arange(1, PARTS) / PARTS))) if len(known) else ()
        )
        return Profile(edges, _shares(_part_of(values, edges), [str(part) for part in range(len(edges) + 1)]), deals)
    names = [str(value) for value in values.value_counts().index[:MOST_CATEGORIES]]
    return Profile(None, _shares(_category_of(values, names), [*names, OTHER]), deals)


def _drift(name: str, profile: Profile, values: pd.Series) -> FeatureDrift:
    parts = [part for part in profile.shares if part != UNKNOWN]
    if profile.edges is None:
        of = _category_of(values, [part for part in parts if part != OTHER])
    else:
        of = _part_of(values.astype("float64"), profile.edges)
    now = _shares(of, parts)
    then_, now_ = (
        np.maximum([shares[part] for part in profile.shares], _LEAST_SHARE) for shares in (profile.shares, now)
    )
    index = float(np.sum((now_ - then_) * np.log(now_ / then_)))
    chance = float(chi2.ppf(BY_CHANCE, max(len(profile.shares) - 1, 1)) * (1 / profile.deals + 1 / len(values)))
    return FeatureDrift(name, index, chance, profile.known_share, 1.0 - now[UNKNOWN])


def _part_of(values: pd.Series, edges: tuple[float, ...]) -> pd.Series:
    parts = pd.Series(np.searchsorted(np.array(edges), values.to_numpy(), side="left").astype(str), index=values.index)
    return parts.where(np.isfinite(values), UNKNOWN)


def _category_of(values: pd.Series, names: list[str]) -> pd.Series:
    return values.where(values.isin(names) | values.isna(), OTHER).astype(object).where(values.notna(), UNKNOWN)


def _shares(parts: pd.Series, names: list[str]) -> dict[str, float]:
    counted = parts.value_counts(normalize=True)
    return {name: float(counted.get(name, 0.0)) for name in [*names, UNKNOWN]}
