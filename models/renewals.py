"""Deals that follow a win: who has bought is asked again when the contract ends.

What has been won tells such deals long before they exist: when they will come, and about what they will be worth. A
rate of the last weeks tells of the wins of a year ago; those that the coming quarter follows may be half as many.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

WEEKS_AHEAD = 104
"""What comes later follows wins that are not made yet."""
# Contracts run for three years at most, and may be renewed half a year late.
_LONGEST_WEEKS = 182
_PRIOR_WINS = 20.0
# Twenty deals whose amounts differ by a half.
_PRIOR_SPREAD = 20 * 0.5**2
# Beside a week with such deals, the weeks next to it have them too.
_NEAR_WEEKS = (0.25, 0.5, 0.25)
# Knowing the wins, such a deal is e times as sure to come when it does as if any week were as good.
_LEAST_GAIN = 1.0
# In a collective account nobody can tell which deal follows which win.
_LARGEST_ACCOUNT = 100
_ROUNDS = 3
_NOT_YET = -1
_DAYS_A_WEEK, _SECONDS_A_DAY = 7.0, 86400.0
_WEEKS_A_YEAR = 365 / 7


@dataclass(frozen=True)
class Renewals:
    """Deals of a type that will be created, week by week, as the wins that they follow tell.

    Attributes
    ----------
    since : the moment when the first week begins, as ISO text.
    per_day : deals created a day in each week.
    worth : mean amount of the wins they follow, beside that of the wins which those won so far had followed.
    """

    since: str
    per_day: tuple[float, ...]
    worth: tuple[float, ...]

    def weeks_from(self, as_of: pd.Timestamp) -> Array:
        """Days from a moment to the begin of each week, and to the end of the last; none once it has passed."""
        passed = (as_of - pd.Timestamp(self.since)).total_seconds() / _SECONDS_A_DAY
        return np.maximum(_DAYS_A_WEEK * np.arange(len(self.per_day) + 1) - passed, 0.0)

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "Renewals":
        return Renewals(str(stored["since"]), tuple(stored["per_day"]), tuple(stored["worth"]))


def foresee_renewals(created: pd.DataFrame, wins: pd.DataFrame, known_at: pd.Timestamp) -> Renewals | None:
    """Learn how long after a win of its account a deal of the type is created, and look ahead.

    A win is followed by one deal at most: the one that comes when such deals come. How many of the wins that still wait
    for theirs get it in a week is a life table by weeks since the win, one for each type of the wins, drawn by 20 wins
    to that of all types. Wins to come, as many as in the last year, are followed in the same way.

    Parameters
    ----------
    created : the deals of one type created by `known_at`: account_id, created_at, amount_base of those won (else NaN).
    wins : all wins known at `known_at`: account_id, won_at, deal_type, amount_base (NaN unknown).

    Returns
    -------
    None where most deals of the type follow no win, or do so at any time (expansions); then a rate serves.
    """
    created, wins = created.reset_index(drop=True), _of_customers(wins)
    follows = _find_followed(_of_customers(created), wins)
    age = _weeks(known_at - wins["won_at"])
    lately = _weeks(known_at - created["created_at"]) <= _WEEKS_A_YEAR
    alone = (lately & ~created.index.isin(follows["deal"])).sum()
    if 2 * alone >= lately.sum():
        return None
    after = np.full(len(wins), _NOT_YET)
    after[follows["win"]] = follows["weeks"]
    table = _LifeTable.of(after, age)
    if table.gain() < _LEAST_GAIN:
        return None
    often = table.often(toward=table.even)
    amount = wins["amount_base"].fillna(wins["amount_base"].mean()).fillna(0.0).to_numpy()
    deals, money = np.zeros(WEEKS_AHEAD), np.zeros(WEEKS_AHEAD)
    for of_type in wins.groupby("deal_type", dropna=False).indices.values():
        its_after, its_age, its_amount = after[of_type], age[of_type], amount[of_type]
        own = _LifeTable.of(its_after, its_age).often(toward=often)
        waiting, recent = (its_after == _NOT_YET) & (its_age < _LONGEST_WEEKS), its_age <= _WEEKS_A_YEAR
        from_known = _weeks_ahead(own, its_age[waiting])
        to_come = recent.sum() / min(age.max(), _WEEKS_A_YEAR) * _weeks_ahead(own, np.zeros(1))[0].cumsum()
        deals += from_known.sum(axis=0) + to_come
        money += its_amount[waiting] @ from_known + its_amount[recent].sum() / max(recent.sum(), 1) * to_come
    return Renewals(
        since=known_at.isoformat(),
        per_day=tuple(((deals + alone / _WEEKS_A_YEAR) / _DAYS_A_WEEK).tolist()),
        worth=tuple(_worth(money / deals, amount[follows["win"]], created["amount_base"].to_numpy()[follows["deal"]])),
    )


def _of_customers(rows: pd.DataFrame) -> pd.DataFrame:
    """Without those of unknown accounts, and of collective ones; `row` is where each of the others was."""
    many = rows.groupby("account_id")["account_id"].transform("size") > _LARGEST_ACCOUNT
    return rows[rows["account_id"].notna() & ~many].reset_index(names="row")


def _weeks(passed: pd.Series) -> Array:
    return passed.dt.total_seconds().to_numpy() / (_DAYS_A_WEEK * _SECONDS_A_DAY)


def _find_followed(created: pd.DataFrame, wins: pd.DataFrame) -> pd.DataFrame:
    """Which deal follows which win: `row` of `created` (deal), place in `wins` (win), and the whole weeks between.

    Among the wins of its account that no earlier deal follows, a deal follows the one after which such deals come most
    often. How often they do is read from all pairs at first, then from those that were found.
    """
    deals = created[["row", "account_id", "created_at"]].rename(columns={"row": "deal"})
    pairs = deals.merge(wins[["account_id", "won_at"]].reset_index(names="win"), on="account_id")
    pairs["weeks"] = _weeks(pairs["created_at"] - pairs["won_at"])
    pairs = pairs[(pairs["weeks"] > 0) & (pairs["weeks"] < _LONGEST_WEEKS)].astype({"weeks": int})
    found = pairs
    for _ in range(_ROUNDS):
        rare = -_smooth(found["weeks"])[pairs["weeks"]]
        in_turn = pairs.assign(rare=rare).sort_values(["created_at", "deal", "rare"], kind="stable")
        win_of: dict[int, int] = {}
        taken: set[int] = set()
        for deal, win in zip(in_turn["deal"].tolist(), in_turn["win"].tolist(), strict=True):
            if deal not in win_of and win not in taken:
                win_of[deal] = win
                taken.add(win)
        found = in_turn[in_turn["win"].eq(in_turn["deal"].map(win_of))]
    return found[["deal", "win", "weeks"]]


def _smooth(weeks: ArrayLike) -> Array:
    return np.convolve(np.bincount(np.asarray(weeks), minlength=_LONGEST_WEEKS), _NEAR_WEEKS, "same")


@dataclass(frozen=True)
class _LifeTable:
    """By weeks since a win: deals that follow, and wins that wait for theirs.

    `after` are the (wins,) whole weeks after which they were followed, `_NOT_YET` of those that wait.
    """

    after: NDArray[np.intp]
    deals: Array
    waiting: Array

    @staticmethod
    def of(after: NDArray[np.intp], age: Array) -> "_LifeTable":
        """From when wins were followed, and how old they are, in weeks."""
        waited = np.where(after == _NOT_YET, np.minimum(age, _LONGEST_WEEKS), after + 0.5)
        waiting = np.clip(waited[:, None] - np.arange(_LONGEST_WEEKS), 0.0, 1.0).sum(axis=0)
        return _LifeTable(after, _smooth(after[after != _NOT_YET]), waiting)

    @property
    def even(self) -> float:
        """How often in a week a waiting win gets its deal were all weeks alike."""
        return float(self.deals.sum() / max(self.waiting.sum(), 1.0))

    def often(self, *, toward: Array | float, but_for: float = 0.0) -> Array:
        """(weeks,) how often in each week one does, drawn toward what is usual; as if so many had not come."""
        seen = self.deals - but_for + _PRIOR_WINS * toward
        return np.maximum(seen, 1e-9) / (self.waiting + _PRIOR_WINS)

    def gain(self) -> float:
        """By how much the log of how often is larger where deals came, each told by the others alone."""
        by_others = self.often(toward=self.even, but_for=_NEAR_WEEKS[1])
        return float(np.log(by_others[self.after[self.after != _NOT_YET]] / self.even).mean())


def _weeks_ahead(often: Array, age: Array) -> Array:
    """(wins, `WEEKS_AHEAD`) the chance that a waiting win of an age (in weeks) gets its deal in each week from now."""
    without = np.exp(-np.append(0.0, often.cumsum()))
    still = without[np.minimum(np.round(age).astype(int)[:, None] + np.arange(WEEKS_AHEAD + 1), _LONGEST_WEEKS)]
    return -np.diff(still, axis=1) / still[:, :1]


def _worth(mean_amount: Array, followed: Array, won: Array) -> list[float]:
    """(weeks,) how many times as much as those so far deals will bring.

    The more is followed, the more they bring: to a power, 1 until the deals won so far say otherwise.
    """
    both = (won > 0) & (followed > 0)
    if not both.any():
        return [1.0] * len(mean_amount)
    before, after = np.log(followed[both]), np.log(won[both])
    alone, together = (float(((before - before.mean()) * (each - each.mean())).sum()) for each in (before, after))
    power = np.clip((together + _PRIOR_SPREAD) / (alone + _PRIOR_SPREAD), 0.0, 1.0)
    return (np.maximum(mean_amount / followed[both].mean(), 0.01) ** power).tolist()
