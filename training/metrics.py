"""How good probabilities were: the five numbers on the model card, and the paired difference of two sets of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]

CLIP = 1e-6
"""Probabilities are judged no closer to 0 and 1 than this: one certain and wrong answer costs 13.8, not infinity."""
METRICS = ("log_loss", "brier", "auc", "calibration_error", "calibration_slope")
BINS = 10


def score_probabilities(probability: Array, won: Array) -> dict[str, float | None]:
    """The model card's metrics of `probability` against `won` (0 or 1); None where a metric is undefined.

    Examples
    --------
    >>> score_probabilities(np.array([0.5, 0.5]), np.array([0.0, 1.0]))["brier"]
    0.25
    """
    if len(won) == 0:
        return dict.fromkeys(METRICS)
    return {
        "log_loss": float(log_losses(probability, won).mean()),
        "brier": float(np.mean((probability - won) ** 2)),
        "auc": area_under_curve(probability, won),
        "calibration_error": calibration_error(probability, won),
        "calibration_slope": calibration_slope(probability, won),
    }


def log_losses(probability: Array, won: Array) -> Array:
    """Minus the log of the probability given to what happened, per row, in nats."""
    clipped = np.clip(probability, CLIP, 1 - CLIP)
    return -(won * np.log(clipped) + (1 - won) * np.log1p(-clipped))


def area_under_curve(probability: Array, won: Array) -> float | None:
    """The chance that a won row stands above one not won, ties counting half; None unless both occur."""
    wins = won == 1
    if wins.all() or not wins.any():
        return None
    ranks = rankdata(probability)
    number = wins.sum()
    return float((ranks[wins].sum() - number * (number + 1) / 2) / (number * (~wins).sum()))


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows given about the same probability: how many, what they were given and how many of them were won (shares)."""

    rows: int
    mean_probability: float
    share_won: float


def reliability(probability: Array, won: Array) -> list[ReliabilityBin]:
    """Ten bins of equal width over 0..1; empty ones are left out."""
    which = np.minimum((probability * BINS).astype(int), BINS - 1)
    bins = [which == number for number in range(BINS)]
    return [
        ReliabilityBin(int(rows.sum()), float(probability[rows].mean()), float(won[rows].mean()))
        for rows in bins
        if rows.any()
    ]


def calibration_error(probability: Array, won: Array) -> float:
    """Mean distance, over rows, between what a row's bin was given and the share of the bin that was won."""
    bins = reliability(probability, won)
    return float(sum(each.rows * abs(each.mean_probability - each.share_won) for each in bins) / len(won))


@dataclass(frozen=True)
class CalibrationLine:
    """The logistic regression of `won` on the log odds given."""

    intercept: float
    slope: float


def calibration_slope(probability: Array, won: Array) -> float | None:
    """Slope of a logistic regression of `won` on the log odds given: 1 is right, below 1 too bold.

    None where it does not exist: constant probabilities, one outcome only, or outcomes that they separate perfectly.
    """
    line = calibration_line(probability, won)
    return None if line is None else line.slope


def clipped_log_odds(probability: Array) -> Array:
    """The log odds of probabilities, none further from even than `CLIP` allows."""
    clipped = np.clip(probability, CLIP, 1 - CLIP)
    return np.asarray(np.log(clipped / (1 - clipped)))


def calibration_line(probability: Array, won: Array) -> CalibrationLine | None:
    """Intercept and slope of a logistic regression of `won` on the log odds given; None where there is none."""
    log_odds = clipped_log_odds(probability)
    if not len(won) or np.ptp(log_odds) < 1e-9 or np.ptp(won) == 0:
        return None
    inputs = np.column_stack([np.ones_like(log_odds), log_odds])
    weights = np.zeros(2)
    for _ in range(100):
        fitted = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        curvature = inputs.T @ (inputs * (fitted * (1 - fitted))[:, None])
        if np.linalg.cond(curvature) > 1e12:
            return None
        step = np.linalg.solve(curvature, inputs.T @ (won - fitted))
        weights += step
        if np.abs(step).max() < 1e-9:
            return CalibrationLine(float(weights[0]), float(weights[1]))
    return None


@dataclass(frozen=True)
class Difference:
    """A mean difference with its 95 % interval; below zero, the first is better."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


def paired_difference(first: Array, second: Array, groups: Array, *, seed: int, draws: int = 1000) -> Difference:
    """Mean of `first - second` (losses per row) with a bootstrap over whole groups, usually deals.

    Parameters
    ----------
    groups : what each row belongs to (any hashable values): rows of one deal are drawn together or not at all.
    """
    _, member = np.unique(groups, return_inverse=True)
    sums = np.bincount(member, weights=first - second)
    sizes = np.bincount(member).astype("float64")
    random = np.random.default_rng(seed)
    means = np.empty(draws)
    for draw in range(draws):
        times = np.bincount(random.integers(0, len(sums), len(sums)), minlength=len(sums))
        means[draw] = (times @ sums) / (times @ sizes)
    low, high = np.quantile(means, [0.025, 0.975])
    return Difference(float((first - second).mean()), float(low), float(high))
