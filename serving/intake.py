"""Events as they come in: each judged by itself by the import's rules, and written down before the answer."""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeGuard

import pandas as pd

from crm.contract import TABLES
from crm.errors import Detail
from crm.events import check_rows
from ledger.inbox import Event, is_same
from ledger.ledger import Ledger
from serving import metrics
from serving.callers import Caller
from serving.errors import SHOWN, too_many, writable
from serving.schema import EventsRequest, storable
from serving.state import State

MOST_EVENTS = 1000
MOST_COLUMNS = 300
LONGEST_ID = 200
FOR_EVERYBODY = ("deals", "deal_history", "activities", "deal_contacts", "leads")
"""The tables that need no scope but `events`."""
NAMES = ("event_id", "table", "row")
OTHER_CONTENT = "an event_id stands for one content; it was sent before with another"


@dataclass
class Letter:
    """One event of a call on its way through the checks."""

    place: int
    event_id: str | None
    table: str = ""
    row: Mapping[str, Any] = field(default_factory=dict)
    details: list[Detail] = field(default_factory=list)
    moment: pd.Timestamp | None = None
    status: str = ""

    def refuse(self, where: str, value: object, rule: str, next_step: str = "correct the value") -> None:
        """Note what is wrong."""
        shown = None if value is None else str(writable(str(value)[:SHOWN]))
        name = str(writable(f"events[{self.place}]{where and '.'}{where}"))
        self.details.append(Detail(name, shown, rule, next_step))

    def result(self) -> dict[str, Any]:
        """What the answer says of it."""
        details = [detail.to_dict() for detail in self.details]
        return {"event_id": writable(self.event_id), "status": self.status or "refused", "details": details}


def answer_events(
    asked: EventsRequest, caller: Caller, state: State, ledger: Ledger, *, now: pd.Timestamp
) -> dict[str, Any]:
    """The `events` answer; what it says was accepted is written down for good.

    Raises
    ------
    TooLarge
        More than `MOST_EVENTS` events.
    """
    if len(asked.events) > MOST_EVENTS:
        raise too_many("events", len(asked.events), MOST_EVENTS)
    letters = [read_letter(place, sent, caller) for place, sent in enumerate(asked.events)]
    readable = [letter for letter in letters if not letter.details]
    known = ledger.known_events([str(letter.event_id) for letter in readable])
    for letter in readable:
        before = known.get(str(letter.event_id))
        if before is not None:
            tell_apart(letter, "duplicate" if is_same(before, event_of(letter, caller, now)) else "other content")
    fresh = [letter for letter in readable if not letter.status and not letter.details]
    check_letters(fresh, caller, state, now)
    good = [letter for letter in fresh if not letter.details]
    taken = ledger.take_in([event_of(letter, caller, now) for letter in good])
    for letter, status in zip(good, taken, strict=True):
        tell_apart(letter, status)
    results = [letter.result() for letter in letters]
    for result in results:
        metrics.events_total.labels(result["status"]).inc()
    return {"results": results}


def tell_apart(letter: Letter, status: str) -> None:
    """Note what the inbox says of an event."""
    if status == "other content":
        letter.refuse("event_id", letter.event_id, OTHER_CONTENT, "send a correction under an event_id of its own")
    else:
        letter.status = status


def event_of(letter: Letter, caller: Caller, now: pd.Timestamp) -> Event:
    """The event as the inbox keeps it."""
    content = json.dumps(letter.row, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Event(str(letter.event_id), letter.table, content, letter.moment, now, caller.key_id)


def read_letter(place: int, sent: object, caller: Caller) -> Letter:
    """An event as far as its shape can be read."""
    if not isinstance(sent, dict):
        letter = Letter(place, None)
        letter.refuse("", sent, f"an event is an object with {', '.join(NAMES)}")
        return letter
    event_id = sent.get("event_id")
    letter = Letter(place, event_id[:LONGEST_ID] if isinstance(event_id, str) else None)
    for name in sent.keys() - set(NAMES):
        letter.refuse(name[:SHOWN], None, f"an event has {', '.join(NAMES)}", "remove it")
    if not is_text(event_id) or not event_id.strip() or len(event_id) > LONGEST_ID:
        rule = f"a text of 1 to {LONGEST_ID} characters, an own one for every event"
        letter.refuse("event_id", event_id, rule, "add it" if event_id is None else "correct the value")
    allowed = TABLES if caller.allows("admin") else FOR_EVERYBODY
    if sent.get("table") not in allowed:
        more = "" if allowed is TABLES else "; the others need the scope admin"
        letter.refuse("table", sent.get("table"), f"one of {', '.join(allowed)}{more}")
    row = sent.get("row")
    if not isinstance(row, dict) or not 0 < len(row) <= MOST_COLUMNS:
        rule = f"an object with the row's columns, 1 to {MOST_COLUMNS} of them"
        letter.refuse("row", type(row).__name__ if row else None, rule)
    else:
        check_values(letter, row)
        letter.row = row
    letter.table = str(sent.get("table"))
    return letter


def check_values(letter: Letter, row: Mapping[str, Any]) -> None:
    """Note the values that no column can hold."""
    for name, value in row.items():
        if not is_text(name):
            letter.refuse(f"row.{name[:SHOWN]}", None, "a column's name is plain text", "rename or remove it")
        elif isinstance(value, float) and not math.isfinite(value):
            letter.refuse(f"row.{name[:SHOWN]}", value, "a number is finite; null if unknown")
        elif isinstance(value, str) and not is_text(value):
            letter.refuse(f"row.{name[:SHOWN]}", value, "text holds no zero character and no half of a surrogate pair")
        elif not isinstance(value, str | int | float | bool | None):
            letter.refuse(f"row.{name[:SHOWN]}", value, "a value is text, a number, true, false or null")


def is_text(value: object) -> TypeGuard[str]:
    """Whether it is text that every database keeps."""
    try:
        return isinstance(value, str) and storable(value) == value
    except ValueError:
        return False


def check_letters(letters: Sequence[Letter], caller: Caller, state: State, now: pd.Timestamp) -> None:
    """Judge rows by the import's rules, a table at a time, and by what the key may see."""
    by_table: dict[str, list[Letter]] = defaultdict(list)
    for letter in letters:
        by_table[letter.table].append(letter)
    for table, mine in by_table.items():
        for letter, checked in zip(
            mine, check_rows(state.tables, table, [each.row for each in mine], now=now), strict=True
        ):
            letter.moment = checked.moment
            for detail in checked.details:
                letter.refuse(f"row.{detail.where}", detail.value, detail.rule, detail.next_step)
    if caller.viewer is not None:
        check_sight(by_table, caller.viewer, state)


def check_sight(by_table: Mapping[str, Sequence[Letter]], viewer: str, state: State) -> None:
    """Refuse what a user tells of deals, leads and people that the user may not see."""
    seen = partial(state.may_see_owner, viewer)
    own = {
        letter.row.get("deal_id")
        for letter in by_table.get("deals", ())
        if letter.row.get("deal_id") not in state.owner_of and seen(letter.row.get("owner_id"))
    }
    leads = state.tables.get("leads")
    leads = leads[leads["lead_id"].isin([letter.row.get("lead_id") for letter in by_table.get("leads", ())])]
    hidden = {lead for lead, owner in zip(leads["lead_id"], leads["owner_id"], strict=True) if not seen(owner)}
    for table, letters in by_table.items():
        for letter in letters:
            if table == "leads" and letter.row.get("lead_id") in hidden:
                letter.refuse("row.lead_id", letter.row.get("lead_id"), "a lead that the key may see, or a new one")
            deal_id, owner = letter.row.get("deal_id"), letter.row.get("owner_id")
            is_owned = table == "leads" or (table == "deals" and owner is not None)
            if is_owned and not seen(owner):
                letter.refuse("row.owner_id", owner, "a user that the key may see")
            if table not in FOR_EVERYBODY:
                letter.refuse("table", table, "tables of the whole company need a key that sees all of it")
            elif table != "leads" and deal_id not in own and not state.may_see_deal(viewer, str(deal_id)):
                letter.refuse("row.deal_id", deal_id, "a deal that exists, and that the key may see")
