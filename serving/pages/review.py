"""The forecast review: what a period will bring, node by node, as it stands now or as it stood at a past moment."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pandas as pd
from fastapi import FastAPI, Request
from starlette.responses import Response

from crm.calendar import Calendar, Period
from crm.errors import Detail, UsageError
from crm.hierarchy import COMPANY
from ledger.ledger import Ledger
from models.outlook import Outlook, outlook_then
from serving.auth import Caller
from serving.given import Now, Reader, wall_clock
from serving.pages.frame import show
from serving.said import nodes_told
from serving.state import State


@dataclass(frozen=True)
class Looking:
    """From when a viewer looks at which period; `is_now`: not at a past moment."""

    period: Period
    at: pd.Timestamp
    is_now: bool


def looking(calendar: Calendar, now: pd.Timestamp, data_moment: pd.Timestamp, query: Any) -> Looking:
    """The period and the moment that a page was asked for: by default the current ones.

    A day stands for its end; one that the data have not reached the end of is now.

    Raises
    ------
    UsageError
        No day, or no period starts there.
    """
    day = day_asked(query, "as_of")
    is_now = day is None or day >= calendar.local_day(data_moment)
    at = now if day is None or is_now else calendar.midnight(day + timedelta(days=1))
    start = day_asked(query, "period")
    period = calendar.period_of(data_moment if is_now else at) if start is None else calendar.period_starting(start)
    return Looking(period, at, is_now)


def day_asked(query: Any, name: str) -> date | None:
    """A day of the query, None where it names none.

    Raises
    ------
    UsageError
        It is not a day.
    """
    text = query.get(name) or None
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        detail = Detail(name, text[:40], "a day as YYYY-MM-DD", "correct it, or leave it out")
        raise UsageError("That is no day.", detail) from None


def outlook_now(state: State, ledger: Ledger, period: Period) -> Outlook:
    """A period as it stands, exactly as `POST /v1/forecast` tells it; `published` if it was published like that."""
    nodes = state.forecast(period)
    heads = ledger.publications(
        "forecast", basis="published", period_start=pd.Timestamp(period.start), as_of=state.as_of
    )
    said = [head for head in heads if head.model_version == state.bundle.model_version]
    published_at = said[-1].published_at if said else None
    basis = "published" if said else "live"
    return Outlook(period, state.as_of, basis, published_at, state.bundle.model_version, nodes)


def outlook_asked(state: State, ledger: Ledger, at: Looking) -> Outlook | None:
    """The outlook that a viewer looks at; None where the ledger has none for that moment."""
    return outlook_now(state, ledger, at.period) if at.is_now else outlook_then(ledger, at.period, at.at)


def visible_rows(state: State, outlook: Outlook, caller: Caller) -> pd.DataFrame:
    """The outlook's rows that the caller may see."""
    return state.visible_nodes(outlook.nodes, caller.user_id)


def add_review(api: FastAPI) -> None:
    """The page."""

    @api.get("/review", include_in_schema=False)
    def review(caller: Reader, state: Now, request: Request) -> Response:
        ledger = request.app.state.ledger
        at = looking(state.tables.calendar, wall_clock(), state.as_of, request.query_params)
        outlook = outlook_asked(state, ledger, at)
        rows = None if outlook is None else visible_rows(state, outlook, caller)
        if rows is not None:
            request.app.state.readings.told(caller, nodes_told(at.period, rows))
        return show(request, "review.html", at=at, outlook=outlook, rows=rows, company=COMPANY)
