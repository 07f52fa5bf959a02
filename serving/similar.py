"""Past deals that looked like this one to the model, as they stood then, and what became of them.

Every fourth Monday of the last two years each deal open then is looked at with what was known then. Near is what is
near in the features that the model goes by, each in ranks of how deals differ and weighed by its worth to the model.
Deals that are still open are told as such: leaving them out would make the quick ones the rule.
"""

import threading
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crm.history import snapshot_spine
from features.build import build_from_sources
from serving.state import State

EVERY_DAYS, YOUNGEST_DAYS, OLDEST_DAYS = 28, 56, 730
"""Moments looked at: so far apart, at least so long ago that something may have become of the deal, and not older."""
MOST_SNAPSHOTS = 12_000
NEAREST = 30
MOST_FEATURES = 25
"""The features worth most to the model; the others together hardly move it."""

_making = threading.Lock()


@dataclass(frozen=True)
class PastDeals:
    """Past snapshots as points.

    Attributes
    ----------
    spine : deal_id, as_of.
    encoded : (n, p) features as the model reads them, NaN unknown, p of them `columns` of the model's own.
    ranks : (n, p) the same as shares of the snapshots below, 0..1; unknown is .5.
    weights : (p,) what each is worth to the model, summing to 1.
    """

    spine: pd.DataFrame
    encoded: np.ndarray
    ranks: np.ndarray
    weights: np.ndarray
    columns: np.ndarray


@dataclass(frozen=True)
class SimilarDeal:
    """A past deal as it stood at `as_of`, and what became of it by now.

    Attributes
    ----------
    distance : 0 (the same in all that counts) to 1.
    outcome : won, lost or open; `ended_at` is None while open.
    """

    deal_id: str
    as_of: pd.Timestamp
    distance: float
    outcome: str
    ended_at: pd.Timestamp | None


def similar_deals(state: State, viewer: str | None, deal_id: str) -> list[SimilarDeal]:
    """The past deals nearest to an open one, each once, of those that a user may see; the nearest first."""
    past = past_deals(state)
    row = np.flatnonzero((state.features["deal_id"] == deal_id).to_numpy())
    if past is None or not len(row):
        return []
    here = state.bundle.hazards.encoder.transform(state.features.iloc[row])[0][past.columns]
    distance = distances(past, here)
    found: dict[str, SimilarDeal] = {}
    seen = {owner: state.may_see_owner(viewer, owner) for owner in {*state.owner_of.values()}}
    for place in np.argsort(distance, kind="stable"):
        other = past.spine["deal_id"].iat[place]
        if other == deal_id or other in found or not seen.get(state.owner_of.get(other), False):
            continue
        outcome, ended_at = what_became(state, other)
        if outcome is not None:
            found[other] = SimilarDeal(other, past.spine["as_of"].iat[place], float(distance[place]), outcome, ended_at)
        if len(found) == NEAREST:
            break
    return list(found.values())


def what_became(state: State, deal_id: str) -> tuple[str | None, pd.Timestamp | None]:
    """How a deal stands now, and since when if it is closed; None for one that is nobody's any more."""
    standing = state.standing_of(deal_id)
    closed = state.closing_of.get(deal_id)
    return standing, None if standing == "open" or closed is None else pd.Timestamp(closed["closed_at"])


def past_deals(state: State) -> PastDeals | None:
    """The past snapshots of a state, made once; None where there are none yet."""
    with _making:
        if "past_deals" not in state.prepared:
            state.prepared["past_deals"] = build_past_deals(state)
        past: PastDeals | None = state.prepared["past_deals"]
        return past


def build_past_deals(state: State) -> PastDeals | None:
    """Lay the past out as points."""
    model = state.bundle.hazards
    monday = state.as_of.normalize() - pd.Timedelta(days=state.as_of.weekday())
    days = range(YOUNGEST_DAYS, OLDEST_DAYS + 1, EVERY_DAYS)
    spine = snapshot_spine(state.history, [monday - pd.Timedelta(days=each) for each in days])
    if spine.empty:
        return None
    spine = spine.iloc[:: -(-len(spine) // MOST_SNAPSHOTS)].reset_index(drop=True)
    worth = model.importance().reindex(model.encoder.columns).fillna(0.0).to_numpy()
    columns = np.argsort(-worth, kind="stable")[:MOST_FEATURES]
    names = [model.encoder.columns[place] for place in columns]
    features = build_from_sources(state.sources, spine, names=names)
    encoded = model.encoder.transform(features)[:, columns]
    ranks = pd.DataFrame(encoded).rank(pct=True).fillna(0.5).to_numpy()
    return PastDeals(spine, encoded, ranks, worth[columns] / max(worth[columns].sum(), 1e-12), columns)


def distances(past: PastDeals, here: np.ndarray) -> np.ndarray:
    """(n,) weighted mean difference in ranks; what is known of one and not of the other is as far as can be."""
    total = np.zeros(len(past.ranks))
    for place, value in enumerate(here):
        known = ~np.isnan(past.encoded[:, place])
        if np.isnan(value):
            total += past.weights[place] * known
        else:
            below = np.sort(past.encoded[known, place])
            rank = (np.searchsorted(below, value, "left") + np.searchsorted(below, value, "right")) / 2
            here_rank = rank / max(len(below), 1)
            total += past.weights[place] * np.where(known, np.abs(past.ranks[:, place] - here_rank), 1.0)
    return total
