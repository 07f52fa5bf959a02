"""How sure a difference between two sets of probabilities is: a bootstrap over deals and weeks at once.

Snapshots of one deal share its fate, snapshots of one week share the week's luck: neither are independent rows. Each
draw takes deals and weeks with replacement and counts a snapshot as often as its deal times as often as its week was
drawn (the pigeonhole bootstrap, Owen 2007, doi:10.1214/07-AOAS122). It errs on the wide side.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crm.facts import microseconds
from training.metrics import Array, Difference, calibration_line, clipped_log_odds

DRAWS = 1000
FEWEST_DEALS = 100
"""Slices of fewer deals are not judged: what they show is mostly luck."""

_AT_ONCE = 40
_MICROSECONDS_PER_WEEK = 7 * 86400 * 1_000_000


@dataclass(frozen=True)
class Slope:
    """A calibration slope (1 is right, below 1 too bold) with its 95 % interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class SliceDifference:
    """The mean difference of log losses in one slice.

    Attributes
    ----------
    by, value : which slice, such as stage and Proposal.
    difference : mean of first - second, in nats; above zero the first is worse.
    at_least : its lower bound, holding at 95 % for all slices at once.
    """

    by: str
    value: str
    deals: int
    snapshots: int
    difference: float
    at_least: float

    @property
    def is_worse(self) -> bool:
        """Whether the first is worse here by more than chance makes anywhere among the slices."""
        return self.at_least > 0

    def to_dict(self) -> dict[str, Any]:
        names = ("by", "value", "deals", "snapshots", "difference", "at_least")
        return {**{name: getattr(self, name) for name in names}, "is_worse": self.is_worse}


def resample_sums(columns: Array, deals: NDArray[Any], weeks: NDArray[Any], *, seed: int, draws: int = DRAWS) -> Array:
    """The sums of columns over resampled snapshots.

    Parameters
    ----------
    columns : (n, k), one row per snapshot.
    deals, weeks : (n,) what each snapshot belongs to.

    Returns
    -------
    (draws, k).
    """
    deal, week = (np.unique(each, return_inverse=True)[1] for each in (deals, weeks))
    random = np.random.default_rng(seed)
    sums = np.empty((draws, columns.shape[1]))
    for start in range(0, draws, _AT_ONCE):
        part = sums[start : start + _AT_ONCE]
        times = [_times_drawn(random, deal) * _times_drawn(random, week) for _ in part]
        part[:] = np.stack(times) @ columns
    return sums


def week_of(as_of: pd.Series) -> NDArray[np.int64]:
    """The week of each moment, counted from 1970: Mondays 00:00 of any time zone lie well inside one."""
    return np.asarray(microseconds(as_of) // _MICROSECONDS_PER_WEEK, dtype=np.int64)


def mean_difference(losses: Array, sums: Array, counts: Array) -> Difference:
    """The mean of paired differences (n,) with a 95 % interval from resampled sums and counts, both (draws,)."""
    seen = counts > 0
    low, high = np.quantile(sums[seen] / counts[seen], [0.025, 0.975])
    return Difference(float(losses.mean()), float(low), float(high))


def slope_columns(probability: Array, won: Array) -> Array | None:
    """(n, 5) what a resampled calibration slope is computed from; None where there is no slope.

    One Newton step from the slope over all snapshots: its error is of the order of the squared change.
    """
    line = calibration_line(probability, won)
    if line is None:
        return None
    log_odds = clipped_log_odds(probability)
    fitted = 1 / (1 + np.exp(-(line.intercept + line.slope * log_odds)))
    rest, weight = won - fitted, fitted * (1 - fitted)
    return np.column_stack([rest, rest * log_odds, weight, weight * log_odds, weight * log_odds**2])


def resampled_slope(probability: Array, won: Array, sums: Array) -> Slope | None:
    """The calibration slope with its interval; None if there is none.

    Parameters
    ----------
    sums : (draws, 5) resampled sums of `slope_columns`.
    """
    line = calibration_line(probability, won)
    if line is None:
        return None
    rest, rest_odds, weight, weight_odds, weight_odds2 = sums.T
    determinant = weight * weight_odds2 - weight_odds**2
    regular = determinant > 1e-9 * np.maximum(weight * weight_odds2, 1e-300)
    change = (weight * rest_odds - weight_odds * rest)[regular] / determinant[regular]
    if not len(change):
        return None
    low, high = np.quantile(line.slope + change, [0.025, 0.975])
    return Slope(line.slope, float(low), float(high))


def choose_slices(slices: pd.DataFrame, deals: pd.Series) -> list[tuple[str, str, NDArray[np.bool_]]]:
    """Every value of every column of `slices` that at least 100 deals have: column, value, and its snapshots."""
    chosen = []
    for by in slices:
        for value in sorted(slices[by].unique()):
            inside = (slices[by] == value).to_numpy()
            # A slice that is everything is judged as a whole already.
            if deals[inside].nunique() >= FEWEST_DEALS and not inside.all():
                chosen.append((str(by), str(value), inside))
    return chosen


def slice_lower_bounds(differences: Array, sums: Array, counts: Array) -> Array:
    """Lower bounds of slices' mean differences that hold for all of them at once with 95 %.

    Parameters
    ----------
    differences : (s,) means seen.
    sums, counts : (draws, s) resampled sums of differences and numbers of snapshots.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = np.where(counts > 0, sums / counts, np.nan)
        error = np.nanstd(drawn, axis=0)
        standard = np.where(error > 1e-15, (drawn - differences) / error, 0.0)
    largest = np.nanmax(np.nan_to_num(standard, nan=-np.inf), axis=1)
    return differences - np.quantile(largest, 0.95) * error


def _times_drawn(random: np.random.Generator, member: NDArray[Any]) -> Array:
    """How often each row's group was drawn, of as many draws as there are groups."""
    groups = int(member.max()) + 1
    return np.bincount(random.integers(0, groups, groups), minlength=groups)[member].astype("float64")
