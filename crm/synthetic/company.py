"""The company that is simulated: its switches, its people, its fiscal quarters and its exchange rates.

Everything here follows from the configuration alone (who is hired when, who moves, what a currency is worth), so it
is the same in every fork. Days are whole numbers since 1970-01-01; instants are microseconds since then, UTC.
"""

from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
import pandas as pd

from crm.calendar import Calendar

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


@lru_cache(maxsize=10_000)
def _quarter(calendar: Calendar, day: int) -> tuple[int, int]:
    period = calendar.period_holding(calendar_day(day))
    return day_number(period.start), day_number(period.end)


@dataclass(frozen=True)
class Person:
    """A user of the CRM; `team` and `region` are indices, -1 where the person stands above them."""

    user_id: str
    name: str
    role: str
    manager: int
    team: int
    region: int
    hired_day: int
    mailbox_day: int


@dataclass(frozen=True)
class Move:
    """A rep changes team on a day."""

    day: int
    rep: int
    from_team: int
    to_team: int


_FIRST = [
    "Ana",
    "Ben",
    "Cleo",
    "Dara",
    "Emil",
    "Fay",
    "Gus",
    "Hana",
    "Ivo",
    "June",
    "Kai",
    "Lena",
    "Milo",
    "Nora",
    "Otto",
    "Pia",
]
_LAST = [
    "Adler",
    "Brook",
    "Costa",
    "Dahl",
    "Evans",
    "Frost",
    "Garcia",
    "Holm",
    "Ivanov",
    "Jensen",
    "Keller",
    "Lind",
    "Moreau",
]


@dataclass(frozen=True)
class Company:
    """The people and prices that follow from a configuration.

    `people` lists the reps first (index = rep), then managers (one per team), directors (one per region) and the
    executive. Per rep: `skill` (log-intensity of winning), `hygiene` (0..1, how promptly the CRM is kept), `bias`
    (optimism, log-odds), `effort` (log rate of activities). Per person: `call_bias` (log error of the calls made).
    """

    config: CompanyConfig
    people: tuple[Person, ...] = field(init=False)
    moves: tuple[Move, ...] = field(init=False)
    skill: np.ndarray = field(init=False)
    hygiene: np.ndarray = field(init=False)
    bias: np.ndarray = field(init=False)
    effort: np.ndarray = field(init=False)
    call_bias: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        c, rng = self.config, np.random.default_rng([self.config.seed, 0xC0])
        people = _hire(c, rng)
        traits = {
            "people": people,
            "skill": rng.normal(0.0, 0.3, c.n_reps),
            "hygiene": rng.beta(4.0, 2.0, c.n_reps),
            "bias": rng.normal(0.2, 0.45, c.n_reps),
            "effort": rng.normal(0.0, 0.25, c.n_reps),
            "call_bias": rng.normal(0.02, 0.10, len(people)),
        }
        for name, value in traits.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "moves", _plan_moves(c, people) if c.team_moves else ())

    @cached_property
    def calendar(self) -> Calendar:
        """How the company counts: fiscal quarters, time zone, and the fields that closing never overwrites."""
        return Calendar(
            base_currency=self.config.currencies[0],
            time_zone=self.config.time_zone,
            fiscal_year_start_month=self.config.fiscal_year_start_month,
            stable_fields=STABLE_FIELDS,
        )

    def quarter(self, day: int) -> tuple[int, int]:
        """Day numbers of the start and the (exclusive) end of the fiscal quarter that holds a day."""
        return _quarter(self.calendar, day)

    @cached_property
    def region_of_team(self) -> np.ndarray:
        """Region index of each team."""
        return np.arange(self.config.n_teams) * self.config.n_regions // self.config.n_teams

    @cached_property
    def user_ids(self) -> tuple[str, ...]:
        """User id of each person."""
        return tuple(p.user_id for p in self.people)

    @cached_property
    def hired_day(self) -> np.ndarray:
        """Day number each rep was hired."""
        return np.array([p.hired_day for p in self.people[: self.config.n_reps]])

    @cached_property
    def mailbox_day(self) -> np.ndarray:
        """Day number since which each person's mailbox is connected."""
        return np.array([p.mailbox_day for p in self.people])

    def reps_under(self, person: int, day: int) -> np.ndarray:
        """Rep indices a person answers for at the end of a day: a rep themselves, a manager the team, and so on up."""
        who, team = self.people[person], self.team_of_reps(day)
        if who.role == REP:
            return np.array([person])
        if who.role == MANAGER:
            return np.flatnonzero(team == who.team)
        if who.role == DIRECTOR:
            return np.flatnonzero(self.region_of_team[team] == who.region)
        return np.arange(self.config.n_reps)

    def team_of_reps(self, day: int) -> np.ndarray:
        """Team index of each rep at the end of a day."""
        team = np.array([p.team for p in self.people[: self.config.n_reps]])
        for move in self.moves:
            if move.day <= day:
                team[move.rep] = move.to_team
        return team

    @cached_property
    def _rates(self) -> np.ndarray:
        """Monthly rates to base, (50 years of months since the start, currencies)."""
        months, rates = 600, []
        for code in self.config.currencies:
            steps = np.random.default_rng([self.config.seed, 0xF8, *code.encode()]).normal(0.0, 0.02, months)
            level = CURRENCY_LEVEL.get(code, 1.0) / CURRENCY_LEVEL.get(self.config.currencies[0], 1.0)
            rates.append(np.ones(months) if code == self.config.currencies[0] else level * np.exp(np.cumsum(steps)))
        return np.round(np.stack(rates, axis=1), 6)

    def rate(self, day: int) -> np.ndarray:
        """Rate to base of each currency, valid on a day (a new rate on the first of each month)."""
        start, now = self.config.start, calendar_day(day)
        return self._rates[max(0, (now.year - start.year) * 12 + now.month - start.month)]

    def team_name(self, team: int) -> str:
        """Name of a team: its region and its number there."""
        region = int(self.region_of_team[team])
        number = team - int(np.searchsorted(self.region_of_team, region)) + 1
        return f"{REGIONS[region]} {number}"

    def currency_of_region(self, region: np.ndarray) -> np.ndarray:
        """Index of the currency a region sells in."""
        return np.minimum(region, len(self.config.currencies) - 1)


def _hire(config: CompanyConfig, rng: np.random.Generator) -> tuple[Person, ...]:
    """Reps first, then managers, directors and the executive; a fifth of the reps joins after the start."""
    start, n_reps, n_teams, n_regions = day_number(config.start), config.n_reps, config.n_teams, config.n_regions
    executive = n_reps + n_teams + n_regions
    people = []
    for index in range(executive + 1):
        if index < n_reps:
            team = index % n_teams
            role, manager, region = REP, n_reps + team, team * n_regions // n_teams
        elif index < n_reps + n_teams:
            team = index - n_reps
            region = team * n_regions // n_teams
            role, manager = MANAGER, n_reps + n_teams + region
        elif index < executive:
            role, manager, team, region = DIRECTOR, executive, -1, index - n_reps - n_teams
        else:
            role, manager, team, region = EXECUTIVE, -1, -1, -1
        joins_later = role == REP and index >= n_teams and rng.random() < 0.2
        hired = start + int(rng.integers(60, 700)) if joins_later else start - int(rng.integers(30, 1500))
        mailbox = max(hired, start + int(rng.integers(0, 240))) if rng.random() < 0.25 else max(hired, start - 30)
        name = f"{_FIRST[index * 7 % len(_FIRST)]} {_LAST[index * 5 % len(_LAST)]}"
        people.append(Person(f"005{index + 1:06d}", name, role, manager, team, region, hired, mailbox))
    return tuple(people)


def _plan_moves(config: CompanyConfig, people: tuple[Person, ...]) -> tuple[Move, ...]:
    """Two reps change team around every half-year, for 20 years."""
    rng = np.random.default_rng([config.seed, 0x70])
    start, team = day_number(config.start), [p.team for p in people[: config.n_reps]]
    moves: list[Move] = []
    if config.n_teams == 1:
        return ()
    for half_year in range(1, 41):
        for _ in range(2):
            day = start + half_year * 182 + int(rng.integers(-40, 40))
            day += (0, 0, 0, 0, 0, 2, 1)[(day + 3) % 7]
            rep = int(rng.integers(config.n_reps))
            to_team = int((team[rep] + rng.integers(1, config.n_teams)) % config.n_teams)
            if day > people[rep].hired_day and all(m.rep != rep or m.day < day for m in moves):
                moves.append(Move(day, rep, team[rep], to_team))
                team[rep] = to_team
    return tuple(moves)
