"""How deals live, one business day at a time: the law that both the one real past and the K imagined futures follow.

A deal is a row of equally long arrays. `fit` (how well the offer suits the buyer, fixed) and `momentum` (returns to .6 fit,
wanders) are hidden, and so are `buyer_day` (when the buyer means to decide), `dead` (the buyer said no, the rep has not closed
the deal: a zombie) and the shocks that company, region and team share. Intensities are per business day and multiply:

    win     stage × exp(.45 fit + .75 momentum + skill - .45 competitor + shocks) × nearness of buyer_day × quarter end × season
    loss    stage × exp(-.3 fit - .5 momentum + .25 competitor - .5 shocks)
    advance stage × segment × exp(.45 momentum + .2 fit + .5 shocks)

Weekends are quiet. No CRM field but stage, amount, competitor and owner takes part: what else is written down (close date,
category, activities) only reflects the deal, so the futures need not imagine it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from crm.synthetic.company import COMPETITORS, Company, calendar_day, day_number, is_business_day

Rows = dict[str, np.ndarray]

OPEN, WON, LOST = 0, 1, 2
NEW, EXPANSION, RENEWAL = 0, 1, 2
OPEN_STAGES = (
    ("Prospecting", "Qualification", "Needs analysis", "Proposal", "Negotiation", "Verbal commit"),
    ("Renewal due", "Review", "Quote", "Verbal commit"),
)
REOPENED_STAGE = np.array([4, 2])
LAST_STAGE = np.array([5, 3])

_WIN = np.array([[0.0001, 0.0001, 0.0002, 0.0005, 0.0022, 0.0125], [0.004, 0.010, 0.020, 0.060, 0.0, 0.0]])
_LOSS = np.array([[0.0120, 0.0120, 0.0115, 0.0110, 0.0100, 0.0065], [0.0010, 0.0014, 0.0014, 0.0010, 0.0, 0.0]])
_ADVANCE = np.array([[0.080, 0.060, 0.048, 0.042, 0.032, 0.0], [0.050, 0.060, 0.070, 0.0, 0.0, 0.0]])
_RETREAT = 0.003

_SEGMENT_SHARE = np.cumsum([0.45, 0.35, 0.20])
_SOURCE_SHARE = np.cumsum([0.30, 0.30, 0.10, 0.15, 0.15])
_SOURCE_FIT = np.array([0.15, -0.25, -0.05, 0.15, 0.45])
_PACE = np.array([1.35, 1.0, 0.72])
_CYCLE_DAYS = np.array([55.0, 85.0, 125.0])
_LOG_AMOUNT = np.log([9_000.0, 32_000.0, 110_000.0])
_SEASON_OF_DECISIONS = np.array([0.95, 1.0, 1.05, 1.0, 1.0, 1.1, 0.9, 0.75, 1.05, 1.05, 1.05, 1.0])
_SEASON_OF_ARRIVALS = np.array([1.05, 1.05, 1.1, 1.0, 1.0, 0.95, 0.85, 0.7, 1.1, 1.15, 1.05, 0.75])

_SHOCK_MEMORY = 0.985
_SHOCK_SIZE = (0.026, 0.020, 0.020)  # of a day: company, region, team; 0.15, 0.12, 0.12 in the long run

REOPEN_WITHIN_DAYS = 60
_REOPEN_INTENSITY = 0.0010
_RENEWAL_NOTICE_DAYS = (255, 285)


@dataclass
class World:
    """What is true at the end of a day, in `futures` parallel worlds: deals (one row each) and shocks (futures, 1+regions+teams)."""

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


@dataclass(frozen=True)
class DayEvents:
    """Row numbers of the deals to which something happened on a day."""

    created: np.ndarray
    moved: np.ndarray
    slipped: np.ndarray
    repriced: np.ndarray
    met_competitor: np.ndarray
    won: np.ndarray
    lost: np.ndarray
    reopened: np.ndarray
    handed_over: np.ndarray


def empty_world(company: Company, rng: np.random.Generator) -> World:
    """No deals yet; shocks from their long-run distribution."""
    long_run = _shock_sizes(company) / np.sqrt(1 - _SHOCK_MEMORY**2)
    return World(_arrive(company, np.array([], np.int32), 0, rng), rng.normal(0.0, long_run)[None, :])


def can_change(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which rows the coming days may still touch: open deals, and wins that can be cancelled or are still to be renewed."""
    return (rows["status"] == OPEN) | ((rows["status"] == WON) & ((rows["reopen_until"] > 0) | (rows["renewal_day"] > 0)))


def live_one_day(company: Company, world: World, day: int, rng: np.random.Generator) -> DayEvents:
    """Advance `world` in place by one business day and tell what happened.

    A win, a loss and a stage move exclude each other on a day; a deal created on the day does nothing more on it.
    """
    rows = world.rows
    _drift_shocks(company, world, rng)
    handed_over = _hand_over(company, rows, day, rng)
    reopened = _reopen(rows, day, rng) if company.config.reopened_wins else np.array([], np.int64)
    open_rows = np.flatnonzero(rows["status"] == OPEN)
    slipped, repriced, met_competitor = _wander(rows, open_rows, day, rng)
    deciding = open_rows[~np.isin(open_rows, reopened)] if len(reopened) else open_rows
    moved, won, lost = _decide(company, world, deciding, day, rng)
    created = _create(company, world, day, rng)
    return DayEvents(created, moved, slipped, repriced, met_competitor, won, lost, reopened, handed_over)


def business_days(first: int, end: int) -> list[int]:
    """The Mondays to Fridays in `[first, end)`."""
    return [day for day in range(first, end) if is_business_day(day)]


def typical_quarter(company: Company) -> float:
    """Rough bookings of a quarter per rep in base currency: what quotas and gut feeling start from."""
    shares = np.diff(_SEGMENT_SHARE, prepend=0.0)
    deals_won = company.config.deals_per_week * 13 * 0.25
    return float(deals_won * (shares @ np.exp(_LOG_AMOUNT + 0.65**2 / 2)) * 0.9 / company.config.n_reps)


# -- what happens on a day -----------------------------------------------------------------------------------------------


def _shock_sizes(company: Company) -> np.ndarray:
    c = company.config
    return np.repeat(_SHOCK_SIZE, (1, c.n_regions, c.n_teams))


def _drift_shocks(company: Company, world: World, rng: np.random.Generator) -> None:
    world.shocks *= _SHOCK_MEMORY
    world.shocks += rng.normal(size=world.shocks.shape) * _shock_sizes(company)


def _shocks_of(company: Company, world: World, rows: np.ndarray, day: int) -> np.ndarray:
    """Sum of the shocks of company, region and team, as they bear on each row."""
    team = company.team_of_reps(day)[world.rows["owner"][rows]]
    region, future = company.region_of_team[team], world.rows["future"][rows]
    n_regions = company.config.n_regions
    summed = world.shocks[:, :1, None] + world.shocks[:, 1 : 1 + n_regions, None] + world.shocks[:, None, 1 + n_regions :]
    return summed[future, region, team]


def _hand_over(company: Company, rows: Rows, day: int, rng: np.random.Generator) -> np.ndarray:
    """When a rep moves to another team, about half of the open deals stay behind with a former colleague."""
    handed = []
    for move in company.moves:
        if move.day != day:
            continue
        team = company.team_of_reps(day)
        colleagues = np.flatnonzero((team == move.from_team) & (company.hired_day <= day))
        theirs = np.flatnonzero((rows["status"] == OPEN) & (rows["owner"] == move.rep))
        stays = theirs[rng.random(len(theirs)) < 0.5]
        if len(colleagues):
            rows["owner"][stays] = rng.choice(colleagues, len(stays))
            handed.append(stays)
    return np.unique(np.concatenate(handed)) if handed else np.array([], np.int64)


def _reopen(rows: Rows, day: int, rng: np.random.Generator) -> np.ndarray:
    """A few fresh wins are cancelled and worked on again."""
    fresh = np.flatnonzero(rows["reopen_until"] > 0)
    rows["reopen_until"][fresh[rows["reopen_until"][fresh] < day]] = 0
    fresh = fresh[(rows["reopen_until"][fresh] > 0) & (rng.random(len(fresh)) < _REOPEN_INTENSITY)]
    rows["status"][fresh] = OPEN
    rows["reopen_until"][fresh] = 0
    rows["renewal_day"][fresh] = 0
    rows["stage"][fresh] = REOPENED_STAGE[(rows["type"][fresh] == RENEWAL).astype(int)]
    rows["momentum"][fresh] -= 0.5
    rows["buyer_day"][fresh] = day + 30.0
    return fresh


def _wander(rows: Rows, at: np.ndarray, day: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Momentum moves, buyers put off their decision, prices change, competitors appear."""
    momentum = rows["momentum"][at]
    momentum += 0.03 * (0.6 * rows["fit"][at] - momentum) + 0.13 * rng.standard_normal(len(at))
    rows["momentum"][at] = momentum
    chance = rng.random((2, len(at)))

    due = rows["buyer_day"][at] - day < 3
    puts_off = np.where(due, 0.10, 0.004) * np.exp(-0.4 * momentum - 0.2 * rows["fit"][at]) > chance[0]
    slipped = at[puts_off & ~rows["dead"][at]]
    rows["buyer_day"][slipped] = day + 10.0 + rng.exponential(35.0, len(slipped))
    rows["momentum"][slipped] -= 0.15

    repriced = at[chance[1] < 0.008]
    rows["amount"][repriced] = np.round(rows["amount"][repriced] * np.exp(rng.normal(-0.03, 0.2, len(repriced))), -1)
    # The same draw from its other end: an offer is not repriced on the day a competitor appears.
    met = at[(chance[1] > 1 - 0.004) & (rows["competitor"][at] < 0)]
    rows["competitor"][met] = rng.integers(0, len(COMPETITORS), len(met))
    return slipped, repriced, met


def _decide(
    company: Company, world: World, at: np.ndarray, day: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stage moves, wins and losses of a day; a lost deal that its rep does not close becomes a zombie."""
    rows, pace_of_time = world.rows, _pace_of_time(company, day)
    momentum, fit, dead = rows["momentum"][at], rows["fit"][at], rows["dead"][at]
    stage, owner = rows["stage"][at], rows["owner"][at]
    pipeline = (rows["type"][at] == RENEWAL).astype(np.int8)
    rivalled = rows["competitor"][at] >= 0
    shock = _shocks_of(company, world, at, day)

    nearness = np.clip(np.exp((day - rows["buyer_day"][at]) / 30.0), 0.15, 1.3)
    win = _WIN[pipeline, stage] * pace_of_time["win"] * nearness
    win *= np.exp(0.45 * fit + 0.75 * momentum + company.skill[owner] - 0.45 * rivalled + shock)
    loss = _LOSS[pipeline, stage] * pace_of_time["loss"] * np.exp(-0.3 * fit - 0.5 * momentum + 0.25 * rivalled - 0.5 * shock)
    advance = _ADVANCE[pipeline, stage] * pace_of_time["advance"] * _PACE[rows["segment"][at]]
    advance *= np.exp(0.45 * momentum + 0.2 * fit + 0.5 * shock)
    retreat = _RETREAT * (stage > 0)
    # A zombie is closed as lost when its rep tidies up, mostly in the first days of a quarter.
    win[dead] = 0.0003
    loss[dead] = (0.004 + 0.022 * company.hygiene[owner[dead]]) * pace_of_time["tidying"]
    advance[dead] = retreat[dead] = 0.0

    total = win + loss + advance + retreat
    drawn = rng.random(len(at))
    happens = drawn < -np.expm1(-total)
    where = at[happens]
    # Which of the four, given that one happens: a second uniform number along their intensities.
    place = rng.random(len(where)) * total[happens]
    until_win, until_loss = win[happens], (win + loss)[happens]
    until_advance = until_loss + advance[happens]
    won = where[place < until_win]
    no_more = where[(place >= until_win) & (place < until_loss)]
    advanced = where[(place >= until_loss) & (place < until_advance)]
    retreated = where[place >= until_advance]

    left_open = ~rows["dead"][no_more] & (rng.random(len(no_more)) > 0.45 + 0.5 * company.hygiene[rows["owner"][no_more]])
    lost = no_more[~left_open]
    rows["dead"][no_more[left_open]] = True
    rows["stage"][advanced] += 1
    rows["stage"][retreated] -= 1
    _close(company, rows, won, lost, day, rng)
    return np.concatenate([advanced, retreated]), won, lost


def _close(
    company: Company, rows: Rows, won: np.ndarray, lost: np.ndarray, day: int, rng: np.random.Generator
) -> None:
    """Closing sets the invoiced amount, mostly below the one offered, and what may follow a win."""
    rows["status"][won], rows["status"][lost] = WON, LOST
    rows["closed_day"][won] = rows["closed_day"][lost] = day
    rows["dead"][won] = False
    cut = np.where(rng.random(len(won)) < 0.6, np.exp(rng.normal(-0.14, 0.12, len(won))), 1.0)
    rows["amount"][won] = np.maximum(np.round(rows["amount"][won] * cut, -1), 10.0)
    if company.config.reopened_wins:
        rows["reopen_until"][won] = day + REOPEN_WITHIN_DAYS
    if company.config.renewals:
        rows["renewal_day"][won] = day + rng.integers(*_RENEWAL_NOTICE_DAYS, len(won))


def _pace_of_time(company: Company, day: int) -> dict[str, float]:
    """Season, quarter end and regime as factors on the intensities of a day."""
    start, end = company.quarter(day)
    season = float(_SEASON_OF_DECISIONS[calendar_day(day).month - 1])
    rush = 1.0 + 1.6 * np.exp(-(end - day - 1) / 6.0) - 0.35 * np.exp(-(day - start) / 8.0)
    shifted = company.config.regime_shift_on
    is_new_regime = shifted is not None and day >= day_number(shifted)
    win, loss, advance = (0.65, 1.35, 0.8) if is_new_regime else (1.0, 1.0, 1.0)
    tidying = 3.0 if day - start < 10 else 0.8
    return {"win": win * season * rush, "loss": loss, "advance": advance * season, "tidying": tidying}


# -- new deals -----------------------------------------------------------------------------------------------------------


def _create(company: Company, world: World, day: int, rng: np.random.Generator) -> np.ndarray:
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
