"""The truth about a day: the company's state run forward many times, all futures side by side in one set of arrays."""

from dataclasses import dataclass

import numpy as np

from crm.synthetic.company import Company
from crm.synthetic.deals import LOST, OPEN, WON, Rows, can_change
from crm.synthetic.delivery import deal_ids
from crm.synthetic.law import business_days, live_one_day
from crm.synthetic.simulation import CompanyState

_FORWARD = 4
_TIDY_EVERY_DAYS = 20  # business days after which what can no longer change is dropped from the arrays


@dataclass(frozen=True)
class Futures:
    """What happened in `k` futures of a state within `days` local days.

    Attributes
    ----------
    deal : (deals,) row numbers of the deals open at the start.
    outcome : (k, deals) of the first closing: OPEN (none), WON or LOST.
    closed_day : (k, deals) local day number of the first closing; 0 if none.
    bookings : one entry a win: `future`, `owner`, `day` it is booked on, `amount` in base currency at the rate of the
        period's start, `is_new` (the deal did not exist at the start). A win that is reopened has a second, negative
        entry on the day it had been booked on.
    """

    k: int
    days: int
    deal: np.ndarray
    outcome: np.ndarray
    closed_day: np.ndarray
    bookings: Rows


@dataclass(frozen=True)
class TrueOutcomes:
    """Counts over `k` futures of a state, so that the true probability of an event is estimated by count / k.

    The Brier score and the cross-entropy of a forecast to the truth are linear in count / k, but for terms of the truth
    alone: p² is estimated without bias by count (count - 1) / (k (k - 1)).

    Attributes
    ----------
    deal_id : (deals,) the deals open at the moment.
    won_365, period_won, period_lost, period_slipped, next_period_won : (deals,) futures in which the first closing was
        a win within 365 days; a win, a loss, nothing in the current fiscal period; a win in the period after it.
    rep_id : (reps,) user ids.
    won_to_date : (reps,) already booked in the current period.
    from_existing : (k, reps) what deals that exist now add until the period's end, less wins that are cancelled.
    not_yet_created : (k, reps) what deals created later add until the period's end.
        All money in base currency.
    """

    k: int
    deal_id: np.ndarray
    won_365: np.ndarray
    period_won: np.ndarray
    period_lost: np.ndarray
    period_slipped: np.ndarray
    next_period_won: np.ndarray
    rep_id: np.ndarray
    won_to_date: np.ndarray
    from_existing: np.ndarray
    not_yet_created: np.ndarray

    @property
    def bookings(self) -> np.ndarray:
        """(k, reps) bookings of the whole current period."""
        return self.won_to_date + self.from_existing + self.not_yet_created

    @property
    def company_bookings(self) -> np.ndarray:
        """(k,) bookings of the whole current period, all reps together."""
        return self.bookings.sum(axis=1)


def run_forward(state: CompanyState, days: int, seed: int, k: int) -> Futures:
    """Imagine `k` futures of `days` local days; the state is not altered, and nothing is recorded in its CRM."""
    world, company = state.world.repeated(k), state.company
    deal = state.open_deals
    place = np.full(len(state.world.rows["status"]) + 1, -1)  # the last entry serves deals not yet created (deal -1)
    place[deal] = np.arange(len(deal))
    outcome, closed_day = np.zeros((k, len(deal)), np.int8), np.zeros((k, len(deal)), np.int32)
    bookings: list[Rows] = []
    for count, day in enumerate(business_days(state.day, state.day + days), 1):
        rng = np.random.default_rng([*state.stream, _FORWARD, state.day, seed, day])
        happened = live_one_day(company, world, day, rng)
        rows = world.rows
        for closing, result in ((happened.won, WON), (happened.lost, LOST)):
            future, at = rows["future"][closing], place[rows["deal"][closing]]
            first = (at >= 0) & (outcome[future, at] == OPEN)
            outcome[future[first], at[first]] = result
            closed_day[future[first], at[first]] = day
        # A deal reopened on this day still bears the closed_day of the win that is cancelled.
        bookings += [_booked(company, rows, happened.won, 1.0), _booked(company, rows, happened.reopened, -1.0)]
        if count % _TIDY_EVERY_DAYS == 0:
            alive = np.flatnonzero(can_change(rows))
            world.rows = {name: values[alive] for name, values in rows.items()}
    bookings.append(_booked(company, world.rows, deal[:0], 1.0))  # so that there are columns even where nothing was won
    joined = {name: np.concatenate([entry[name] for entry in bookings]) for name in bookings[-1]}
    return Futures(k, days, deal, outcome, closed_day, joined)


def true_outcomes(state: CompanyState, k: int, seed: int) -> TrueOutcomes:
    """What truly may become of every open deal and of the current period's bookings, from `k` futures of the state."""
    company = state.company
    start, end = company.quarter(state.day)
    next_end = company.quarter(end)[1]
    futures = run_forward(state, 365, seed, k)
    won, lost, day = futures.outcome == WON, futures.outcome == LOST, futures.closed_day
    in_period, in_next = (day > 0) & (day < end), (day >= end) & (day < next_end)
    period_won, period_lost = (won & in_period).sum(axis=0), (lost & in_period).sum(axis=0)
    booked = futures.bookings
    existing, new = (
        _by_rep(company, booked, (booked["day"] >= start) & (booked["day"] < end) & (booked["is_new"] == is_new), k)
        for is_new in (False, True)
    )
    return TrueOutcomes(
        k=k,
        deal_id=deal_ids(futures.deal),
        won_365=won.sum(axis=0),
        period_won=period_won,
        period_lost=period_lost,
        period_slipped=k - period_won - period_lost,
        next_period_won=(won & in_next).sum(axis=0),
        rep_id=np.array(company.user_ids[: company.config.n_reps]),
        won_to_date=won_to_date(state),
        from_existing=existing,
        not_yet_created=new,
    )


def true_bookings(state: CompanyState, k: int, seed: int) -> np.ndarray:
    """(k, reps) bookings of the whole current period in `k` futures, base currency; reps as `company.user_ids` starts.

    As `true_outcomes(...).bookings` for the same seed, without looking further ahead than the period's end: a win that
    is cancelled later stays.
    """
    company = state.company
    start, end = company.quarter(state.day)
    booked = run_forward(state, end - state.day, seed, k).bookings
    return won_to_date(state) + _by_rep(company, booked, booked["day"] >= start, k)


def won_to_date(state: CompanyState) -> np.ndarray:
    """(reps,) bookings of the current fiscal period so far, base currency."""
    rows, company = state.world.rows, state.company
    start, _ = company.quarter(state.day)
    booked = _booked(company, rows, np.flatnonzero((rows["status"] == WON) & (rows["closed_day"] >= start)), 1.0)
    return np.bincount(booked["owner"], booked["amount"], company.config.n_reps)


def _booked(company: Company, rows: Rows, won: np.ndarray, sign: float) -> Rows:
    """Entries of wins, at the rate of the start of the period they are booked in."""
    day = rows["closed_day"][won]
    rate = np.ones(len(won))
    for booked_day in np.unique(day):
        its = day == booked_day
        rate[its] = company.rate(company.quarter(int(booked_day))[0])[rows["currency"][won[its]]]
    return {
        "future": rows["future"][won],
        "owner": rows["owner"][won],
        "day": day,
        "amount": sign * rows["amount"][won] * rate,
        "is_new": rows["deal"][won] < 0,
    }


def _by_rep(company: Company, booked: Rows, chosen: np.ndarray, k: int) -> np.ndarray:
    n_reps = company.config.n_reps
    cell = booked["future"][chosen].astype(np.int64) * n_reps + booked["owner"][chosen]
    return np.bincount(cell, booked["amount"][chosen], k * n_reps).reshape(k, n_reps)
