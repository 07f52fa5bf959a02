"""The switches of the company that is simulated, its vocabulary, and how its days are counted.

Days are whole numbers since 1970-01-01; instants are microseconds since then, UTC.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Literal

import pandas as pd

REGIONS = ("Americas", "EMEA", "APAC", "LATAM")
SEGMENTS = ("SMB", "Mid-market", "Enterprise")
DEAL_TYPES = ("new", "expansion", "renewal")
LEAD_SOURCES = ("inbound", "outbound", "event", "partner", "referral")
INDUSTRIES = ("Manufacturing", "Software", "Retail", "Finance", "Health care", "Logistics")
COMPETITORS = ("Northwind", "Contoso", "Fabrikam")
CATEGORIES = ("pipeline", "best_case", "most_likely", "commit", "closed", "omitted")
LOSS_REASONS = ("price", "no decision", "competitor", "no budget", "missing feature")
CURRENCY_LEVEL = {"USD": 1.0, "EUR": 1.1, "GBP": 1.27, "CHF": 1.12, "JPY": 0.0067, "SEK": 0.095, "CAD": 0.73}

STABLE_FIELDS = ("name", "account_id", "owner_id", "pipeline", "deal_type", "lead_source", "currency")

EXECUTIVE, DIRECTOR, MANAGER, REP = "executive", "director", "manager", "rep"


@dataclass(frozen=True)
class CompanyConfig:
    """A company and how its CRM is kept.

    The switches of recording (`log_closings`, `initial_rows`, `tracked_from`, `migration_on`, `late_logging`) change
    only what an export shows, never what happens: the same deals live the same lives.

    Attributes
    ----------
    seed : everything random follows from it.
    start, days : first simulated local day; length of the default simulation in days (`end` = start + days, exclusive).
    n_reps, n_teams, n_regions : sales reps, teams (a manager each), regions (a director each); one executive above.
    deals_per_week : deals created in an average week, renewals not counted.
    time_zone, fiscal_year_start_month : of the company; the day and the fiscal quarter begin by them.
    log_closings : closing sets the stage, and overwrites close_date (closing day), forecast_category and a won amount
        (invoiced). "all" = each with a history row; "stage_only" = only the stage has one; "silent" = not even the
        stage, only closed_at tells.
    initial_rows : whether history holds a field's first value.
    tracked_from : history rows before this day do not exist.
    migration_on : in the night that begins this day the CRM was filled from an older one: deals created before show it
        as created_at, the history of those then open begins there, and those closed before have none.
    regime_shift_on : from this day buyers decide more slowly and say no more often.
    currencies : first = base currency; further ones are used by the regions after the first.
    team_moves : some reps change team, half of their open deals are handed to a former colleague.
    renewals : every won deal comes up for renewal after a year, in a pipeline of its own.
    reopened_wins : about 4 % of wins are cancelled within 60 days and worked on again.
    late_logging : a tenth of the activities is logged days after it happened.
    missing_amounts : share of deals whose amount is not entered before they are won, 0..1.
    """

    seed: int = 1
    start: date = date(2023, 1, 2)
    days: int = 1096
    n_reps: int = 24
    n_teams: int = 4
    n_regions: int = 2
    deals_per_week: float = 32.0
    time_zone: str = "UTC"
    fiscal_year_start_month: int = 1
    log_closings: Literal["all", "stage_only", "silent"] = "stage_only"
    initial_rows: bool = True
    tracked_from: date | None = None
    migration_on: date | None = None
    regime_shift_on: date | None = None
    currencies: tuple[str, ...] = ("USD",)
    team_moves: bool = False
    renewals: bool = False
    reopened_wins: bool = False
    late_logging: bool = True
    missing_amounts: float = 0.04

    def __post_init__(self) -> None:
        if not 1 <= self.n_regions <= min(self.n_teams, len(REGIONS)) or self.n_teams > self.n_reps:
            raise ValueError("A company needs 1 to 4 regions, a team or more in each, a rep or more in each team.")

    @property
    def end(self) -> date:
        """First day after the default simulation."""
        return self.start + timedelta(days=self.days)


def day_number(day: date) -> int:
    """Whole days since 1970-01-01."""
    return (day - date(1970, 1, 1)).days


def calendar_day(number: int) -> date:
    """The date of a day number."""
    return date(1970, 1, 1) + timedelta(days=int(number))


def is_business_day(number: int) -> bool:
    """Monday to Friday."""
    return (number + 3) % 7 < 5


@lru_cache(maxsize=10_000)
def day_start(number: int, time_zone: str) -> int:
    """Instant (µs, UTC) from which the seconds of a local business day count.

    Counted back from noon, so that an hour of the day is right on the days clocks change.
    """
    noon = pd.Timestamp(calendar_day(number)).replace(hour=12).tz_localize(time_zone)
    return int(noon.tz_convert("UTC").timestamp() - 12 * 3600) * 1_000_000
