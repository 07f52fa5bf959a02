"""Corrects log-intensities by a slope per cause, learned from what past fits said and what came then.

A quarter is good or bad for a whole company: its closings share their luck and are far less evidence than as many
independent ones. So the evidence of a period is bounded by the variance of its shock. How far past fits were off in
level is not passed on: the next fit has learned from the same closings (docs/decisions/calibration.md), and what it
still misses of the last weeks is followed (training/following.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.bins import CAUSES
from models.curves import Curves

# Before anything is seen: how far a fit is off for good, in level and slope, and how far a period strays by luck.
_LEVEL_SPREAD = 0.2
_SLOPE_SPREAD = 0.08
_PERIOD_SHOCK = 0.35
_STEPS = 50
_LIMITS = 30.0


@dataclass(frozen=True)
class CauseCalibration:
    """The corrected log-intensity of one cause is intercept + slope x raw.

    Attributes
    ----------
    spread : standard deviation that the evidence leaves of the level of a fit.
    """

    intercept: float = 0.0
    slope: float = 1.0
    spread: float = 0.0

    @staticmethod
    def fit(
        margins: np.ndarray,
        exposure: np.ndarray,
        events: np.ndarray,
        *,
        periods: np.ndarray,
        snapshots_per_deal: float = 1.0,
    ) -> "CauseCalibration":
        """Poisson regression of closings on margins, with a prior at the identity; keeps the typical margin.

        Parameters
        ----------
        margins : raw log-intensities per day, any shape.
        exposure : days at risk, same shape; entries without any are passed over.
        events : closings, same shape.
        periods : the fiscal period each entry was said in, same shape, any labels: n expected closings weigh as
            n / (1 + n x variance of a period's shock).
        snapshots_per_deal : rows that repeat one deal's fate; evidence is divided by it.
        """
        at_risk = exposure > 0
        if not at_risk.any():
            return CauseCalibration()
        raw = margins[at_risk]
        expected = np.exp(np.clip(raw + np.log(exposure[at_risk]), -_LIMITS, _LIMITS))
        weight = _weights(periods[at_risk], expected / snapshots_per_deal)
        happened, log_days = events[at_risk] * weight, np.log(exposure[at_risk] * weight)
        # About the typical margin, level and slope are learned apart: no slope stands in for a level that is off.
        centre = float(np.average(raw, weights=expected * weight))
        design = np.stack([np.ones_like(raw), raw - centre])
        precision = np.diag([_LEVEL_SPREAD**-2.0, _SLOPE_SPREAD**-2.0])
        start = np.array([0.0, 1.0])
        change = np.zeros(2)
        for _ in range(_STEPS):
            level = np.clip(centre + (start + change) @ design + log_days, -_LIMITS, _LIMITS)
            expected = np.exp(level) / snapshots_per_deal
            gradient = design @ (happened / snapshots_per_deal - expected) - precision @ change
            curvature = (design * expected) @ design.T + precision
            step = np.linalg.solve(curvature, gradient)
            change += np.clip(step, -1.0, 1.0)
            if np.abs(step).max() < 1e-9:
                break
        slope = float(1.0 + change[1])
        spread = float(np.sqrt(np.linalg.inv(curvature)[0, 0]))
        return CauseCalibration((1.0 - slope) * centre, slope, spread)

    def apply(self, log_intensity: np.ndarray) -> np.ndarray:
        """Corrected log-intensities, same shape."""
        return self.intercept + self.slope * log_intensity


def _weights(periods: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """What each entry counts beside an independent one: the less, the more closings are expected of its period.

    Not of those seen: bad periods would weigh more than good ones.
    """
    _, place = np.unique(periods, return_inverse=True)
    return (1 / (1 + np.bincount(place, expected) * _PERIOD_SHOCK**2))[place]


@dataclass(frozen=True)
class HazardCalibration:
    """The correction of both causes; the default leaves curves as they are."""

    won: CauseCalibration = CauseCalibration()
    lost: CauseCalibration = CauseCalibration()

    @staticmethod
    def fit(
        margins: Mapping[str, np.ndarray],
        exposure: np.ndarray,
        events: Mapping[str, np.ndarray],
        *,
        periods: np.ndarray,
        snapshots_per_deal: float = 1.0,
    ) -> "HazardCalibration":
        """Learn both corrections from margins kept from past fits.

        Parameters
        ----------
        margins : by cause ("won", "lost"), log-intensities said by models that did not know the outcome, (n, m).
        exposure : (n, m) days at risk in the weeks after each fit, as `models.bins.bin_outcomes` gives them.
        events : by cause, closings, (n, m).
        periods : (n, m) the fiscal period each entry was said in, any labels.
        """
        fitted = (
            CauseCalibration.fit(
                margins[cause], exposure, events[cause], periods=periods, snapshots_per_deal=snapshots_per_deal
            )
            for cause in CAUSES
        )
        return HazardCalibration(*fitted)

    @property
    def spread(self) -> float:
        """The standard deviation that the calibration itself adds to a deal's log-odds."""
        return float(np.hypot(self.won.spread, self.lost.spread))

    def apply(self, curves: Curves) -> Curves:
        """Calibrated curves."""
        return Curves(curves.edges, self.won.apply(curves.won), self.lost.apply(curves.lost))

    def after(self, shift: Mapping[str, float]) -> "HazardCalibration":
        """The correction of curves that were moved first: by cause, what is added to the raw log-intensities."""
        moved = ((getattr(self, cause), shift[cause]) for cause in CAUSES)
        return HazardCalibration(*(replace(it, intercept=it.intercept + it.slope * by) for it, by in moved))

    def to_dict(self) -> dict[str, Any]:
        return {cause: vars(getattr(self, cause)) for cause in CAUSES}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "HazardCalibration":
        return HazardCalibration(*(CauseCalibration(**stored[cause]) for cause in CAUSES))
