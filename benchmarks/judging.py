"""What is told of probabilities in the benchmarks' tables: beside each number, what a perfect forecaster would show."""

from dataclasses import dataclass

import numpy as np
from sklearn.isotonic import IsotonicRegression

from training.metrics import Difference, calibration_error, calibration_slope, score_probabilities
from training.resampling import mean_difference, resample_sums

DRAWS = 200
LEAST_SPREAD = 0.05
SEED = 1


@dataclass(frozen=True)
class BrierParts:
    """The Brier score as reliability - resolution + uncertainty.

    Reliability is what isotonic recalibration on the same outcomes would save, resolution what the recalibrated
    forecast is better than their mean (Dimitriadis, Gneiting and Jordan 2021, doi:10.1073/pnas.2016191118): the parts
    add up exactly, without bins.
    """

    reliability: float
    resolution: float
    uncertainty: float


def brier_parts(probability: np.ndarray, won: np.ndarray) -> BrierParts:
    """The parts of mean (probability - won)²."""
    recalibrated = IsotonicRegression().fit_transform(probability, won)
    brier, best = np.mean((probability - won) ** 2), np.mean((recalibrated - won) ** 2)
    uncertainty = won.mean() * (1 - won.mean())
    return BrierParts(float(brier - best), float(uncertainty - best), float(uncertainty))


@dataclass(frozen=True)
class Perfect:
    """What the calibration of these very probabilities would look like if they were true.

    Attributes
    ----------
    error : 95 % of perfect forecasters' calibration errors lie below it.
    slope_low, slope_high : 90 % of their calibration slopes lie between; NaN where there is none.
    """

    error: float
    slope_low: float
    slope_high: float


def perfect_calibration(probability: np.ndarray, deals: np.ndarray) -> Perfect:
    """Outcomes drawn from the probabilities many times; snapshots of a deal share one draw, as they share its fate."""
    _, deal = np.unique(deals, return_inverse=True)
    random = np.random.default_rng(SEED)
    errors, slopes = [], []
    for _ in range(DRAWS):
        won = (random.random(deal.max() + 1)[deal] < probability).astype(float)
        errors.append(calibration_error(probability, won))
        slopes.append(calibration_slope(probability, won))
    found = [each for each in slopes if each is not None] or [np.nan]
    low, high = np.quantile(found, [0.05, 0.95])
    return Perfect(float(np.quantile(errors, 0.95)), float(low), float(high))


def difference(losses: np.ndarray, others: np.ndarray, deals: np.ndarray, weeks: np.ndarray) -> Difference:
    """The mean of `losses - others` with a 95 % interval over deals and weeks; below zero the first is better."""
    less = losses - others
    sums = resample_sums(np.column_stack([less, np.ones(len(less))]), deals, weeks, seed=SEED)
    return mean_difference(less, sums[:, 0], sums[:, 1])


def card(probability: np.ndarray, won: np.ndarray, deals: np.ndarray) -> dict[str, str]:
    """The columns of a table that need outcomes alone."""
    numbers, parts, perfect = (
        score_probabilities(probability, won),
        brier_parts(probability, won),
        perfect_calibration(probability, deals),
    )
    # Who says nearly the same of all has no slope worth telling.
    slope = numbers["calibration_slope"] if np.ptp(probability) > LEAST_SPREAD else None
    return {
        "log loss": f"{numbers['log_loss']:.4f}",
        "Brier": f"{numbers['brier']:.4f}",
        "reliability": f"{parts.reliability:.4f}",
        "resolution": f"{parts.resolution:.4f}",
        "uncertainty": f"{parts.uncertainty:.4f}",
        "AUC": "-" if numbers["auc"] is None else f"{numbers['auc']:.3f}",
        "calibration error (perfect)": f"{numbers['calibration_error']:.3f} (< {perfect.error:.3f})",
        "slope (perfect)": "-"
        if slope is None
        else f"{slope:.2f} ({perfect.slope_low:.2f} to {perfect.slope_high:.2f})",
    }
