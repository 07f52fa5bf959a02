"""What a deal is, and how deals come: the parallel worlds of deals, arrivals and renewals.

A deal is a row of equally long arrays. Hidden are `fit` (how well the offer suits the buyer, fixed), `momentum`,
`buyer_day` (when the buyer means to decide) and `dead` (the buyer said no, the rep has not closed the deal: a
zombie).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from crm.synthetic.company import Company
from crm.synthetic.config import calendar_day

Rows = dict[str, np.ndarray]

OPEN, WON, LOST = 0, 1, 2
NEW, EXPANSION, RENEWAL = 0, 1, 2
OPEN_STAGES = (
    ("Prospecting", "Qualification", "Needs analysis", "Proposal", "Negotiation", "Verbal commit"),
    ("Renewal due", "Review", "Quote", "Verbal commit"),
)

_SEGMENT_SHARE = np.cumsum([0.45, 0.35, 0.20])
_SOURCE_SHARE = np.cumsum([0.30, 0.30, 0.10, 0.15, 0.15])
_SOURCE_FIT = np.array([0.15, -0.25, -0.05, 0.15, 0.45])
_CYCLE_DAYS = np.array([55.0, 85.0, 125.0])
_LOG_AMOUNT = np.log([9_000.0, 32_000.0, 110_000.0])
_SEASON_OF_ARRIVALS = np.array([1.05, 1.05, 1.1, 1.0, 1.0, 0.95, 0.85, 0.7, 1.1, 1.15, 1.05, 0.75])

_SHOCK_MEMORY = 0.985
_SHOCK_SIZE = (0.026, 0.020, 0.020)  # of a day: company, region, team; 0.15, 0.12, 0.12 in the long run


@dataclass
class World:
    """What is true at the end of a day in one or more parallel worlds.

    `rows` holds the deals of all of them, column by column; `future` tells which world a deal belongs to. `shocks` are
    log-intensities, (worlds, 1 + regions + teams).
    """

    rows: Rows
    shocks: np.ndarray

    @property
    def futures(self) -> int:
        """Number of parallel worlds."""
        return len(self.shocks)

    def copy(self) -> "World":
        """The same world with arrays of its own."""
        return World({name: values.copy() for name, values in self.rows.items()}, self.shocks.copy())

    def repeated(self, futures: int) -> "World":
        """One world as many: what can still change (open deals, wins that may reopen or renew), once per future."""
        alive = np.flatnonzero(can_change(self.rows))
        rows = {name: np.tile(values[alive], futures) for name, values in self.rows.items()}
        rows["future"] = np.repeat(np.arange(futures, dtype=np.int32), len(alive))
        return World(rows, np.repeat(self.shocks, futures, axis=0))


def empty_world(company: Company, rng: np.random.Generator) -> World:
    """No deals yet; shocks from their long-run distribution."""
    long_run = _shock_sizes(company) / np.sqrt(1 - _SHOCK_MEMORY**2)
    return World(_arrive(company, np.array([], np.int32), 0, rng), rng.normal(0.0, long_run)[None, :])


def can_change(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which rows the coming days may touch: open deals, and wins that can be cancelled or are still to be renewed."""
    return (rows["status"] == OPEN) | (rows["reopen_until"] > 0) | (rows["renewal_day"] > 0)


def typical_quarter(company: Company) -> float:
    """Rough bookings of a quarter per rep in base currency: what quotas and gut feeling start from."""
    shares = np.diff(_SEGMENT_SHARE, prepend=0.0)
    deals_won = company.config.deals_per_week * 13 * 0.25
    return float(deals_won * (shares @ np.exp(_LOG_AMOUNT + 0.65**2 / 2)) * 0.9 / company.config.n_reps)


def drift_shocks(company: Company, world: World, rng: np.random.Generator) -> None:
    """What company, region and team share returns slowly to nothing and wanders."""
    world.shocks *= _SHOCK_MEMORY
    world.shocks += rng.normal(size=world.shocks.shape) * _shock_sizes(company)


def _shock_sizes(company: Company) -> np.ndarray:
    return np.repeat(_SHOCK_SIZE, (1, company.config.n_regions, company.config.n_teams))


def create(company: Company, world: World, day: int, rng: np.random.Generator) -> np.ndarray:
    """The day's new deals, and the renewals whose notice falls due; returns their row numbers."""
    before = len(world.rows["status"])
    season = _SEASON_OF_ARRIVALS[calendar_day(day).month - 1]
    expected = company.config.deals_per_week / 5.0 * season * np.exp(0.5 * world.shocks[:, 0])
    future = np.repeat(np.arange(world.futures, dtype=np.int32), rng.poisson(expected))
    arrivals = _arrive(company, future, day, rng)
    if company.config.renewals:
        due = np.flatnonzero((world.rows["renewal_day"] > 0) & (world.rows["renewal_day"] <= day))
        renewing = _renew(company, {name: values[due] for name, values in world.rows.items()}, day, rng)
        world.rows["renewal_day"][due] = 0
        arrivals = {name: np.concatenate([values, renewing[name]]) for name, values in arrivals.items()}
    world.rows = {name: np.concatenate([values, arrivals[name]]) for name, values in world.rows.items()}
    return np.arange(before, len(world.rows["status"]))


def _arrive(company: Company, future: np.ndarray, day: int, rng: np.random.Generator) -> Rows:
    """New-business and expansion deals, one per entry of `future`."""
    n, hired = len(future), np.flatnonzero(company.hired_day <= day)
    segment = np.searchsorted(_SEGMENT_SHARE, rng.random(n)).astype(np.int8)
    source = np.searchsorted(_SOURCE_SHARE, rng.random(n)).astype(np.int8)
    kind = np.where(rng.random(n) < 0.28, EXPANSION, NEW).astype(np.int8)
    fit = rng.normal(_SOURCE_FIT[source] + 0.5 * (kind == EXPANSION), 1.0)
    owner = hired[rng.integers(0, len(hired), n)].astype(np.int16) if n else np.zeros(0, np.int16)
    region = company.region_of_team[company.team_of_reps(day)[owner]]
    currency = company.currency_of_region(region).astype(np.int8)
    level = company.rate(day)[currency]
    amount = np.exp(rng.normal(_LOG_AMOUNT[segment] - 0.25 * (kind == EXPANSION), 0.65)) / level
    cycle = _CYCLE_DAYS[segment] * np.where(kind == EXPANSION, 0.7, 1.0) * np.exp(rng.normal(0.0, 0.4, n))
    # Some deals enter the CRM only when they are nearly done: most of what is created and closed within a quarter.
    found_late = rng.random(n) < 0.07
    cycle *= np.where(found_late, 0.25, 1.0)
    stage = np.where(found_late, rng.integers(3, 5, n), rng.random(n) < 0.2).astype(np.int8)
    return {
        "future": future,
        "owner": owner,
        "segment": segment,
        "source": source,
        "type": kind,
        "currency": currency,
        "created_day": np.full(n, day, np.int32),
        "closed_day": np.zeros(n, np.int32),
        "fit": fit,
        "momentum": 0.4 * fit + rng.normal(0.0, 0.6, n),
        "buyer_day": day + cycle,
        "amount": np.maximum(np.round(amount, -1), 100.0),
        "stage": stage,
        "status": np.zeros(n, np.int8),
        "dead": np.zeros(n, bool),
        "competitor": np.full(n, -1, np.int8),
        "reopen_until": np.zeros(n, np.int32),
        "renewal_day": np.zeros(n, np.int32),
        "parent": np.full(n, -1, np.int32),
        "deal": np.full(n, -1, np.int32),
    }


def _renew(company: Company, won: Rows, day: int, rng: np.random.Generator) -> Rows:
    """Renewals of won deals, kept by the same rep, about the same amount."""
    n = len(won["deal"])
    rows = _arrive(company, won["future"], day, rng)
    kept = {name: won[name].copy() for name in ("owner", "segment", "source", "currency")}
    fit = 0.5 * won["fit"] + rng.normal(0.0, 0.8, n)
    return {
        **rows,
        **kept,
        "type": np.full(n, RENEWAL, np.int8),
        "fit": fit,
        "momentum": 0.4 * fit + rng.normal(0.0, 0.5, n),
        "buyer_day": day + rng.normal(85.0, 12.0, n),
        "amount": np.maximum(np.round(won["amount"] * np.exp(rng.normal(0.03, 0.1, n)), -1), 100.0),
        "stage": np.zeros(n, np.int8),
        "parent": won["deal"].copy(),
    }
