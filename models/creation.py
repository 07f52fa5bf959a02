"""Bookings still to come from deals that do not exist yet: how many deals are created a day, and how soon they are won.

With r deals created a day and F(u) the chance that a deal is won within u days of its creation, the wins of the next x
days from deals created in them number r × (the integral of F from 0 to x). Of types that follow wins r differs from
week to week (models/renewals.py). Past periods then say how this differs towards a period's end: what is created in
bulk at its start brings nothing more late in it, a closing rush brings more.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from crm.bookings import bookings, shown_deals
from crm.calendar import Calendar, Period
from crm.history import DealHistory
from crm.tables import CrmTables
from models.renewals import Renewals, foresee_renewals

UNKNOWN_TYPE = "(none)"
MIXES = ("pipeline", "segment", "currency")

_EDGES = np.array([0, 1, 3, 7, 14, 21, 30, 45, 60, 90, 120, 150, 180, 240, 300, 365], dtype=float)
_LEFT_SHARES = (0.0, 0.08, 0.15, 0.3, 0.5, 0.75, 1.0)
_HALF_LIFE_DAYS, _SHORT_HALF_LIFE_DAYS = 182.0, 45.0
_LOOK_BACK_DAYS = 730.0
_LATEST_PERIODS = 8
_PRIOR_DEALS = 20.0
_PRIOR_WINS = 5.0
_PRIOR_RATE_SPREAD, _PRIOR_PERIODS = 0.25, 3.0
# Until a period begins its rates wander: of the log, by so much within a year (docs/decisions/revenue.md).
_WANDERING_A_YEAR = 0.3
_DAY = 86400.0


@dataclass(frozen=True)
class CreationStream:
    """The deals of one type that come in.

    Attributes
    ----------
    per_day : deals created a day, lately.
    won_in : chance of being won in each bin of days since creation.
    amount_in : mean amount of those won in each bin, base currency.
    amount_cv : standard deviation / mean of the amounts.
    end_factor : wins / expected wins from here to a period's end, by share of the period left (`_LEFT_SHARES`), and as
        fast as deals are won now.
    owners : deals created lately by owner, those of unknown owner left out.
    mixes : shares of the wins by value of pipeline, segment, currency.
    renewals : for a type that follows wins, how many are created a day in each week to come; None = `per_day` always.
    """

    per_day: float
    won_in: tuple[float, ...]
    amount_in: tuple[float, ...]
    amount_cv: float
    end_factor: tuple[float, ...]
    owners: Mapping[str, float]
    mixes: Mapping[str, Mapping[str, float]]
    renewals: Renewals | None = None

    def wins(self, as_of: pd.Timestamp, start: float, end: float) -> tuple[float, float]:
        """Wins between `start` and `end` days after `as_of` of deals created after it, and their mean amount.

        Before what past periods say of a period's end.
        """
        since, until, per_day, worth = self._stretches(as_of)
        by_end, by_start = (_days_at_work(to - since) - _days_at_work(to - until) for to in (end, start))
        by_bin = np.array(self.won_in) * per_day[:, None] * (by_end - by_start)
        wins = float(by_bin.sum())
        return wins, float(worth @ by_bin @ self.amount_in) / wins if wins > 0 else 0.0

    def _stretches(self, as_of: pd.Timestamp) -> tuple[np.ndarray, ...]:
        """Of the time to come: days from `as_of` to each stretch's begin and end, deals created a day, their worth."""
        if self.renewals is None:
            return np.zeros(1), np.full(1, np.inf), np.full(1, self.per_day), np.ones(1)
        begins = self.renewals.weeks_from(as_of)
        per_day, worth = np.append(self.renewals.per_day, self.per_day), np.append(self.renewals.worth, 1.0)
        return begins, np.append(begins[1:], np.inf), per_day, worth

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "CreationStream":
        bins = {name: tuple(stored[name]) for name in ("won_in", "amount_in", "end_factor")}
        renewals = stored["renewals"] and Renewals.from_dict(stored["renewals"])
        return CreationStream(**{**stored, **bins, "renewals": renewals})


@dataclass(frozen=True)
class CreationModel:
    """Streams by deal type (`(none)` where unknown), and the spread of the common error of their rates (log)."""

    streams: Mapping[str, CreationStream]
    rate_spread: float

    def arrivals(self, period: Period, as_of: pd.Timestamp) -> pd.DataFrame:
        """What deals created after `as_of` will bring in the period.

        Returns
        -------
        Frame, a row per deal type: deal_type, wins (expected number), amount (mean per win), amount_cv, rate_spread
        (the more, the further ahead the period is).
        """
        start, end = (max((at - as_of).total_seconds() / _DAY, 0.0) for at in (period.start_at, period.end_at))
        left = min((period.end_at - as_of) / (period.end_at - period.start_at), 1.0)
        rate_spread = float(np.sqrt(self.rate_spread**2 + _WANDERING_A_YEAR**2 * start / 365))
        rows = []
        for deal_type, stream in self.streams.items():
            wins, amount = stream.wins(as_of, start, end)
            wins *= np.interp(left, _LEFT_SHARES, stream.end_factor)
            rows.append((deal_type, wins, amount, stream.amount_cv, rate_spread))
        return pd.DataFrame(rows, columns=["deal_type", "wins", "amount", "amount_cv", "rate_spread"])

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "CreationModel":
        streams = {name: CreationStream.from_dict(stream) for name, stream in stored["streams"].items()}
        return CreationModel(streams, float(stored["rate_spread"]))


def _days_at_work(days: ArrayLike) -> np.ndarray:
    """(…, bins) the integral over 0..days of the share of a bin's wins that have come, taken as even within the bin."""
    low, width, days = _EDGES[:-1], np.diff(_EDGES), np.asarray(days)[..., None]
    inside = np.clip(days - low, 0, width)
    return inside**2 / (2 * width) + np.maximum(days - _EDGES[1:], 0)


def _won_within(won_in: np.ndarray, days: np.ndarray) -> np.ndarray:
    """(n,) chance that a deal is won within so many days of its creation, from that of each bin."""
    return np.clip((days[:, None] - _EDGES[:-1]) / np.diff(_EDGES), 0, 1) @ won_in


def fit_creation(
    tables: CrmTables, history: DealHistory, known_at: pd.Timestamp, *, wins_now: float = 1.0
) -> CreationModel:
    """Fit on what was known at `known_at`: deals created, won and lost by then.

    `wins_now` is how many times as fast as usual deals are won now, as far as something tells it.
    """
    wins = bookings(tables, history, known_at)
    ever = _lives_known_at(tables, history, wins, known_at)
    lives = ever[ever["age"] <= _LOOK_BACK_DAYS]
    if lives.empty:
        return CreationModel({}, _PRIOR_RATE_SPREAD)
    tables_won = _life_table(lives)
    all_won = lives[lives["is_won"]]
    mean = float(all_won["amount_base"].mean()) if all_won["amount_base"].notna().any() else 0.0
    curves = {kind: _life_table(deals, toward=tables_won) for kind, deals in lives.groupby("deal_type")}
    renewals = {kind: foresee_renewals(deals, wins, known_at) for kind, deals in ever.groupby("deal_type")}
    told = {kind for kind, found in renewals.items() if found}
    past = _past_periods(lives, curves, tables.calendar, known_at, told=told)
    end_factor = _end_factors(past)
    streams = {}
    for kind, deals in lives.groupby("deal_type"):
        amounts, variation = _amounts(deals[deals["is_won"]], mean)
        recent = deals[deals["age"] <= 365]
        streams[str(kind)] = CreationStream(
            per_day=_recent_rate(deals["age"], lives["age"].max()),
            won_in=tuple(_won_in(curves[kind]).tolist()),
            amount_in=tuple(amounts.tolist()),
            amount_cv=variation,
            end_factor=tuple((wins_now * end_factor(str(kind))).tolist()),
            owners={str(owner): float(n) for owner, n in recent["owner_id"].value_counts().sort_index().items()},
            mixes={by: _shares(deals, by) for by in MIXES},
            renewals=renewals[kind],
        )
    return CreationModel(streams, _rate_spread(past, end_factor))


def _lives_known_at(
    tables: CrmTables, history: DealHistory, wins: pd.DataFrame, known_at: pd.Timestamp
) -> pd.DataFrame:
    """One row per deal created by then: type, owner, account, mixes, age, days (to its end so far), money."""
    deals = tables.get("deals")[["deal_id", "created_at"]]
    age = (known_at - deals["created_at"]).dt.total_seconds() / _DAY
    deals = deals.assign(age=age)[(age >= 0) & ~deals["deal_id"].isin(history.left_out)]
    if deals.empty:
        return deals
    spells = history.spells[history.spells["opened_at"] <= known_at].sort_values("opened_at", kind="stable")
    last = _by_deal(spells, deals)
    ended_at = last["ended_at"].where(last["ended_at"] <= known_at)
    won = _by_deal(wins, deals)
    # A deal won, lost or deleted in the instant it was created has no open spell, and yet it has ended.
    until = won["won_at"].fillna(ended_at).fillna(deals["created_at"].where(last["opened_at"].isna()))
    merged = last["outcome"].eq("merged") & ended_at.notna()
    shown = shown_deals(tables, history, deals[["deal_id"]].assign(as_of=known_at))
    lives = deals.assign(
        deal_type=shown["deal_type"].fillna(UNKNOWN_TYPE),
        **{name: shown[name] for name in ("owner_id", "account_id", *MIXES)},
        days=((until - deals["created_at"]).dt.total_seconds() / _DAY).clip(lower=0).fillna(deals["age"]),
        is_won=won["won_at"].notna(),
        is_lost=until.notna() & won["won_at"].isna() & ~merged,
        booked_on=won["booked_on"],
        amount_base=won["amount_base"],
    )
    return lives.sort_values("deal_id", ignore_index=True)


def _by_deal(rows: pd.DataFrame, deals: pd.DataFrame) -> pd.DataFrame:
    """The last row of each deal, aligned with `deals`; missing where there is none."""
    last = rows.drop_duplicates("deal_id", keep="last").set_index("deal_id")
    return last.reindex(deals["deal_id"]).set_axis(deals.index)


def _life_table(deals: pd.DataFrame, *, toward: np.ndarray | None = None) -> np.ndarray:
    """(2, bins) chance of being won and of being lost in a bin, if open at its start; shrunk toward another table."""
    last_bin = len(_EDGES) - 2
    bin_of = np.clip(np.searchsorted(_EDGES, deals["days"], side="right") - 1, 0, last_bin + 1)
    counts = np.array(
        [np.bincount(bin_of[mask], minlength=last_bin + 2) for mask in (deals["is_won"], deals["is_lost"])]
    )
    everyone = np.bincount(bin_of, minlength=last_bin + 2)
    entering = everyone[::-1].cumsum()[::-1]
    # Those last seen open within a bin were at risk for half of it.
    at_risk = entering - (everyone - counts.sum(axis=0)) / 2
    counts, at_risk = counts[:, :-1].astype(float), at_risk[:-1]
    if toward is None:
        toward = np.zeros_like(counts)
        width = np.diff(_EDGES)
        for k in range(last_bin + 1):
            # Beyond what the history covers the last bin's daily chances go on.
            before = toward[:, k - 1] * width[k] / width[k - 1] if k else np.zeros(2)
            before = before / max(1.0, before.sum() / 0.9)
            toward[:, k] = (counts[:, k] + before) / max(at_risk[k] + 1.0, 1.0)
        return toward
    return (counts + _PRIOR_DEALS * toward) / (at_risk + _PRIOR_DEALS)


def _won_in(table: np.ndarray) -> np.ndarray:
    """Chance of being won in each bin, seen from creation."""
    still_open = np.cumprod(np.append(1.0, 1 - table.sum(axis=0)))[:-1]
    return still_open * table[0]


def _recent_rate(age: pd.Series, oldest: float) -> float:
    """Deals a day: that of the last weeks, believed the more the more deals it rests on, else that of the last year."""

    def decayed(half_life: float) -> tuple[float, float]:
        decay = np.log(2) / half_life
        return float(np.exp(-decay * age).sum()), float(-np.expm1(-decay * max(oldest, 7.0)) / decay)

    deals, days = decayed(_HALF_LIFE_DAYS)
    lately, days_lately = decayed(_SHORT_HALF_LIFE_DAYS)
    return (lately + _PRIOR_DEALS) / (days_lately + _PRIOR_DEALS * days / deals)


def _amounts(won: pd.DataFrame, overall: float) -> tuple[np.ndarray, float]:
    """Mean amount of wins by bin of days since creation, shrunk to the type's and the overall mean; the variation."""
    won = won.dropna(subset=["amount_base"])
    mean = (won["amount_base"].sum() + _PRIOR_WINS * overall) / (len(won) + _PRIOR_WINS)
    bin_of = np.clip(np.searchsorted(_EDGES, won["days"], side="right") - 1, 0, len(_EDGES) - 2)
    total = np.bincount(bin_of, won["amount_base"], minlength=len(_EDGES) - 1)
    count = np.bincount(bin_of, minlength=len(_EDGES) - 1)
    by_bin = (total + 2 * _PRIOR_WINS * mean) / (count + 2 * _PRIOR_WINS)
    squares = ((won["amount_base"] - mean) ** 2).sum() / mean**2 if mean else 0.0
    return by_bin, float(np.sqrt((squares + _PRIOR_WINS) / (len(won) + _PRIOR_WINS)))


def _past_periods(
    lives: pd.DataFrame,
    curves: Mapping[Any, np.ndarray],
    calendar: Calendar,
    known_at: pd.Timestamp,
    *,
    told: Collection[str],
) -> pd.DataFrame:
    """Wins of deals created later in a period, and expected: for past whole periods, deal types, shares of it left.

    Of the types `told` by wins the deals are expected when they came, of the others evenly. A period counts half as
    much as one that ended `_HALF_LIFE_DAYS` later: its weight.
    """
    first = lives["created_at"].min()
    periods: list[Period] = []
    period = calendar.previous_period(calendar.period_of(known_at))
    while period.start_at >= first and len(periods) < _LATEST_PERIODS:
        periods.append(period)
        period = calendar.previous_period(period)
    rows = []
    for period in periods:
        length = (period.end_at - period.start_at).total_seconds() / _DAY
        weight = 0.5 ** ((known_at - period.end_at).total_seconds() / _DAY / _HALF_LIFE_DAYS)
        created = lives[(lives["created_at"] >= period.start_at) & (lives["created_at"] < period.end_at)]
        won = created[created["is_won"] & (created["booked_on"] < pd.Timestamp(period.end))]
        for kind, curve in curves.items():
            own, won_own = (part.loc[part["deal_type"] == kind, "created_at"] for part in (created, won))
            won_in = _won_in(curve)
            for left in _LEFT_SHARES:
                days = left * length
                moment = period.end_at - pd.Timedelta(seconds=round(days * _DAY))
                if kind in told:
                    to_go = (period.end_at - own[own > moment]).dt.total_seconds().to_numpy() / _DAY
                    expected = float(_won_within(won_in, to_go).sum())
                else:
                    expected = len(own) / length * float(_days_at_work(days) @ won_in)
                rows.append((period.start, weight, kind, left, int((won_own > moment).sum()), expected))
    return pd.DataFrame(rows, columns=["period_start", "weight", "deal_type", "left", "wins", "expected"])


def _end_factors(past: pd.DataFrame) -> Callable[[str], np.ndarray]:
    """Wins over expected wins by share of the period left: the pooled ratio, each type's shrunk toward it."""
    past = past.assign(wins=past["wins"] * past["weight"], expected=past["expected"] * past["weight"])
    pooled = past.groupby("left")[["wins", "expected"]].sum().reindex(list(_LEFT_SHARES), fill_value=0.0)
    overall = (pooled["wins"] + _PRIOR_WINS) / (pooled["expected"] + _PRIOR_WINS)

    def factor_of(deal_type: str) -> np.ndarray:
        own = past[past["deal_type"] == deal_type].groupby("left")[["wins", "expected"]].sum()
        own = own.reindex(list(_LEFT_SHARES), fill_value=0.0)
        return (overall * (own["wins"] + _PRIOR_WINS) / (own["expected"] * overall + _PRIOR_WINS)).to_numpy()

    return factor_of


def _rate_spread(past: pd.DataFrame, end_factor: Callable[[str], np.ndarray]) -> float:
    """How far whole periods' arrivals stray from what was expected, beyond chance; toward a prior for few periods."""
    half = past[past["left"] == 0.5]
    place = _LEFT_SHARES.index(0.5)
    factor = half["deal_type"].map({kind: end_factor(kind)[place] for kind in half["deal_type"].unique()})
    half = half.assign(expected=half["expected"] * factor.astype("float64"))
    by_period = half.groupby("period_start")[["wins", "expected"]].sum()
    by_period = by_period[by_period["expected"] > 0]
    surplus = ((by_period["wins"] - by_period["expected"]) ** 2 - by_period["expected"]) / by_period["expected"] ** 2
    variance = (surplus.clip(-1, 1).sum() + _PRIOR_PERIODS * _PRIOR_RATE_SPREAD**2) / (len(surplus) + _PRIOR_PERIODS)
    return float(np.sqrt(max(variance, 0.05**2)))


def _shares(deals: pd.DataFrame, by: str) -> dict[str, float]:
    """Shares of the wins (of all deals where none is won) by value; unknown values under `(none)`."""
    won = deals[deals["is_won"]]
    values = (won if len(won) else deals)[by].fillna(UNKNOWN_TYPE)
    return {str(value): float(share) for value, share in values.value_counts(normalize=True).sort_index().items()}
