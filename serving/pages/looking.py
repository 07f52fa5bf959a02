"""At which period a viewer looks, from which moment, at which node and which deals: what the pickers of a page say."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pandas as pd
from fastapi import Request

from crm.calendar import Calendar, Period
from crm.errors import Detail, UsageError
from ledger.ledger import Ledger
from models.forecaster import BREAKDOWNS
from models.outlook import Outlook, outlook_then
from serving.given import wall_clock
from serving.pages.frame import price_at
from serving.state import State

PERIODS_OFFERED = 8
EVERYTHING = "all"


@dataclass(frozen=True)
class Looking:
    """From when a viewer looks at which period; `is_now`: not at a past moment.

    Attributes
    ----------
    day : the past day whose end is `at`; None now.
    scope : all deals, or those of one value: `deal_type=renewal`.
    """

    period: Period
    at: pd.Timestamp
    day: date | None
    scope: str

    @property
    def is_now(self) -> bool:
        """Whether what stands now is shown."""
        return self.day is None

    @property
    def breakdown(self) -> str | None:
        """The field by which deals are told apart."""
        return None if self.scope == EVERYTHING else self.scope.partition("=")[0]


def asked_of(request: Request, state: State) -> Looking:
    """What a request asks to look at; its money is told at the rates of the moment looked from, within the period."""
    at = looking(request.query_params, state, wall_clock())
    moment = max(min(at.at, state.as_of), at.period.start_at)
    price_at(request, min(moment, at.period.end_at - pd.Timedelta(1, "us")))
    return at


def looking(query: Mapping[str, str], state: State, now: pd.Timestamp) -> Looking:
    """What a page was asked for: by default all deals of the current period as they stand now.

    A day stands for its end; the day of the data's moment, and any later one, is now.

    Raises
    ------
    UsageError
        No day, no period that starts there, no breakdown.
    """
    calendar = state.tables.calendar
    day = day_asked(query, "as_of")
    day = None if day is None or day >= calendar.local_day(state.as_of) else day
    at = now if day is None else calendar.midnight(day + timedelta(days=1))
    start = day_asked(query, "period")
    here = calendar.period_of(state.as_of) if day is None else calendar.period_holding(day)
    scope = query.get("scope") or EVERYTHING
    if scope != EVERYTHING and scope.partition("=")[0] not in BREAKDOWNS:
        rule = f"all, or one of {', '.join(BREAKDOWNS)} with a value: deal_type=renewal"
        detail = Detail("scope", scope[:80], rule, "choose from the list")
        raise UsageError("Deals are not told apart like that.", detail)
    return Looking(here if start is None else calendar.period_starting(start), at, day, scope)


def day_asked(query: Mapping[str, str], name: str) -> date | None:
    """A day of the query, None where it names none.

    Raises
    ------
    UsageError
        It is not a day.
    """
    text = query.get(name)
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        detail = Detail(name, text[:40], "a day as YYYY-MM-DD", "correct it, or leave it out")
        raise UsageError("That is no day.", detail) from None


def outlook_asked(state: State, ledger: Ledger, at: Looking) -> Outlook | None:
    """The outlook that a viewer looks at; None where the ledger has none for that moment."""
    return outlook_now(state, ledger, at) if at.is_now else outlook_then(ledger, at.period, at.at)


def outlook_now(state: State, ledger: Ledger, at: Looking) -> Outlook:
    """A period as it stands, exactly as `POST /v1/forecast` tells it; `published` if it was published like that."""
    nodes = state.forecast(at.period, at.breakdown)
    start = pd.Timestamp(at.period.start)
    heads = ledger.publications("forecast", basis="published", period_start=start, as_of=state.as_of)
    said = [head.published_at for head in heads if head.model_version == state.bundle.model_version]
    basis = "published" if said else "live"
    published_at = said[-1] if said else None
    return Outlook(at.period, state.as_of, basis, published_at, state.bundle.model_version, nodes)


def periods_offered(calendar: Calendar, moment: pd.Timestamp) -> list[Period]:
    """The periods to choose from: the next one, this one, and the last few, the newest first."""
    period = calendar.next_period(calendar.period_of(moment))
    offered = [period]
    while len(offered) < PERIODS_OFFERED + 2:
        period = calendar.previous_period(period)
        offered.append(period)
    return offered


def scopes_offered(state: State, at: Looking) -> dict[str, list[tuple[str, str]]]:
    """The deals to choose from: by field, each value as (scope, value), from the open deals and their accounts."""
    deals = state.tables.get("deals")
    found: dict[str, list[tuple[str, str]]] = {}
    for name in BREAKDOWNS:
        values: Any = deals[name].dropna().unique() if name in deals else ()
        if name == "segment" and "segment" in state.tables.get("accounts"):
            values = state.tables.get("accounts")["segment"].dropna().unique()
        if len(values) > 1:
            found[name] = [(f"{name}={value}", str(value)) for value in sorted(values)]
    return found
