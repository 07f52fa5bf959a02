"""One deal's life on one line: its stages, what was changed on it, who spoke to whom, and what was said of it."""

from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from crm.plain import to_plain
from serving.state import State

Kind = Literal["stage", "pushed", "pulled", "amount", "category", "owner", "inbound", "outbound", "meeting", "other"]
EDITS = {"close_date": "", "amount": "amount", "forecast_category": "category", "owner_id": "owner"}


@dataclass(frozen=True)
class Happening:
    """Something that happened to a deal, from when it was known.

    Attributes
    ----------
    before, after : of an edit, the values as the CRM writes them (None: empty); of an activity, None and its type.
    """

    at: pd.Timestamp
    kind: Kind
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True)
class Stay:
    """A stage from when to when a deal was in it; `until` is None while it is. An unknown stage is None."""

    stage: str | None
    since: pd.Timestamp
    until: pd.Timestamp | None


def holder_of(state: State, deal_id: str) -> State:
    """The state that knows a deal best: some are there already as a newer data version has them."""
    newer = state.newer
    return newer if newer is not None and deal_id in newer.owner_of else state


def happenings(state: State, deal_id: str) -> list[Happening]:
    """What happened to a deal by the data's moment, oldest first."""
    history, until = holder_of(state, deal_id).history, holder_of(state, deal_id).as_of
    found = []
    for row in of_deal(history.changes, deal_id, "at", until).itertuples():
        kind = edit_kind(row)
        if kind is not None:
            found.append(Happening(row.at, kind, to_plain(row.old_value), to_plain(row.new_value)))
    for row in of_deal(history.activities, deal_id, "known_from", until).itertuples():
        found.append(Happening(row.known_from, activity_kind(row), None, to_plain(getattr(row, "type", None))))
    return sorted(found, key=lambda each: each.at)


def edit_kind(change: Any) -> Kind | None:
    """What a recorded change is on the line; None for fields that are not on it."""
    if change.field == "stage":
        return "stage"
    if change.field == "close_date":
        return "pulled" if change.new_number < change.old_number else "pushed"
    kind: Any = EDITS.get(change.field)
    return kind


def activity_kind(activity: Any) -> Kind:
    """Who reached out to whom; a meeting is both."""
    if getattr(activity, "type", None) == "meeting":
        return "meeting"
    direction: Any = getattr(activity, "direction", None)
    return direction if direction in ("inbound", "outbound") else "other"


def stays(state: State, deal_id: str, happened: list[Happening]) -> list[Stay]:
    """The stages a deal went through, oldest first; the last one lasts."""
    holder = holder_of(state, deal_id)
    deal = holder.deal(deal_id)
    moves = [each for each in happened if each.kind == "stage"]
    stages = [moves[0].before if moves else deal["stage"], *(each.after for each in moves)]
    since = [pd.Timestamp(deal["created_at"]), *(each.at for each in moves)]
    until: list[pd.Timestamp | None] = [*since[1:], None]
    return [Stay(*each) for each in zip(stages, since, until, strict=True)]


def of_deal(rows: pd.DataFrame, deal_id: str, at: str, until: pd.Timestamp) -> pd.DataFrame:
    """A deal's rows dated up to a moment."""
    return rows[(rows["deal_id"] == deal_id) & (rows[at] <= until)]
