"""The company's one past: simulated day by day, and continued or forked from any day."""

from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property

import numpy as np

from crm.synthetic.company import Company
from crm.synthetic.config import CompanyConfig, calendar_day, day_number
from crm.synthetic.deals import OPEN, Rows, World, empty_world
from crm.synthetic.journal import Journal, Workday, nothing_seen
from crm.synthetic.law import business_days, live_one_day
from crm.synthetic.recording import record

_LIVE, _RECORD, _BEGIN = 1, 2, 3


@dataclass(frozen=True)
class CompanyState:
    """A company at the midnight that begins local day `day` (whole days since 1970): the truth and what the CRM holds.

    Never altered: what continues it makes a new state. `stream` seeds the days to come; a fork has another one.
    """

    config: CompanyConfig
    company: Company
    day: int
    world: World
    seen: Rows
    journal: Journal
    stream: tuple[int, ...]

    @property
    def on(self) -> date:
        """The local day that begins now."""
        return calendar_day(self.day)

    def fork(self, seed: int) -> "CompanyState":
        """The same company now, with another future."""
        return replace(self, stream=(*self.stream, self.day, seed))

    def advance(self, until: date) -> "CompanyState":
        """The company at the midnight that begins `until`; a state keeps what it was."""
        world, journal = self.world.copy(), self.journal.copy()
        seen = {name: values.copy() for name, values in self.seen.items()}
        end = day_number(until)
        for day in business_days(self.day, end):
            happened = live_one_day(self.company, world, day, np.random.default_rng([*self.stream, _LIVE, day]))
            world.rows["deal"][happened.created] = happened.created
            rng = np.random.default_rng([*self.stream, _RECORD, day])
            record(Workday(self.company, world, seen, journal, day, rng), happened)
        return replace(self, day=max(end, self.day), world=world, seen=seen, journal=journal)

    @cached_property
    def open_deals(self) -> np.ndarray:
        """Row numbers of the deals open now."""
        return np.flatnonzero(self.world.rows["status"] == OPEN)


def simulate(config: CompanyConfig, until: date | None = None) -> CompanyState:
    """Simulate a company from its start to the midnight that begins `until` (default: the configured end).

    The state on a day does not depend on how much further the company is simulated.
    """
    company = Company(config)
    world = empty_world(company, np.random.default_rng([config.seed, _BEGIN]))
    begun = CompanyState(config, company, day_number(config.start), world, nothing_seen(), Journal(), (config.seed,))
    return begun.advance(until or config.end)
