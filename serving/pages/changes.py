"""What changed: why a period's forecast is not what it was, as a walk of amounts with the deals behind each step."""

from datetime import timedelta
from typing import Any

import pandas as pd
from fastapi import FastAPI, Request
from starlette.responses import Response

from crm.errors import Detail, NoModel, UsageError
from models.moves import CAUSES
from models.replays import bundle_that_spoke
from models.review import NODE_TYPES
from serving.blind import has_to_call
from serving.errors import nobody_sees
from serving.given import Now, Reader
from serving.pages.frame import say_to, show
from serving.pages.looking import Looking, asked_of, day_asked, periods_offered
from serving.pages.tree import key_of
from serving.pages.words import Say, later
from serving.said import nodes_told
from serving.state import State

DAYS_BACK = 7
DEALS_NAMED = 50
CAUSE_LABELS = {
    "model": later("Another model speaks"),
    "won_earlier": later("Won as expected or sooner"),
    "won_later": later("Won later than expected"),
    "lost": later("Lost"),
    "slipped_out": later("Moved out"),
    "pulled_in": later("Moved in"),
    "reopened": later("Reopened"),
    "newly_created": later("New deals"),
    "merged": later("Merged"),
    "edited": later("News on deals"),
    "time": later("Time alone"),
    "repriced": later("Amounts"),
    "exchange_rates": later("Exchange rates"),
    "owner": later("Changed owners"),
    "not_yet_created": later("Deals to come"),
}
assert CAUSE_LABELS.keys() == CAUSES.keys()


def walk_of(state: State, request: Request, at: Looking, since: pd.Timestamp) -> pd.DataFrame:
    """The moves of every node between the forecasts of the models that spoke at two moments.

    Raises
    ------
    NoModel
        No model may speak for one of them.
    """
    workspace, ledger = request.app.state.follower.workspace, request.app.state.ledger
    before = bundle_that_spoke(workspace, ledger, state.tables, at.period, since)
    if at.at >= state.as_of:
        return state.moved(at.period, since, before).rows(named=DEALS_NAMED)
    bundle = bundle_that_spoke(workspace, ledger, state.tables, at.period, at.at)
    return state.moved(at.period, since, before, as_of=at.at, bundle=bundle).rows(named=DEALS_NAMED)


def since_asked(query: Any, state: State, at: Looking) -> pd.Timestamp:
    """The earlier moment: a week before the later one, unless a day is named, whose end it is.

    Raises
    ------
    UsageError
        It is not before the later moment.
    """
    day = day_asked(query, "since")
    as_of = min(at.at, state.as_of)
    if day is None:
        return as_of - pd.Timedelta(days=DAYS_BACK)
    since = state.tables.calendar.midnight(day + timedelta(days=1))
    if since >= as_of:
        detail = Detail(
            "since", str(day), f"a day before {state.tables.calendar.local_day(as_of)}", "choose an earlier day"
        )
        raise UsageError("What changed is told from an earlier day on.", detail)
    return since


def deals_behind(state: State, viewer: str | None, row: Any) -> list[dict[str, Any]]:
    """The deals behind one step that a viewer may see, the strongest first, each with its name."""
    seen = [deal for deal in row["deals"] if state.may_see_score(viewer, deal["deal_id"])]
    names = deal_names(state, [deal["deal_id"] for deal in seen])
    return [{**deal, "name": names[deal["deal_id"]]} for deal in seen]


def deal_names(state: State, deal_ids: list[str]) -> dict[str, str]:
    """What deals are called: their name in the CRM, else their id."""
    deals = state.tables.get("deals")
    if "name" not in deals:
        return {deal_id: deal_id for deal_id in deal_ids}
    named = deals[deals["deal_id"].isin(deal_ids)].set_index("deal_id")["name"].dropna().to_dict()
    return {deal_id: str(named.get(deal_id, deal_id)) for deal_id in deal_ids}


def topmost_first(column: pd.Series) -> pd.Series:
    """The company before its parts, and those by name."""
    return column.map(NODE_TYPES.index) if column.name == "node_type" else column.fillna("")


def bars_of(walk: pd.DataFrame, say: Say) -> list[dict[str, Any]]:
    """The walk of one node as bars: from the earlier figure by each cause to the later one."""
    first = walk.iloc[0]
    steps = [
        {"label": say.gettext(CAUSE_LABELS[row["cause"]]), "amount": float(row["amount"]), "kind": "step",
         "cause": row["cause"]}
        for row in walk.to_dict("records")
    ]  # fmt: skip
    before = {"label": say.gettext("Before"), "amount": float(first["earlier"]), "kind": "end", "cause": None}
    after = {"label": say.gettext("Now"), "amount": float(first["later"]), "kind": "end", "cause": None}
    return [before, *steps, after]


def add_changes(api: FastAPI) -> None:
    """The page."""

    @api.get("/changes", include_in_schema=False)
    def changes(caller: Reader, state: Now, request: Request) -> Response:
        query, viewer = request.query_params, caller.viewer
        at = asked_of(request, state)
        since = since_asked(query, state, at)
        calendar = state.tables.calendar
        values: dict[str, Any] = {
            "at": at,
            "since": since,
            "until": min(at.at, state.as_of),
            "since_day": calendar.local_day(since - pd.Timedelta(1)),
        }
        values |= {"periods": periods_offered(calendar, state.as_of), "today": calendar.local_day(state.as_of)}
        if since < calendar.previous_period(at.period).start_at:
            return show(request, "changes.html", **values, why="long")
        app = request.app.state
        if has_to_call(app.ledger, caller, state, at.period, blind_calls=app.blind_calls):
            return show(request, "changes.html", **values, why="blind")
        try:
            walk = walk_of(state, request, at, since)
        except NoModel:
            return show(request, "changes.html", **values, why="silent")
        rows = state.visible_nodes(walk, viewer)
        rows = rows.sort_values(["node_type", "node_name"], key=topmost_first, kind="stable")
        request.app.state.readings.told(caller, nodes_told(at.period, rows))
        nodes = list(dict.fromkeys(zip(rows["node_type"], rows["node_id"], rows["node_name"], strict=True)))
        if not nodes:
            return show(request, "changes.html", **values, why="nothing")
        node = key_of(query["node"]) if query.get("node") else nodes[0][:2]
        mine = rows[(rows["node_type"] == node[0]) & (rows["node_id"] == node[1])]
        if mine.empty:
            raise nobody_sees("node", ":".join(node))
        steps = [
            {**row, "label": CAUSE_LABELS[row["cause"]], "behind": deals_behind(state, viewer, row)}
            for row in mine.to_dict("records")
        ]
        bars = bars_of(mine, say_to(request))
        return show(request, "changes.html", **values, why=None, node=node, nodes=nodes, steps=steps, bars=bars)
