"""What people say beside the model: calls and overrides, each with whether the model's number had been read."""

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import pandas as pd

from crm.calendar import Period
from crm.errors import Detail, UsageError
from crm.hierarchy import COMPANY, org_chart
from crm.plain import to_plain
from ledger.inbox import Event
from ledger.ledger import Ledger
from ledger.people import Node, Score, Subject
from serving.callers import Caller
from serving.errors import SHOWN, nobody_sees, too_many
from serving.schema import Call, CallsRequest, Override, OverridesRequest
from serving.state import State

MOST_SAID = 100
INVALID = "What was said cannot be taken in; nothing of it was."


# -- who read what ---------------------------------------------------------------------------------------------------


def reader_of(caller: Caller) -> str:
    """Who reads: the key's user, or the key itself if it is nobody's."""
    return caller.user_id or caller.key_id


def scores_told(scores: Sequence[dict[str, Any]]) -> list[Subject]:
    """The numbers in a list of Scores."""
    return [Score(score["deal_id"]) for score in scores]


def nodes_told(period: Period, nodes: pd.DataFrame) -> list[Subject]:
    """The numbers in forecast rows."""
    start = pd.Timestamp(period.start)
    return [Node(start, kind, name) for kind, name in zip(nodes["node_type"], nodes["node_id"], strict=True)]


# -- calls -----------------------------------------------------------------------------------------------------------


def answer_calls(
    asked: CallsRequest, caller: Caller, state: State, ledger: Ledger, *, now: pd.Timestamp
) -> dict[str, Any]:
    """The `calls` answer; all of them are kept, or none.

    Raises
    ------
    UsageError
        A call breaks a rule.
    NotFound
        A user does not exist, or may not be seen.
    TooLarge
        More than `MOST_SAID` calls.
    """
    if len(asked.calls) > MOST_SAID:
        raise too_many("calls", len(asked.calls), MOST_SAID)
    details: list[Detail] = []
    calls: list[dict[str, Any]] = []
    events: list[Event] = []
    for place, call in enumerate(asked.calls):
        read = read_call(call, caller, state, f"calls[{place}]", details, now)
        if read is None:
            continue
        period, said = read
        if any(said.items() <= other.items() for other in calls):
            rule = "one amount for a user, period and category at one moment"
            details.append(Detail(f"calls[{place}].category", call.category, rule, "leave out one of them"))
        user_id, event = said["user_id"], event_of(call, said, caller, now)
        events.append(event)
        seen = ledger.had_seen({reader_of(caller), user_id}, nodes_of(state, user_id, period))
        more = {"amount": call.amount, "currency": call.currency, "event_id": event.event_id, "model_seen": seen}
        calls.append({**said, **more, "received_at": now, "key_id": caller.key_id})
    if details:
        raise UsageError(INVALID, *details)
    ledger.submit_calls(calls, events)
    shown = ("user_id", "period_start", "submitted_at", "category", "amount", "currency", "model_seen")
    return {"calls": [to_plain({name: call[name] for name in shown}) for call in calls]}


def read_call(
    call: Call, caller: Caller, state: State, where: str, details: list[Detail], now: pd.Timestamp
) -> tuple[Period, dict[str, Any]] | None:
    """The period of a call, and who calls what for it when; None if it breaks a rule, which is then in `details`."""
    before = len(details)
    user_id = caller_for(call, caller, state, where, details)
    period = period_said(state, call.period_start, where, details)
    submitted_at = moment_said(state, caller, call.submitted_at, where, details, now)
    if call.currency is not None and call.currency not in currencies(state):
        rule = "the base currency, or one of exchange_rates: else nobody could compare it"
        details.append(Detail(f"{where}.currency", call.currency[:SHOWN], rule, "correct it, or import its rate"))
    if len(details) > before or period is None:
        return None
    said = {"user_id": user_id, "period_start": period.start, "category": call.category, "submitted_at": submitted_at}
    return period, said


def event_of(call: Call, said: Mapping[str, Any], caller: Caller, now: pd.Timestamp) -> Event:
    """The event that brings a call to the forecast."""
    row = {**call.model_dump(exclude_none=True), **said}
    content = json.dumps(to_plain(row), sort_keys=True, ensure_ascii=False)
    name = f"call-{uuid.uuid4().hex}"
    return Event(name, "forecast_calls", content, said["submitted_at"], now, caller.key_id)


def caller_for(call: Call, caller: Caller, state: State, where: str, details: list[Detail]) -> str | None:
    """Whose call it is: the key's user's; with admin, that of any user who may be seen."""
    if call.user_id is None or call.user_id == caller.user_id:
        if caller.user_id is None:
            rule = "a call is somebody's: of the key's user or, with the scope admin, of the user named"
            step = "use a key made with --user" + (", or name a user" if caller.allows("admin") else "")
            details.append(Detail(f"{where}.user_id", None, rule, step))
        return caller.user_id
    if not caller.allows("admin"):
        rule = "without the scope admin everybody calls for themselves"
        details.append(Detail(f"{where}.user_id", call.user_id[:SHOWN], rule, "leave it out"))
    elif call.user_id not in state.known_owners or not state.may_see_owner(caller.viewer, call.user_id):
        raise nobody_sees("user", call.user_id, where=f"{where}.user_id")
    return call.user_id


def nodes_of(state: State, user_id: str, period: Period) -> list[Node]:
    """The nodes that a user's call is about: what is called for a subtree is set beside every node of it."""
    chart = org_chart(state.tables, state.history, state.as_of)
    below = [user for user, above in chart.managers_above.items() if user_id in above and user in chart.users.index]
    names = {("rep", user_id), ("manager", user_id)}
    for level in ("team", "region"):
        names |= {(level, name) for name in chart.users.loc[below, level].dropna()}
    if user_id not in chart.manager_of:
        names.add((COMPANY, COMPANY))
    return [Node(pd.Timestamp(period.start), kind, name) for kind, name in sorted(names)]


def currencies(state: State) -> set[str]:
    """The currencies that can be brought to the base currency."""
    return {state.tables.calendar.base_currency, *state.tables.get("exchange_rates")["currency"]}


# -- overrides -------------------------------------------------------------------------------------------------------


def answer_overrides(
    asked: OverridesRequest, caller: Caller, state: State, ledger: Ledger, *, now: pd.Timestamp
) -> dict[str, Any]:
    """The `overrides` answer; all of them are kept, or none.

    Raises
    ------
    UsageError
        An override breaks a rule.
    NotFound
        A node or deal does not exist, or may not be seen.
    TooLarge
        More than `MOST_SAID` overrides.
    """
    if len(asked.overrides) > MOST_SAID:
        raise too_many("overrides", len(asked.overrides), MOST_SAID)
    details: list[Detail] = []
    overrides = []
    for place, override in enumerate(asked.overrides):
        where = f"overrides[{place}]"
        period = period_said(state, override.period_start, where, details)
        submitted_at = moment_said(state, caller, override.submitted_at, where, details, now)
        subject = None if period is None else subject_of(override, caller, state, where, details, period)
        if period is None or subject is None or submitted_at is None:
            continue
        said = override.model_dump(include={"node_type", "node_id", "deal_id", "value", "note"})
        said |= {"period_start": period.start, "user_id": caller.user_id, "submitted_at": submitted_at}
        said |= {"received_at": now, "key_id": caller.key_id}
        overrides.append({**said, "model_seen": ledger.had_seen({reader_of(caller)}, [subject])})
    if details:
        raise UsageError(INVALID, *details)
    numbers = ledger.submit_overrides(overrides)
    shown = (
        "node_type",
        "node_id",
        "deal_id",
        "period_start",
        "value",
        "note",
        "user_id",
        "submitted_at",
        "model_seen",
    )
    return {
        "overrides": [
            to_plain({"override_id": number, **{name: override[name] for name in shown}})
            for number, override in zip(numbers, overrides, strict=True)
        ]
    }


def subject_of(
    override: Override, caller: Caller, state: State, where: str, details: list[Detail], period: Period
) -> Subject | None:
    """The deal or node that an override is about."""
    is_node = override.node_type is not None and override.node_id is not None
    if (override.deal_id is None) is not is_node or (override.deal_id is not None and override.node_type is not None):
        rule = "either node_type and node_id, or deal_id"
        missing = "node_id" if override.node_type is not None and override.node_id is None else "node_type"
        told = f"{where}.{'deal_id' if override.deal_id is not None else missing}"
        details.append(Detail(told, override.deal_id and override.deal_id[:SHOWN], rule, "name the one it is about"))
        return None
    if override.deal_id is not None:
        standing = state.standing_seen(caller.viewer, override.deal_id)
        if standing is None:
            raise nobody_sees("deal", override.deal_id, where=f"{where}.deal_id")
        if standing != "open":
            rule = f"an open deal; this one is {standing}"
            details.append(Detail(f"{where}.deal_id", override.deal_id[:SHOWN], rule, "leave it out"))
        return Score(override.deal_id)
    nodes = state.visible_nodes(state.forecast(period), caller.viewer)
    mine = (nodes["node_type"] == override.node_type) & (nodes["node_id"] == override.node_id)
    if not mine.any():
        raise nobody_sees(str(override.node_type), str(override.node_id), where=f"{where}.node_id")
    return Node(pd.Timestamp(period.start), str(override.node_type), str(override.node_id))


# -- what both have --------------------------------------------------------------------------------------------------


def period_said(state: State, day: date | None, where: str, details: list[Detail]) -> Period | None:
    """The period that starts on a day; none is the one that holds the data's moment."""
    calendar = state.tables.calendar
    if day is None:
        return calendar.period_of(state.as_of)
    try:
        return calendar.period_starting(day)
    except UsageError as refused:
        details += [Detail(f"{where}.period_start", str(day), each.rule, each.next_step) for each in refused.details]
        return None


def moment_said(
    state: State, caller: Caller, text: str | None, where: str, details: list[Detail], now: pd.Timestamp
) -> pd.Timestamp | None:
    """When it was said: now, or at a moment between the data's and now; only admin may bring what was said before."""
    if text is None:
        return now
    try:
        at = state.tables.calendar.parse_moment(text)
    except UsageError as refused:
        details += [
            Detail(f"{where}.submitted_at", text[:SHOWN], each.rule, each.next_step) for each in refused.details
        ]
        return None
    if at > now or (at < state.as_of and not caller.allows("admin")):
        rule = f"not before the data's moment, {to_plain(state.as_of)} (but with the scope admin), nor after now"
        details.append(Detail(f"{where}.submitted_at", text[:SHOWN], rule, "leave it out: it is said now"))
        return None
    return at
