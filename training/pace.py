"""How fast deals move on: in each month of the year, and lately beside what is usual then.

Deals move on several times before they are won, and long before: where they do so faster or slower than usual, wins
will follow. Ten times as many moves as wins tell sooner what the wins of some weeks would, and tell the seasons of the
year from fewer years (docs/decisions/drift.md).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crm.history import DealHistory
from models.season import MONTHS, Season
from training.labels import SECONDS_PER_DAY

Array = NDArray[np.float64]

HALF_LIFE_WEEKS = 2.0
PRIOR_MOVES = 50.0
"""Moves as usual, added to those of the last weeks: few move nothing."""
WINS_WITH_PACE = 2.0
"""Where deals move on twice as often as usual, they are won so many times twice as fast: a power."""
WEEKS = 26
"""Older weeks would count for little; they tell the season, which these do not."""
_PRIOR_LOOKS = 20.0
_NEEDED = ["deal_id", "as_of", "stage", "stage_advances_30d"]
_DAYS_PER_WEEK, _DAYS_PER_YEAR = 7.0, 365.25


def sum_fading(weeks: Array, half_life: float) -> float:
    """The sum over weeks, the latest first: one counts half as much as one `half_life` weeks later."""
    return float((0.5 ** ((np.arange(len(weeks)) + 0.5) / half_life) * weeks).sum())


def published(ratio: float, observed: Array, expected: Array) -> dict[str, Any]:
    """What a model card has of weekly counts, the latest first, and of the ratio they make."""
    return {
        "ratio": round(ratio, 4),
        "observed": [round(float(each)) for each in observed],
        "expected": [round(float(each), 3) for each in expected],
    }


@dataclass(frozen=True)
class Pace:
    """Moves to a later stage by week before a moment, the latest week first; without weeks nothing is known.

    Attributes
    ----------
    observed, expected : (weeks,) how often open deals moved on, and how often they usually do: deals in the same stage,
        in the same month of the year.
    """

    observed: Array
    expected: Array

    def ratio(self) -> float:
        """How many times as often as usual deals move on now, 1 without evidence.

        The mean of a gamma law: its prior is worth `PRIOR_MOVES`, a week's moves count half as much as those of a week
        `HALF_LIFE_WEEKS` later.
        """
        observed, expected = (sum_fading(each, HALF_LIFE_WEEKS) for each in (self.observed, self.expected))
        return (observed + PRIOR_MOVES) / (expected + PRIOR_MOVES)

    @property
    def speed(self) -> float:
        """How many times as fast as usual deals are won, as far as the pace tells it."""
        return self.ratio() ** WINS_WITH_PACE

    def to_dict(self) -> dict[str, Any]:
        """What the model card publishes: the ratio, and observed and expected by week, the latest first."""
        return published(self.ratio(), self.observed, self.expected)


UNKNOWN_PACE = Pace(np.zeros(0), np.zeros(0))


@dataclass(frozen=True)
class Moves:
    """What became of looks at open deals in the days after each, as far as it was known by a moment.

    Attributes
    ----------
    moved : (n,) how often the deal moved to a later open stage.
    usual : (n,) how often deals in its stage do. Not those for as long in it: where deals move on slower they are all
        longer in their stages, and would seem no slower than others that are.
    ago : (n,) days from the look to the moment.
    month : (n,) 0 to 11, in which those days lie.
    week : (n,) how many weeks before the moment, from 0.
    """

    moved: Array
    usual: Array
    ago: Array
    month: NDArray[np.intp]
    week: NDArray[np.intp]

    def season(self) -> Season:
        """How lively each month is, from all but the last weeks: drawn to 1 as by one more year without any season."""
        old = self.week >= WEEKS
        if not self.usual[old].sum() > 0:
            return Season()
        years = max(np.ptp(self.ago[old]) / _DAYS_PER_YEAR, 1.0)
        level = self.moved[old].sum() / self.usual[old].sum()
        moved, usual = (np.bincount(self.month[old], each[old], MONTHS) for each in (self.moved, self.usual))
        another_year = usual.sum() / years / MONTHS * level
        return Season(tuple(((moved + another_year) / (usual * level + another_year)).tolist()))

    def pace(self, season: Season) -> Pace:
        """The last weeks, beside what is usual in that season."""
        recent = self.week < WEEKS
        expected = self.usual * np.array(season.months)[self.month]
        length = int(self.week[recent].max(initial=-1)) + 1
        by_week = (np.bincount(self.week[recent], each[recent], length) for each in (self.moved, expected))
        return Pace(*(each.astype(float) for each in by_week))


def watch_moves(history: DealHistory, looks: pd.DataFrame, known_at: pd.Timestamp, *, step_days: float) -> Moves:
    """What was known by a moment of the deals looked at before it.

    Parameters
    ----------
    looks : snapshots with their features: deal_id, as_of, stage, stage_advances_30d. One of a deal whose
        stage, or whose stage's changes, were not recorded tells nothing; without these features none does.
    step_days : a look tells of so many days after it.
    """
    told = looks.reindex(columns=_NEEDED).dropna(subset=["stage", "stage_advances_30d"])
    told = told.sort_values("as_of", kind="stable", ignore_index=True)
    ago = ((known_at - told["as_of"]).dt.total_seconds() / SECONDS_PER_DAY).to_numpy()
    seen = np.minimum(ago, step_days) / step_days
    moved = _moves_after(history, told, known_at, step_days)
    middle = told["as_of"] + pd.Timedelta(days=step_days / 2)
    return Moves(
        moved=moved,
        usual=seen * _rates(moved, seen, pd.factorize(told["stage"])[0]),
        ago=ago,
        month=middle.dt.month.to_numpy(dtype=int) - 1,
        week=np.maximum((ago - step_days / 2) // _DAYS_PER_WEEK, 0).astype(int),
    )


def _moves_after(history: DealHistory, looks: pd.DataFrame, known_at: pd.Timestamp, step_days: float) -> Array:
    """(n,) moves to a later stage, not one that closes the deal, in the days after each look."""
    changes = history.changes
    closes = changes["new_value"].map(history.stage_book.by_name["is_closed"]).eq(1.0)
    on = changes["field"].eq("stage") & (changes["new_number"] > changes["old_number"]) & ~closes
    moves = changes.loc[on & (changes["at"] <= known_at), ["deal_id", "at"]].sort_values("at", kind="stable")
    found = pd.merge_asof(
        moves,
        looks[["deal_id", "as_of"]].assign(look=np.arange(len(looks))),
        left_on="at",
        right_on="as_of",
        by="deal_id",
        tolerance=pd.Timedelta(days=step_days),
        allow_exact_matches=False,
    )
    return np.bincount(found["look"].dropna().astype(int), minlength=len(looks)).astype(float)


def _rates(moved: Array, seen: Array, stage: NDArray[np.intp]) -> Array:
    """(n,) how often a look of the stage moves on in a whole step, drawn to the overall rate where looks are few."""
    if not len(stage):
        return moved
    overall = moved.sum() / seen.sum()
    events, looks = np.bincount(stage, moved), np.bincount(stage, seen)
    return ((events + _PRIOR_LOOKS * overall) / (looks + _PRIOR_LOOKS))[stage]
