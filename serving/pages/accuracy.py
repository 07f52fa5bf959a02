"""Accuracy: who was right so far, from what was published then and what came; the model in use and those before."""

from typing import Any

import pandas as pd
from fastapi import FastAPI, Request
from starlette.responses import Response

from models.bundle_store import list_bundles
from models.review import NODE_TYPES, empty_rows
from models.track_record import callers_bias, calls_by_sight, coverage_by_node, errors_by_week, reliability
from serving.callers import Caller
from serving.given import Now, Reader
from serving.pages.frame import say_to, show
from serving.pages.record import Record
from serving.pages.review import LEAST_CASES, NODE_LABELS
from serving.pages.words import Say, later
from serving.state import State

FORECASTERS = {
    ("model", ""): later("Model"),
    ("call", "commit"): later("Commit"),
    ("call_corrected", "commit"): later("Commit, corrected by its caller's record"),
    ("override", ""): later("Overrides"),
    ("stage_weighted", ""): later("Stage-weighted pipeline"),
    ("same_day_conversion", ""): later("Conversion at the same day"),
    ("last_period", ""): later("Last period"),
    ("same_period_last_year", ""): later("Same period last year"),
}
"""Who is compared, in this order; the first has the accent."""
METRICS = {
    "log_loss": later("Log loss (less is better)"),
    "brier": later("Brier score (less is better)"),
    "auc": later("Ranking (AUC)"),
    "calibration_error": later("Calibration error"),
    "calibration_slope": later("Calibration slope (1 is right)"),
}


def chances_seen(record: Record, state: State, caller: Caller) -> pd.DataFrame:
    """The judged chances of the deals that the caller may see."""
    if record.chances is None or caller.viewer is None:
        return pd.DataFrame(columns=["deal_id"]) if record.chances is None else record.chances
    seen = {deal_id for deal_id in record.chances["deal_id"].unique() if state.may_see_deal(caller.viewer, deal_id)}
    return record.chances[record.chances["deal_id"].isin(seen)]


def reviews_seen(record: Record, state: State, caller: Caller) -> pd.DataFrame:
    """The judged review rows of the caller's topmost node: the company, or everything below."""
    if record.reviews is None:
        return empty_rows()
    seen = state.visible_nodes(record.reviews, caller.viewer)
    if caller.viewer is None:
        return seen[seen["node_type"] == "company"]
    managed = seen[(seen["node_type"] == "manager") & (seen["node_id"] == caller.viewer)]
    return managed if len(managed) else seen[(seen["node_type"] == "rep") & (seen["node_id"] == caller.viewer)]


def lines_of(rows: pd.DataFrame, say: Say) -> dict[str, Any] | None:
    """How far each forecaster was off by week, as a chart draws it: what was published, or else what was replayed."""
    if rows.empty or not (rows["forecaster"] == "model").any():
        return None
    basis = "published" if ((rows["basis"] == "published") & (rows["forecaster"] == "model")).any() else "replayed"
    is_said = rows["forecaster"].isin(["model", "call", "override"])
    errors = errors_by_week(rows[~is_said | (rows["basis"] == basis)])
    weeks = sorted(errors["week_of_period"].unique())
    lines = []
    for (forecaster, category), label in FORECASTERS.items():
        mine = errors[(errors["forecaster"] == forecaster) & (errors["category"] == category)]
        by_week = mine.set_index("week_of_period")["wape"]
        if len(by_week):
            values = [float(by_week[week]) if week in by_week.index else None for week in weeks]
            lines.append({"name": say.gettext(label), "values": values})
    return {
        "basis": basis,
        "periods": int(rows["period_start"].nunique()),
        "places": [int(week) for week in weeks],
        "lines": lines,
        "format": "share",
        "words": {"place": say.gettext("Week of the period")},
    }


def quarters_of(rows: pd.DataFrame, state: State) -> list[dict[str, Any]]:
    """What was said of each period in its first, middle and last weeks, beside what it brought."""
    found = []
    for start, period in rows.groupby("period_start", sort=True):
        calendar_period = state.tables.calendar.period_starting(pd.Timestamp(str(start)).date())
        weeks = sorted(period.loc[period["forecaster"] == "model", "week_of_period"].unique())
        chosen = [weeks[0], weeks[len(weeks) // 2], weeks[-1]] if weeks else []
        for week in dict.fromkeys(chosen):
            here = period[period["week_of_period"] == week]
            model = here[here["forecaster"] == "model"].iloc[0]
            commit = here[(here["forecaster"] == "call") & (here["category"] == "commit")]["value"]
            found.append(
                {
                    "label": calendar_period.label,
                    "week": int(week),
                    "basis": model["basis"],
                    "model": model["value"],
                    "low": model["p10"],
                    "high": model["p90"],
                    "commit": float(commit.iloc[0]) if len(commit) else None,
                    "actual": model["actual"],
                    "is_inside": bool(model["inside_80"]),
                }
            )
    return found


def bands_of(chances: pd.DataFrame, say: Say) -> list[dict[str, Any]]:
    """The reliability diagram's points, each with its sentence."""
    if chances.empty:
        return []
    sentence = say.gettext(
        "Of the deals we gave %(low)s to %(high)s, %(came)s were won (n = %(n)s looks at %(deals)s deals)"
    )
    found = []
    for row in reliability(chances).to_dict("records"):
        words = {"low": say.percent(row["low"]), "high": say.percent(row["high"]), "came": say.percent(row["came"])}
        words |= {"n": say.number(row["scores"]), "deals": say.number(row["deals"])}
        point = {"said": row["said"], "came": row["came"], "low": row["came_low"], "high": row["came_high"]}
        found.append({**point, "n": int(row["scores"]), "deals": int(row["deals"]), "text": sentence % words})
    return found


def add_accuracy(api: FastAPI) -> None:
    """The page."""

    @api.get("/accuracy", include_in_schema=False)
    def accuracy(caller: Reader, state: Now, request: Request) -> Response:
        say, ledger = say_to(request), request.app.state.ledger
        record = request.app.state.track_record.of(state, ledger, baselines=True)
        rows = reviews_seen(record, state, caller)
        coverage = pd.DataFrame() if record.reviews is None else coverage_by_node(record.reviews)
        order = {name: place for place, name in enumerate(NODE_TYPES)}
        people = [user for user in state.known_owners if state.may_see_owner(caller.viewer, user)]
        calls = record.calls
        bias = pd.DataFrame() if calls is None else callers_bias(calls, people, least_cases=LEAST_CASES)
        biases = [
            {**row, "name": state.user_names.get(row["user_id"], row["user_id"])} for row in bias.to_dict("records")
        ]
        sight = pd.DataFrame() if calls is None or caller.viewer else calls_by_sight(ledger.calls(), calls)
        bands = bands_of(chances_seen(record, state, caller), say)
        return show(
            request,
            "accuracy.html",
            record=record,
            bands=bands,
            said_words={"said": say.gettext("Said"), "came": say.gettext("Won")},
            lines=lines_of(rows, say),
            quarters=quarters_of(rows, state),
            coverage=sorted(coverage.to_dict("records"), key=lambda row: (row["basis"], order[row["node_type"]])),
            biases=sorted(biases, key=lambda row: str(row["name"])),
            sight=sight.to_dict("records"),
            card=state.card,
            metrics=METRICS,
            versions=list_bundles(request.app.state.follower.workspace)[::-1],
            node_labels=NODE_LABELS,
            least_cases=LEAST_CASES,
        )
