"""What would be if: a deal with its stage, close date and amount on sliders, and what the model says of it then."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pandas as pd
from fastapi import Request

from crm.plain import to_plain
from serving.callers import Caller
from serving.pages.frame import say_to
from serving.pages.words import Say
from serving.said import scores_told
from serving.schema import Proposal, WhatIfRequest
from serving.state import State
from serving.timeline import holder_of
from serving.what_if import answer_what_if

LONGEST_DAYS_AHEAD = 180
PERCENTS = (25, 300)
"""The what-if amount, in percent of the deal's own."""


@dataclass(frozen=True)
class Slider:
    """One thing to imagine otherwise: its range of whole steps, where it stands now, and where it is set."""

    name: str
    low: int
    high: int
    step: int
    now: int
    chosen: int
    says: str


@dataclass(frozen=True)
class Imagined:
    """The sliders, and what the model says of the deal as they are set; `problems` say why it says nothing."""

    sliders: Sequence[Slider]
    score: Mapping[str, Any] | None
    is_changed: bool
    problems: Sequence[str]


def untouched(say: Say, deal_id: str, state: State) -> Imagined:
    """The sliders as the deal stands."""
    return Imagined(sliders_of(say, deal_id, state, {}), None, False, ())


def imagine(deal_id: str, caller: Caller, state: State, request: Request) -> Imagined:
    """What `POST /v1/what_if` says of the deal as the sliders are set."""
    sliders = sliders_of(say_to(request), deal_id, state, request.query_params)
    edits = edits_of(deal_id, state, sliders)
    follower = request.app.state.follower
    asked = WhatIfRequest(deals=[proposal_of(deal_id, state, edits)])
    answer = answer_what_if(asked, state, follower.ledger, workspace=follower.workspace, viewer=caller.viewer)
    request.app.state.readings.told(caller, scores_told(answer["scores"]))
    problems = [f"{each['rule']}; {each['next_step']}" for error in answer["errors"] for each in error["details"]]
    score = answer["scores"][0] if answer["scores"] else None
    return Imagined(sliders, score, bool(edits), problems)


def sliders_of(say: Say, deal_id: str, state: State, query: Mapping[str, str]) -> list[Slider]:
    """The sliders that a deal allows: a stage among the open ones, a close date ahead, an amount where one is known."""
    deal, calendar = holder_of(state, deal_id).deal(deal_id), state.tables.calendar
    sliders = []
    stages = open_stages(state, deal)
    if deal["stage"] in stages and len(stages) > 1:
        now = stages.index(deal["stage"])
        chosen = chosen_of(query, "stage", 0, len(stages) - 1, now)
        sliders.append(Slider("stage", 0, len(stages) - 1, 1, now, chosen, stages[chosen]))
    if deal.get("close_date"):
        today = calendar.local_day(state.as_of)
        now = (date.fromisoformat(deal["close_date"]) - today).days
        low, high = min(0, now), max(LONGEST_DAYS_AHEAD, now + 90)
        chosen = chosen_of(query, "close_date", low, high, now)
        sliders.append(Slider("close_date", low, high, 1, now, chosen, say.day(today + timedelta(days=chosen))))
    if deal.get(calendar.measure):
        chosen = chosen_of(query, "amount", *PERCENTS, 100)
        in_base = pipeline_amount(state, deal_id)
        says = say.percent(chosen / 100) if in_base is None else say.money(in_base * chosen / 100)
        sliders.append(Slider("amount", *PERCENTS, 5, 100, chosen, says))
    return sliders


def chosen_of(query: Mapping[str, str], name: str, low: int, high: int, now: int) -> int:
    """Where a slider is set: a whole number within its range, else as the deal stands."""
    try:
        return min(max(int(query.get(name, "")), low), high)
    except ValueError:
        return now


def pipeline_amount(state: State, deal_id: str) -> float | None:
    """The deal's amount in base currency, None if unknown."""
    score = state.score_of.get(deal_id)
    amount: float | None = score["amount_base"] if score else None
    return amount


def open_stages(state: State, deal: Mapping[str, Any]) -> list[str]:
    """The open stages of the deal's pipeline, in their order."""
    stages = state.tables.get("stages")
    if "pipeline" in stages and deal.get("pipeline") is not None:
        stages = stages[stages["pipeline"].isna() | (stages["pipeline"] == deal["pipeline"])]
    stages = stages[~stages["is_closed"].fillna(False).astype(bool)].sort_values("sort_order", kind="stable")
    return [str(name) for name in dict.fromkeys(stages["stage"])]


def edits_of(deal_id: str, state: State, sliders: Sequence[Slider]) -> dict[str, Any]:
    """The fields that the sliders change, with their new values."""
    deal, calendar = holder_of(state, deal_id).deal(deal_id), state.tables.calendar
    edits: dict[str, Any] = {}
    for slider in sliders:
        if slider.chosen == slider.now:
            continue
        if slider.name == "stage":
            edits["stage"] = open_stages(state, deal)[slider.chosen]
        elif slider.name == "close_date":
            edits["close_date"] = str(calendar.local_day(state.as_of) + timedelta(days=slider.chosen))
        else:
            edits[calendar.measure] = round(float(deal[calendar.measure]) * slider.chosen / 100, 2)
    return edits


def proposal_of(deal_id: str, state: State, edits: Mapping[str, Any]) -> Proposal:
    """A deal in full as the store has it, with some fields edited at the data's moment."""
    holder = holder_of(state, deal_id)
    deal, at = holder.deal(deal_id), to_plain(state.as_of)
    history = rows_known(holder, "deal_history", deal_id, state.as_of)
    history += [
        {"changed_at": at, "field": name, "old_value": text_of(deal.get(name)), "new_value": text_of(value)}
        for name, value in edits.items()
    ]
    return Proposal(
        deal={**deal, **edits},
        history=history,
        activities=rows_known(holder, "activities", deal_id, state.as_of),
        contacts=rows_known(holder, "deal_contacts", deal_id, state.as_of),
    )


def rows_known(state: State, table: str, deal_id: str, at: pd.Timestamp) -> list[dict[str, Any]]:
    """A deal's rows of a table that are dated up to a moment, as files would give them."""
    rows = state.tables.get(table)
    rows = rows[rows["deal_id"] == deal_id]
    if "_sequence" in rows:
        rows = rows.sort_values("_sequence", kind="stable")
    for name in rows:
        if isinstance(rows[name].dtype, pd.DatetimeTZDtype):
            rows = rows[~(rows[name] > at)]
    shown: list[dict[str, Any]] = to_plain(rows[[name for name in rows if not str(name).startswith("_")]])
    return [{name: value for name, value in row.items() if value is not None} for row in shown]


def text_of(value: Any) -> str | None:
    """A value as history rows write it."""
    return None if value is None else str(value)
