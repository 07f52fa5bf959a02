"""Deals to talk about: where the rep and the model disagree most in money, and what stands out about each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from fastapi import FastAPI, Request
from starlette.responses import Response

from crm.plain import to_plain
from serving.given import Now, Reader
from serving.pages.deal import CATEGORIES
from serving.pages.frame import say_to, show_or_part
from serving.pages.tables import answer_csv
from serving.pages.words import Say, later
from serving.pipeline import visible_deals
from serving.said import scores_told

VIEWS = {
    "disagree": later("Rep and model disagree"),
    "slip": later("Likely to slip"),
    "upside": later("Likely upside"),
    "stalled": later("Stalled"),
    "pushed": later("Pushed"),
    "silent": later("Silent"),
    "single_threaded": later("Single-threaded"),
    "all": later("All open deals"),
}
RULES = {
    "disagree": later(
        "The rep counts the deal for this period and the model finds it less likely than not; or the other way round."
    ),
    "slip": later("Due this period, and more likely than not still open when it ends."),
    "upside": later("Not counted by the rep, and likelier this period than half of what reps count."),
    "stalled": later("Two weeks or more in its stage, and more than twice as long as deals won from it."),
    "pushed": later("Its close date moved later twice or more, and more often than of deals won from its stage."),
    "silent": later(
        "No word from the buyer for two weeks or more, and more than twice as long as deals won from its stage."
    ),
    "single_threaded": later("A month old or more, and at most one person of the buyer ever took part."),
    "all": later("Everything that is open."),
}
SORTS = {
    "gap": (later("Disagreement"), "gap"),
    "worth": (later("Amount"), "worth"),
    "probability": (later("Won this period"), "period_win_probability"),
    "change": (later("Change, in points"), "score_change"),
    "close_date": (later("Close date"), "close_date"),
    "name": (later("Deal"), "name"),
}
"""What the list may be sorted by: its label and its column; money and changes by their size."""
ASCENDING = ("close_date", "name")
BY_SIZE = ("gap", "change")
FILTERS = {
    "team": (later("Team"), "team"),
    "type": (later("Type"), "deal_type"),
    "segment": (later("Segment"), "segment"),
}
HIDDEN_FILTERS = {"owner": "owner_id", "account": "account_id"}
"""Filters that only links set."""
PAGE = 50
EXPORTED = (
    *("deal_id", "name", "account", "owner", "team", "deal_type", "segment", "stage", "category", "close_date"),
    *("amount_base", "expected_amount", "win_probability", "period_win_probability", "period_slip_probability"),
    *("expected_close_date", "score_change", "said", "expected", "gap"),
    *("stalled_value", "stalled_usual", "pushed_value", "pushed_usual", "silent_value", "silent_usual"),
    *("single_threaded_value", "single_threaded_usual"),
)


@dataclass(frozen=True)
class Asked:
    """What of the list was asked for; names that do not exist stand for the first."""

    view: str
    sort: str
    page: int
    filters: Mapping[str, str]

    @staticmethod
    def of(query: Mapping[str, str]) -> "Asked":
        """Read a query."""
        view, sort, page = query.get("view", ""), query.get("sort", ""), query.get("page", "")
        wanted = {name: query.get(name, "") for name in (*FILTERS, *HIDDEN_FILTERS)}
        return Asked(
            view if view in VIEWS else "disagree",
            sort if sort in SORTS else "gap",
            max(int(page), 1) if page.isascii() and page.isdecimal() and len(page) < 7 else 1,
            {name: value for name, value in wanted.items() if value},
        )


def add_deals(api: FastAPI) -> None:
    """The list, and the same as a file."""

    @api.get("/deals", include_in_schema=False)
    def deals(caller: Reader, state: Now, request: Request) -> Response:
        asked = Asked.of(request.query_params)
        everything = visible_deals(state, caller.viewer)
        filtered = matching(everything, asked.filters)
        found = in_order(of_view(filtered, asked.view), asked.sort)
        pages = max(-(-len(found) // PAGE), 1)
        page = min(asked.page, pages)
        shown = found.iloc[PAGE * (page - 1) : PAGE * page]
        request.app.state.readings.told(caller, scores_told([{"deal_id": deal_id} for deal_id in shown.index]))
        return show_or_part(
            request,
            "deals.html",
            "deals_list.html",
            asked=asked,
            views=VIEWS,
            rules=RULES,
            tabs=tabs_of(filtered),
            sums=sums_of(found),
            rows=rows_told(say_to(request), shown),
            page=page,
            pages=pages,
            sorts={name: label for name, (label, _) in SORTS.items()},
            choices=choices_of(everything),
            filter_labels={name: label for name, (label, _) in FILTERS.items()},
            linked=linked_filters(everything, asked),
            categories=CATEGORIES,
            period=state.tables.calendar.period_of(state.as_of),
            any_deals=len(everything) > 0,
        )

    @api.get("/deals.csv", include_in_schema=False)
    def deals_csv(caller: Reader, state: Now, request: Request) -> Response:
        asked = Asked.of(request.query_params)
        rows = matching(visible_deals(state, caller.viewer), asked.filters)
        found = in_order(of_view(rows, asked.view), asked.sort)
        request.app.state.readings.told(caller, scores_told([{"deal_id": deal_id} for deal_id in found.index]))
        values = zip(*(map(to_plain, found.reset_index()[name]) for name in EXPORTED), strict=True)
        return answer_csv(values, EXPORTED, name=f"deals-{asked.view}")


def matching(rows: pd.DataFrame, filters: Mapping[str, str]) -> pd.DataFrame:
    """The rows that fit every filter."""
    columns = {**{name: column for name, (_, column) in FILTERS.items()}, **HIDDEN_FILTERS}
    for name, value in filters.items():
        rows = rows[(rows[columns[name]] == value).fillna(False).astype(bool)]
    return rows


def of_view(rows: pd.DataFrame, view: str) -> pd.DataFrame:
    """The rows of a view."""
    return rows if view == "all" else rows[rows[view]]


def in_order(rows: pd.DataFrame, sort: str) -> pd.DataFrame:
    """The rows as they are to be read: the most first, days and names from the front; unknown last."""
    column = rows[SORTS[sort][1]]
    keys = column.abs() if sort in BY_SIZE else column
    order = keys.sort_values(ascending=sort in ASCENDING, kind="stable", na_position="last").index
    return rows.loc[order]


def tabs_of(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """How many deals each view has, and what they are worth."""
    found = {view: of_view(rows, view)["worth"] for view in VIEWS}
    return {view: {"deals": len(worth), "worth": float(worth.sum())} for view, worth in found.items()}


def sums_of(rows: pd.DataFrame) -> dict[str, float]:
    """The sums over all rows of the list, not only those of the page."""
    return {
        "deals": len(rows),
        **{name: float(rows[name].sum()) for name in ("worth", "said", "expected", "gap")},
    }


def choices_of(rows: pd.DataFrame) -> dict[str, list[str]]:
    """What each filter may be set to: what the deals that the caller sees have."""
    return {name: sorted(rows[column].dropna().unique()) for name, (_, column) in FILTERS.items()}


def linked_filters(rows: pd.DataFrame, asked: Asked) -> dict[str, str]:
    """The filters that links set, with the name that is shown for each."""
    named = {}
    for name, column in HIDDEN_FILTERS.items():
        if name in asked.filters:
            found = rows.loc[(rows[column] == asked.filters[name]).fillna(False).astype(bool), name]
            named[name] = str(found.iloc[0]) if len(found) else asked.filters[name]
    return named


def rows_told(say: Say, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows with what stands out about each in words: the number, and what was usual."""
    return [{**row, "signals": signals_told(say, row)} for row in rows.reset_index().to_dict("records")]


def signals_told(say: Say, row: Mapping[str, Any]) -> list[dict[str, str]]:
    """What stands out about a deal."""
    told = []
    texts = {
        "stalled": later("%(value)s days in stage, usually %(usual)s"),
        "pushed": later("%(value)s pushes, usually %(usual)s"),
        "silent": later("no word for %(value)s days, usually %(usual)s"),
        "single_threaded": later("buyer's people: %(value)s, usually %(usual)s"),
    }
    for name, text in texts.items():
        if row[name]:
            numbers = {"value": say.number(row[f"{name}_value"]), "usual": say.number(row[f"{name}_usual"])}
            told.append({"name": name, "label": say.gettext(VIEWS[name]), "text": say.gettext(text) % numbers})
    return told
