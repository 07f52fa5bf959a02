"""Following drift: how much faster or slower than a fit says deals close in the last weeks, and how far to go along.

A fit is an average of years; where deals have been won and lost at other rates since some months, the closings of the
last weeks show by how much the average is off. They are compared with the fit that is to be corrected, on the weeks
before it: a past fit knows less of the change, and following what it missed would count twice what the newer one has
learned (docs/decisions/drift.md). Trees have leaves too large to learn a week by heart. What wins will do, the pace at
which deals move through the stages tells sooner than the wins themselves (training/pace.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln

from models.bins import CAUSES
from models.curves import Curves, intensities_of
from training.labels import SECONDS_PER_DAY
from training.pace import UNKNOWN_PACE, Pace, published, sum_fading

Array = NDArray[np.float64]

HALF_LIFE_WEEKS = 8.0
AS_EXPECTED, CHANGED = (0.8, 400.0), (0.2, 10.0)
"""Chance and shape of both prior laws: closings are off by a twentieth, or something has changed, and by a third."""
WEEKS = 26
"""Older weeks would count for little."""
# Right after a look more is expected than comes, later less: bins know no weekends. So a step of time is seen from
# looks of all ages. Every fourth look suffices for that.
STEPS_AFTER_A_LOOK = 13
EVERY = 4
_DAYS_PER_WEEK = 7.0


@dataclass(frozen=True)
class Following:
    """Closings by week before a fit, the latest week first; without weeks nothing is followed.

    Attributes
    ----------
    observed, expected : by cause, (weeks,) deals that closed, and how many the fit expects; a deal counts once.
    pace : how often deals moved on before the fit.
    """

    observed: Mapping[str, Array]
    expected: Mapping[str, Array]
    pace: Pace = UNKNOWN_PACE

    def ratio(self, cause: str) -> float:
        """How many times as fast as the fit says deals close now, 1 without evidence.

        The mean after the closings of a mixture of two gamma laws, `AS_EXPECTED` and `CHANGED`; a week's closings count
        half as much as those of a week `HALF_LIFE_WEEKS` later. Before them, wins are expected to go with the pace.
        """
        before = self.pace.speed if cause == "won" else 1.0
        observed, expected = (sum_fading(each[cause], HALF_LIFE_WEEKS) for each in (self.observed, self.expected))
        chance, shape = np.array([AS_EXPECTED, CHANGED]).T
        seen, at_risk = observed + shape, expected * before + shape
        # How likely such closings are under each law: the negative binomial, but for what both share.
        likely = np.log(chance) + gammaln(seen) - gammaln(shape) + shape * np.log(shape) - seen * np.log(at_risk)
        after = np.exp(likely - likely.max())
        return before * float((after * seen / at_risk).sum() / after.sum())

    @property
    def shift(self) -> dict[str, float]:
        """By cause, what is added to the log-intensities of the fit."""
        return {cause: float(np.log(self.ratio(cause))) for cause in CAUSES}

    def apply(self, curves: Curves) -> Curves:
        """The fit's curves, going along."""
        return curves.shifted(**self.shift)

    def to_dict(self) -> dict[str, Any]:
        """What the model card publishes: by cause and of moves the ratio, and the weeks, the latest first."""
        by_cause = {c: published(self.ratio(c), self.observed[c], self.expected[c]) for c in CAUSES}
        return {**by_cause, "pace": self.pace.to_dict()}


_NOTHING = {cause: np.zeros(0) for cause in CAUSES}
NOT_FOLLOWING = Following(_NOTHING, _NOTHING)


def looks_to_follow(as_of: pd.Series, known_at: pd.Timestamp) -> NDArray[np.bool_]:
    """Which snapshots the last weeks are watched from: those of every fourth moment, backwards from the latest."""
    moments = np.sort(as_of.unique())[::-1]
    step = days_between(as_of)
    first = known_at - pd.Timedelta(days=WEEKS * _DAYS_PER_WEEK + STEPS_AFTER_A_LOOK * step)
    return (as_of.isin(moments[::EVERY]) & (as_of >= first)).to_numpy()


def days_between(as_of: pd.Series) -> float:
    """Days from one moment of snapshots to the next, lately; a week if there is but one."""
    moments = np.sort(as_of.unique())[-2 * STEPS_AFTER_A_LOOK :]
    if len(moments) < 2:
        return _DAYS_PER_WEEK
    return float(np.round(np.median(np.diff(moments) / np.timedelta64(1, "D"))))


def count_closings(
    curves: Curves, looks: pd.DataFrame, outcomes: pd.DataFrame, known_at: pd.Timestamp, *, step_days: float
) -> Following:
    """Closings by week, seen and expected.

    Time after a look is cut into steps. What is expected of a deal in a step is the mean of what its looks say, so that
    a deal is one piece of evidence however often it was looked at.

    Parameters
    ----------
    curves : what the fit says of the looks.
    looks : deal_id and as_of, aligned.
    outcomes : days_observed and outcome by `known_at`, aligned; see `training.labels.label_outcomes`.
    """
    days, outcome = outcomes["days_observed"].to_numpy(dtype=float), outcomes["outcome"].to_numpy(dtype=object)
    age = (known_at - looks["as_of"]).dt.total_seconds().to_numpy() / SECONDS_PER_DAY
    steps = []
    for place in range(STEPS_AFTER_A_LOOK):
        after, until = place * step_days, (place + 1) * step_days
        watched = np.flatnonzero(days > after)
        at_risk = np.diff(np.clip(curves.edges[watched], after, np.minimum(until, days[watched])[:, None]), axis=1)
        step = {"deal": looks["deal_id"].to_numpy()[watched], "ago": np.round(age[watched] / step_days) - 1 - place}
        for cause in CAUSES:
            step[cause] = (days[watched] <= until) & (outcome[watched] == cause)
            step["of_" + cause] = (at_risk * intensities_of(getattr(curves, cause)[watched])).sum(axis=1)
        steps.append(pd.DataFrame(step))
    by_deal = pd.concat(steps).groupby(["deal", "ago"]).mean().reset_index()
    week = ((by_deal["ago"].clip(lower=0) + 0.5) * step_days // _DAYS_PER_WEEK).to_numpy(dtype=int)
    recent = week < WEEKS
    length = int(week[recent].max(initial=-1)) + 1

    def by_week(column: str) -> Array:
        return np.bincount(week[recent], by_deal[column].to_numpy(dtype=float)[recent], length).astype(float)

    return Following({c: by_week(c) for c in CAUSES}, {c: by_week("of_" + c) for c in CAUSES})
