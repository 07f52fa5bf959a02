"""The forecast review: what a period will bring, node by node, as it stands now or as it stood at a past moment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from fastapi import FastAPI, Request
from starlette.responses import Response

from crm.hierarchy import org_chart
from crm.plain import to_plain
from ledger.ledger import Ledger
from models.forecaster import FORECAST_COLUMNS
from models.outlook import Outlook, in_todays_teams, line_through, won_by_day
from models.review import caller_bias, week_of_period
from serving.blind import models_word_told, nodes_seen
from serving.callers import Caller
from serving.errors import nobody_sees
from serving.given import Now, Reader
from serving.pages.frame import say_to, show
from serving.pages.looking import EVERYTHING, Looking, asked_of, outlook_asked, periods_offered, scopes_offered
from serving.pages.record import TrackRecord
from serving.pages.tables import answer_csv
from serving.pages.tree import Branch, Key, Tree, build_tree, key_of, text_of
from serving.pages.words import Say, is_unknown, later
from serving.said import nodes_told
from serving.state import State

LEAST_CASES = 20
"""Calls that were judged before a person's bias is told: fewer say more of luck than of the person."""
SCOPE_LABELS = {
    "deal_type": later("Type"),
    "pipeline": later("Pipeline"),
    "segment": later("Segment"),
    "currency": later("Currency"),
}
NODE_LABELS = {
    "company": later("Company"),
    "region": later("Region"),
    "team": later("Team"),
    "manager": later("Manager"),
    "rep": later("Rep"),
}


@dataclass(frozen=True)
class Bias:
    """By how much a caller's commits were off at this week of past periods: above zero, too much was promised."""

    share: float
    periods: int


@dataclass(frozen=True)
class Line:
    """One row of the table of nodes: the branch, its range as shares of its neighbours' scale, gap and bias."""

    branch: Branch
    strip: Mapping[str, float | None] | None
    gap: float | None
    bias: Bias | None


@dataclass(frozen=True)
class Reviewed:
    """What a viewer may see of one outlook: the tree of its nodes, and how its callers did before."""

    at: Looking
    outlook: Outlook
    tree: Tree
    biases: Mapping[str, Bias]
    is_record_known: bool

    def lines(self, opened: Sequence[str], start: Key | None = None) -> list[Line]:
        """The rows of the table, in order."""
        branches = self.tree.branches(opened, start)
        scale: dict[tuple[str, ...], float] = {}
        for branch in branches:
            tops = [v for name in ("p90", "quota", "call_commit") if (v := known(branch.row, name)) is not None]
            scale[branch.under] = max([scale.get(branch.under, 1.0), *tops])
        return [self._line(branch, scale[branch.under]) for branch in branches]

    def _line(self, branch: Branch, scale: float) -> Line:
        row = branch.row
        marks = {"low": "p10", "middle": "p50", "high": "p90", "won": "won_to_date"}
        marks |= {"call": "call_commit", "quota": "quota"}
        values = {mark: known(row, name) for mark, name in marks.items()}
        strip = {mark: None if v is None else min(max(v / scale, 0.0), 1.0) for mark, v in values.items()}
        bias = self.biases.get(str(row["call_user_id"]))
        return Line(branch, None if values["middle"] is None else strip, gap_of(row), bias)


def known(row: Mapping[str, Any], name: str) -> float | None:
    """A number of a forecast row, None where it is not known."""
    value = row.get(name)
    return None if is_unknown(value) else float(value)  # type: ignore[arg-type]


def gap_of(row: Mapping[str, Any]) -> float | None:
    """What the model's median is above the quota, or, below zero, short of it."""
    middle, quota = known(row, "p50"), known(row, "quota")
    return None if middle is None or quota is None else middle - quota


def reviewed(request: Request, caller: Caller, state: State, at: Looking) -> Reviewed | None:
    """What a caller sees of what was asked for; None where the ledger has nothing of that moment."""
    outlook = outlook_asked(state, request.app.state.ledger, at)
    if outlook is None:
        return None
    chart = org_chart(state.tables, state.history, state.as_of)
    nodes = nodes_seen(outlook.nodes, request, caller, state, at.period)
    nodes = nodes[nodes["scope"] == at.scope]
    if request.query_params.get("teams") == "today" and not at.is_now and caller.viewer is None:
        nodes = in_todays_teams(nodes, chart)
    request.app.state.readings.told(caller, nodes_told(at.period, models_word_told(nodes)))
    say = say_to(request)
    tree = build_tree(nodes, chart, company_name=say.gettext(NODE_LABELS["company"]))
    record = request.app.state.track_record.of(state, request.app.state.ledger).calls
    biases = {} if record is None else biases_seen(record, state, caller, at, outlook.as_of)
    return Reviewed(at, outlook, tree, biases, record is not None)


def biases_seen(
    record: pd.DataFrame, state: State, caller: Caller, at: Looking, as_of: pd.Timestamp
) -> dict[str, Bias]:
    """The bias of each caller, of oneself and whom one manages, from `LEAST_CASES` judged calls on."""
    week = week_of_period(state.tables.calendar, at.period, as_of)
    found = caller_bias(record, week=week, at=at.at).dropna(subset=["bias"])
    found = found[found["cases"] >= LEAST_CASES]
    return {
        str(user): Bias(float(row["bias"]), int(row["periods"]))
        for user, row in found.iterrows()
        if state.may_see_owner(caller.viewer, str(user))
    }


def node_asked(query: Mapping[str, str], tree: Tree) -> Key | None:
    """The node that the page is about: the one asked for, else the topmost.

    Raises
    ------
    NotFound
        There is no such node, or the caller may not see it.
    """
    text = query.get("node")
    if not text:
        return tree.roots[0] if tree.roots else None
    if key_of(text) not in tree.rows:
        raise nobody_sees("node", text)
    return key_of(text)


def drawn(state: State, ledger: Ledger, seen: Reviewed, node: Key, say: Say) -> dict[str, Any]:
    """What the chart through the period shows of a node."""
    at, row = seen.at, seen.tree.rows[node]
    line = line_through(ledger, at.period, *node, at=at.at, scope=at.scope)
    line = line[(line["as_of"] < seen.outlook.as_of) & (known(row, "p50") is not None)]
    points = [*line.to_dict("records"), {**row, "as_of": seen.outlook.as_of, "basis": seen.outlook.basis}]
    won = won_by_day(state.booked(at.period, seen.outlook.as_of), node, scope=at.scope)
    last = min(seen.outlook.as_of, at.period.end_at)
    won_points = [(at.period.start_at, 0.0), *zip(won["booked_on"], won["won_to_date"], strict=True)]
    won_points.append((last, won_points[-1][1]))
    called = [point for point in points if known(point, "call_commit") is not None]
    return {
        "points": [
            {"day": instant_text(p["as_of"]), "basis": p["basis"], **{q: known(p, q) for q in ("p10", "p50", "p90")}}
            for p in points
            if known(p, "p50") is not None
        ],
        "won": [{"day": instant_text(day), "amount": amount} for day, amount in won_points],
        "calls": [{"day": instant_text(p["as_of"]), "amount": known(p, "call_commit")} for p in called],
        "quota": known(row, "quota"),
        "period_start": instant_text(at.period.start_at),
        "period_end": instant_text(at.period.end_at),
        "words": {
            "range": say.gettext("8 in 10 times"),
            "median": say.gettext("Model's median"),
            "published": say.gettext("published"),
            "replayed": say.gettext("replayed"),
            "won": say.gettext("Won"),
            "call": say.gettext("Commit"),
            "quota": say.gettext("Quota"),
        },
    }


def instant_text(at: Any) -> str:
    """An instant or a day as ECharts reads it: UTC, with its Z."""
    stamp = pd.Timestamp(at)
    return f"{stamp.tz_convert('UTC') if stamp.tzinfo else stamp:%Y-%m-%dT%H:%M:%S}Z"


def opened_by(query: Any, tree: Tree) -> list[str]:
    """The branches that are open: those asked for, each with those above it; at first the topmost one."""
    asked = query.getlist("open") or [text_of(root) for root in tree.roots[:1]]
    return [branch for text in asked for branch in tree.above(key_of(text))]


def add_review(api: FastAPI) -> None:
    """The page, the rows that it loads when a branch is opened, and its table as a file."""
    api.state.track_record = TrackRecord()

    @api.get("/review", include_in_schema=False)
    def review(caller: Reader, state: Now, request: Request) -> Response:
        query = request.query_params
        at = asked_of(request, state)
        seen = reviewed(request, caller, state, at)
        values: dict[str, Any] = {"at": at, "seen": seen, **pickers(state, at), "node": None, "chart": None}
        if seen is not None and (node := node_asked(query, seen.tree)) is not None:
            say = say_to(request)
            lines = seen.lines(opened_by(query, seen.tree))
            chart = drawn(state, request.app.state.ledger, seen, node, say)
            row = seen.tree.rows[node]
            values |= {"node": node, "row": row, "gap": gap_of(row), "lines": lines, "chart": chart}
            values["nodes"] = [key for key in seen.tree.rows if key[0] in ("company", "region", "team", "manager")]
            values["commits_bias"] = seen.biases.get(str(row["call_user_id"]))
        return show(request, "review.html", **values)

    @api.get("/review/rows", include_in_schema=False)
    def rows(caller: Reader, state: Now, request: Request, branch: str) -> Response:
        at = asked_of(request, state)
        seen = reviewed(request, caller, state, at)
        if seen is None or key_of(branch) not in seen.tree.rows:
            raise nobody_sees("node", branch)
        return show(request, "review_rows.html", at=at, seen=seen, lines=seen.lines((), key_of(branch)))

    @api.get("/review.csv", include_in_schema=False)
    def table(caller: Reader, state: Now, request: Request) -> Response:
        at = asked_of(request, state)
        seen = reviewed(request, caller, state, at)
        found = [] if seen is None else list(seen.tree.rows.values())
        columns = (*FORECAST_COLUMNS, "basis")
        basis = None if seen is None else seen.outlook.basis
        return answer_csv([[to_plain({**row, "basis": basis}.get(c)) for c in columns] for row in found], columns)


def pickers(state: State, at: Looking) -> dict[str, Any]:
    """What there is to choose from."""
    calendar = state.tables.calendar
    return {
        "periods": periods_offered(calendar, state.as_of),
        "today": calendar.local_day(state.as_of),
        "scopes": scopes_offered(state, at),
        "scope_labels": SCOPE_LABELS,
        "node_labels": NODE_LABELS,
        "everything": EVERYTHING,
    }
