"""Why a score is not what it was: points by the model, by time passing, and by what was changed on the deal.

From the earlier score to the present one in steps that each move one thing: the earlier model gives way to the present
one, the moment moves on while the deal stays as it was, the deal's own facts move on. Effects of features are points
against the average open deal and add up, so those of two states differ by what lies between them, feature by feature.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import pandas as pd

from crm.history import DealHistory
from crm.tables import CrmTables
from features.build import build_features, build_from_sources
from features.catalogue import BY_NAME, feature_set_hash
from features.sources import FeatureSources, build_sources, overlay_sources
from models.bundle import Bundle
from models.reasons import AT_MOST, explain_deals, feature_sentence, strongest_topics
from models.scorer import HORIZON_DAYS, deal_curves

Cause = Literal["edit", "time", "model"]

POINTS = 100.0
NOTHING = 1e-9
DATED = {
    "states": "known_from",
    "changes": "at",
    "activities": "known_from",
    "contacts": "known_from",
    "spells": "opened_at",
}
"""The facts of a deal, and from when each was known."""
OTHERWISE = {
    "edit": "other changes on the deal, and what they make of the rest",
    "time": "time passing otherwise: how the same facts weigh on this day",
}
"""By cause, what carries the points that no single feature is told for."""


@dataclass(frozen=True)
class Change:
    """One cause of a changed score, in words, and its effect in points of win_probability."""

    cause: Cause
    text: str
    effect: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class EarlierScore:
    """A score of the same deal as it was published.

    Attributes
    ----------
    bundle : the model it came from; None if it cannot be read any more.
    """

    as_of: pd.Timestamp
    win_probability: float
    model_version: str
    bundle: Bundle | None


def explain_change(
    bundle: Bundle,
    tables: CrmTables,
    history: DealHistory,
    earlier: EarlierScore,
    *,
    deal_id: str,
    as_of: pd.Timestamp,
    sources: FeatureSources | None = None,
    audiences: Sequence[str] = ("everyone", "chain"),
) -> list[Change]:
    """Why the bundle's score of a deal at `as_of` is not the earlier one.

    Parameters
    ----------
    tables, history : as `bundle.read_history` gives them.
    earlier : a score published for a moment before `as_of`.
    sources : the result of `build_sources`, to save making it again.
    audiences : whose reasons are told one by one; the others are in the line for the rest.

    Returns
    -------
    Changes, the strongest first; their effects sum to the difference of the two win probabilities in points.
    """
    sources = build_sources(tables, history) if sources is None else sources
    ends = pd.concat([_moment(deal_id, earlier.as_of), _moment(deal_id, as_of)], ignore_index=True)
    its = _of_deal(history, deal_id)
    built = between = build_from_sources(sources_with(sources, tables, its, deal_id), ends)
    frozen = freeze_deal(its, deal_id, earlier.as_of)
    learned_since = any(len(getattr(frozen, name)) < len(getattr(its, name)) for name in DATED)
    if learned_since:
        between = build_from_sources(sources_with(sources, tables, frozen, deal_id), ends.iloc[[1]])
    features = pd.concat([built.iloc[[0]], between.iloc[[-1]], built.iloc[[1]]], ignore_index=True)
    chances = _win_probability(bundle, tables, features)
    changes = [
        *_by_model(bundle, tables, earlier, then=built.iloc[[0]], now_said=chances[0]),
        *_by_feature(bundle, tables, features.iloc[[0, 1]], chances[0:2], "time", audiences),
        *_by_feature(bundle, tables, features.iloc[[1, 2]], chances[1:3], "edit", audiences),
    ]
    return sorted(changes, key=lambda change: -abs(change.effect))


def freeze_deal(history: DealHistory, deal_id: str, at: pd.Timestamp) -> DealHistory:
    """The dated facts without those of one deal that became known after a moment; all other deals go on."""

    def kept(rows: pd.DataFrame, known_from: str) -> pd.DataFrame:
        return rows[~((rows["deal_id"] == deal_id) & (rows[known_from] > at))].reset_index(drop=True)

    facts: dict[str, Any] = {name: kept(getattr(history, name), known_from) for name, known_from in DATED.items()}
    return replace(history, **facts)


def sources_with(sources: FeatureSources, tables: CrmTables, its: DealHistory, deal_id: str) -> FeatureSources:
    """What features are read from for one deal: its own facts by a history of it alone, all else as in `sources`."""
    alone = build_sources(tables.of_deals({deal_id}), its, bulk=sources.bulk)
    return overlay_sources(sources, alone, {deal_id})


def _of_deal(history: DealHistory, deal_id: str) -> DealHistory:
    """The dated facts of one deal alone."""
    its = {
        name: rows[rows["deal_id"] == deal_id].reset_index(drop=True)
        for name, rows in vars(history).items()
        if isinstance(rows, pd.DataFrame) and "deal_id" in rows
    }
    return replace(history, **its)


def _moment(deal_id: str, as_of: pd.Timestamp) -> pd.DataFrame:
    return pd.DataFrame({"deal_id": [deal_id], "as_of": [as_of]}).astype(
        {"deal_id": "str", "as_of": "datetime64[us, UTC]"}
    )


def _win_probability(bundle: Bundle, tables: CrmTables, features: pd.DataFrame) -> list[float]:
    """What a bundle says of each row, as it serves, 0..1."""
    won = deal_curves(bundle, features, tables.calendar).probability_by(HORIZON_DAYS).won
    return [float(each) for each in won]


def _by_model(
    bundle: Bundle, tables: CrmTables, earlier: EarlierScore, *, then: pd.DataFrame, now_said: float
) -> Iterator[Change]:
    """The first step: what the present model says of the earlier moment (features `then`) against what was published.

    What the earlier model itself now says otherwise of that moment is no doing of the model: facts came in later.
    """
    published, old = earlier.win_probability, earlier.bundle
    replayed = None
    if earlier.model_version == bundle.model_version:
        replayed = now_said
    elif old is not None and old.manifest["feature_set_hash"] == feature_set_hash():
        if not old.reads_as(bundle):
            seen, history = old.read_history(tables)
            then = build_features(seen, history, then[["deal_id", "as_of"]])
        replayed = _win_probability(old, tables, then)[0]
    text = f"model {bundle.model_version} instead of {earlier.model_version}"
    if replayed is None:
        why = "which cannot be read any more" if old is None else "which was trained with other features"
        yield from _change(
            "model", f"{text}, {why}; what was learned later of that day is in this", now_said, published
        )
        return
    yield from _change("model", text, now_said, replayed)
    day = tables.calendar.local_day(earlier.as_of)
    yield from _change("edit", f"what was learned later of how the deal stood on {day}", replayed, published)


def _change(cause: Cause, text: str, after: float, before: float) -> Iterator[Change]:
    effect = POINTS * (after - before)
    if abs(effect) > NOTHING:
        yield Change(cause, text, effect)


def _by_feature(
    bundle: Bundle,
    tables: CrmTables,
    features: pd.DataFrame,
    chances: list[float],
    cause: Literal["edit", "time"],
    audiences: Sequence[str],
) -> Iterator[Change]:
    """From the first row of features to the second: the strongest of those that moved, and one line for the rest."""
    total = POINTS * (chances[1] - chances[0])
    told = list(_told(bundle, tables, features, cause, audiences)) if bundle.tells_apart else []
    yield from told
    rest = total - sum(change.effect for change in told)
    if abs(rest) > NOTHING:
        yield Change(cause, OTHERWISE[cause] if told else _plainly(features, cause, audiences), rest)


def _told(
    bundle: Bundle,
    tables: CrmTables,
    features: pd.DataFrame,
    cause: Literal["edit", "time"],
    audiences: Sequence[str],
) -> Iterator[Change]:
    explained = explain_deals(bundle.hazards, bundle.calibration, bundle.reference, features, tables.calendar)
    before, after = explained.effects
    effects = dict(zip(explained.groups, (after - before).tolist(), strict=True))
    told = {name: effect for name, effect in effects.items() if name in features and name in BY_NAME}
    for name, effect in strongest_topics(told, BY_NAME, tellers=_moved(features, audiences)):
        then, now = (feature_sentence(name, BY_NAME[name], value) for value in features[name])
        yield Change(cause, f"{now}; before: {then}", effect)


def _moved(features: pd.DataFrame, audiences: Sequence[str]) -> list[str]:
    """The features that these audiences may be told and whose value is not the same in both rows."""
    then, now = features.iloc[0], features.iloc[1]
    return [
        name
        for name in map(str, features.columns)
        if name in BY_NAME and BY_NAME[name].audience in audiences and not _same(then[name], now[name])
    ]


def _same(then: object, now: object) -> bool:
    return bool(then == now) or (pd.isna(then) and pd.isna(now))


def _plainly(features: pd.DataFrame, cause: Literal["edit", "time"], audiences: Sequence[str]) -> str:
    """Words for a whole step where a baseline serves, or nothing stands out: what moved, not by how much each."""
    moved = ", ".join(name.replace("_", " ") for name in _moved(features, audiences)[:AT_MOST])
    if cause == "time":
        return "time passed, with the deal as it was"
    return f"the deal changed: {moved}" if moved else "the deal changed"
