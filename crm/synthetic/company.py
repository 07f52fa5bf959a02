"""The company that is simulated: its people, its fiscal quarters and its exchange rates.

Everything here follows from the configuration alone (who is hired when, who moves, what a currency is worth), so it is
the same in every fork.
"""

from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

from crm.calendar import Calendar
from crm.synthetic.config import (
    CURRENCY_LEVEL,
    DIRECTOR,
    EXECUTIVE,
    MANAGER,
    REGIONS,
    REP,
    STABLE_FIELDS,
    CompanyConfig,
    calendar_day,
    day_number,
)


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
