"""How deals live, one business day at a time: the law that the one real past and all imagined futures follow.

`momentum` returns to .6 fit (3 % of the way a day) and wanders (sd .13 a day). Intensities are per business day and
multiply:

    win      stage × exp(.45 fit + .75 momentum + skill - .45 competitor + shocks)
             × nearness of buyer_day × quarter end × season
    loss     stage × exp(-.3 fit - .5 momentum + .25 competitor - .5 shocks)
    advance  stage × segment × exp(.45 momentum + .2 fit + .5 shocks) × season
    put off  (.1 where the buyer's day is near, else .004) × exp(-.4 momentum - .2 fit)

A buyer's no leaves a zombie where the rep keeps the CRM badly. Weekends are quiet. Of what the CRM shows only stage,
amount, competitor and owner take part; close dates, categories and activities reflect a deal and never move it, so
that the futures need not imagine them.
"""

from dataclasses import dataclass

import numpy as np

from crm.synthetic.company import Company
from crm.synthetic.config import COMPETITORS, calendar_day, day_number, is_business_day
from crm.synthetic.deals import LOST, OPEN, RENEWAL, WON, Rows, World, create, drift_shocks

# Tables: (pipelines sales and renewals, stages), or one entry a segment.
_WIN = np.array([[0.0001, 0.0001, 0.0002, 0.0005, 0.0022, 0.0125], [0.004, 0.010, 0.020, 0.060, 0.0, 0.0]])
_LOSS = np.array([[0.0120, 0.0120, 0.0115, 0.0110, 0.0100, 0.0065], [0.0010, 0.0014, 0.0014, 0.0010, 0.0, 0.0]])
_ADVANCE = np.array([[0.080, 0.060, 0.048, 0.042, 0.032, 0.0], [0.050, 0.060, 0.070, 0.0, 0.0, 0.0]])
_RETREAT = 0.003

_PACE = np.array([1.35, 1.0, 0.72])
_SEASON_OF_DECISIONS = np.array([0.95, 1.0, 1.05, 1.0, 1.0, 1.1, 0.9, 0.75, 1.05, 1.05, 1.05, 1.0])

_REOPENED_STAGE = np.array([4, 2])
_REOPEN_WITHIN_DAYS = 60
_REOPEN_INTENSITY = 0.0010
_RENEWAL_NOTICE_DAYS = (255, 285)


@dataclass(frozen=True)
class DayEvents:
    """Row numbers of the deals to which something happened on a day."""

    created: np.ndarray
    moved: np.ndarray
    slipped: np.ndarray
    repriced: np.ndarray
    won: np.ndarray
    lost: np.ndarray
    reopened: np.ndarray
    handed_over: np.ndarray


def live_one_day(company: Company, world: World, day: int, rng: np.random.Generator) -> DayEvents:
    """Advance `world` in place by one business day and tell what happened.

    A win, a loss and a stage move exclude each other on a day; a deal created or reopened does nothing more on it.
    """
    rows = world.rows
    open_rows = np.flatnonzero(rows["status"] == OPEN)
    drift_shocks(company, world, rng)
    handed_over = _hand_over(company, rows, day, rng)
    slipped, repriced = _wander(rows, open_rows, day, rng)
    reopened = _reopen(rows, day, rng) if company.config.reopened_wins else open_rows[:0]
    moved, won, lost = _decide(company, world, open_rows, day, rng)
    created = create(company, world, day, rng)
    return DayEvents(created, moved, slipped, repriced, won, lost, reopened, handed_over)


def business_days(first: int, end: int) -> list[int]:
    """The Mondays to Fridays in `[first, end)`."""
    return [day for day in range(first, end) if is_business_day(day)]


# -- what happens on a day -----------------------------------------------------------------------------------------


def _shocks_of(company: Company, world: World, rows: np.ndarray, day: int) -> np.ndarray:
    """Sum of the shocks of company, region and team, as they bear on each row."""
    team = company.team_of_reps(day)[world.rows["owner"][rows]]
    region, future = company.region_of_team[team], world.rows["future"][rows]
    n_regions = company.config.n_regions
    shared, by_region, by_team = np.split(world.shocks, (1, 1 + n_regions), axis=1)
    return (shared[:, :, None] + by_region[:, :, None] + by_team[:, None, :])[future, region, team]


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
    rows["stage"][fresh] = _REOPENED_STAGE[(rows["type"][fresh] == RENEWAL).astype(int)]
    rows["momentum"][fresh] -= 0.5
    rows["buyer_day"][fresh] = day + 30.0
    return fresh


def _wander(rows: Rows, at: np.ndarray, day: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Momentum moves, competitors appear, buyers put off their decision, prices change; the rows of the latter two."""
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
    return slipped, repriced


def _decide(
    company: Company, world: World, at: np.ndarray, day: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stage moves, wins and losses of a day; a lost deal that its rep does not close becomes a zombie."""
    rows = world.rows
    win, loss, advance, retreat = _intensities(company, world, at, day)
    total = win + loss + advance + retreat
    happens = rng.random(len(at)) < -np.expm1(-total)
    where = at[happens]
    # Which of the four, given that one happens: a second uniform number along their intensities.
    place = rng.random(len(where)) * total[happens]
    until_win, until_loss = win[happens], (win + loss)[happens]
    until_advance = until_loss + advance[happens]
    won = where[place < until_win]
    no_more = where[(place >= until_win) & (place < until_loss)]
    advanced = where[(place >= until_loss) & (place < until_advance)]
    retreated = where[place >= until_advance]

    admits = 0.45 + 0.5 * company.hygiene[rows["owner"][no_more]]
    left_open = ~rows["dead"][no_more] & (rng.random(len(no_more)) > admits)
    lost = no_more[~left_open]
    rows["dead"][no_more[left_open]] = True
    rows["stage"][advanced] += 1
    rows["stage"][retreated] -= 1
    _close(company, rows, won, lost, day, rng)
    return np.concatenate([advanced, retreated]), won, lost


def _intensities(
    company: Company, world: World, at: np.ndarray, day: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of winning, losing, moving a stage on and moving one back, per business day, for the open deals `at`."""
    rows, pace = world.rows, _pace_of_time(company, day)
    momentum, fit, dead = rows["momentum"][at], rows["fit"][at], rows["dead"][at]
    stage, owner = rows["stage"][at], rows["owner"][at]
    pipeline = (rows["type"][at] == RENEWAL).astype(np.int8)
    rivalled = rows["competitor"][at] >= 0
    shock = _shocks_of(company, world, at, day)

    nearness = np.clip(np.exp((day - rows["buyer_day"][at]) / 30.0), 0.15, 1.3)
    liking = 0.45 * fit + 0.75 * momentum + company.skill[owner] - 0.45 * rivalled + shock
    win = _WIN[pipeline, stage] * pace.win * nearness * np.exp(liking)
    loss = _LOSS[pipeline, stage] * pace.loss * np.exp(-0.3 * fit - 0.5 * momentum + 0.25 * rivalled - 0.5 * shock)
    advance = _ADVANCE[pipeline, stage] * pace.advance * _PACE[rows["segment"][at]]
    advance *= np.exp(0.45 * momentum + 0.2 * fit + 0.5 * shock)
    retreat = _RETREAT * (stage > 0)
    # A zombie is closed as lost when its rep tidies up, mostly in the first days of a quarter.
    win[dead] = 0.0003
    loss[dead] = (0.004 + 0.022 * company.hygiene[owner[dead]]) * pace.tidying
    advance[dead] = retreat[dead] = 0.0
    return win, loss, advance, retreat


def _close(company: Company, rows: Rows, won: np.ndarray, lost: np.ndarray, day: int, rng: np.random.Generator) -> None:
    """Closing sets the invoiced amount, mostly below the one offered, and what may follow a win."""
    rows["status"][won], rows["status"][lost] = WON, LOST
    rows["closed_day"][won] = rows["closed_day"][lost] = day
    rows["dead"][won] = False
    cut = np.where(rng.random(len(won)) < 0.6, np.exp(rng.normal(-0.14, 0.12, len(won))), 1.0)
    rows["amount"][won] = np.maximum(np.round(rows["amount"][won] * cut, -1), 10.0)
    if company.config.reopened_wins:
        rows["reopen_until"][won] = day + _REOPEN_WITHIN_DAYS
    if company.config.renewals:
        rows["renewal_day"][won] = day + rng.integers(*_RENEWAL_NOTICE_DAYS, len(won))


@dataclass(frozen=True)
class _Pace:
    """Factors of a day on the intensities; `tidying` on the closing of zombies."""

    win: float
    loss: float
    advance: float
    tidying: float


def _pace_of_time(company: Company, day: int) -> _Pace:
    """Season, quarter end and regime."""
    start, end = company.quarter(day)
    season = float(_SEASON_OF_DECISIONS[calendar_day(day).month - 1])
    rush = 1.0 + 1.6 * np.exp(-(end - day - 1) / 6.0) - 0.35 * np.exp(-(day - start) / 8.0)
    shifted = company.config.regime_shift_on
    is_new_regime = shifted is not None and day >= day_number(shifted)
    win, loss, advance = (0.65, 1.35, 0.8) if is_new_regime else (1.0, 1.0, 1.0)
    tidying = 3.0 if day - start < 10 else 0.8
    return _Pace(win * season * rush, loss, advance * season, tidying)
