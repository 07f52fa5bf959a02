"""The linear partner of the trees: a ridge Poisson regression of intensities on standardised inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_TAIL = 0.01
_STEPS = 12
_TOLERANCE = 1e-4
_LARGEST_STEP = 2.0
_SAMPLE_ROWS = 100_000
_LIMITS = 30.0
# Shares of the training rows below each knot.
_KNOTS = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85)


@dataclass(frozen=True)
class LinearDesign:
    """How bin rows become regressors: clipped to the usual range, standardised, with a mark where a value is unknown.

    Regressors are [1, standardised inputs, marks, standardised inputs x bin midpoint, hinges]: an input may matter more
    for the near days than for the far ones, and what is bent may matter more here than there.

    Attributes
    ----------
    low, high, centre, scale : (k,) per input, from training rows.
    marked : inputs that get a mark.
    clock : the input that holds the bin's log midpoint.
    bent : inputs whose effect may bend.
    knots : (bent, 6) where it may, in standardised values.
    """

    low: np.ndarray
    high: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    marked: np.ndarray
    clock: int
    bent: np.ndarray
    knots: np.ndarray

    @staticmethod
    def fit(rows: np.ndarray, clock: int, *, bent: Sequence[int] = ()) -> "LinearDesign":
        """Learn ranges from training rows (r, k), NaN where unknown; every input needs one known value or stays 0."""
        missing = np.isnan(rows)
        share = missing.mean(axis=0)
        filled = np.where(missing.all(axis=0), 0.0, rows)
        low, high = np.nanquantile(filled, [_TAIL, 1 - _TAIL], axis=0)
        clipped = np.clip(filled, low, high)
        scale = np.nanstd(clipped, axis=0)
        # An input that hardly ever leaves one value has no range to clip to.
        rare = scale < 1e-9
        low, high = np.where(rare, np.nanmin(filled, axis=0), low), np.where(rare, np.nanmax(filled, axis=0), high)
        clipped = np.clip(filled, low, high)
        scale = np.nanstd(clipped, axis=0)
        marked = np.flatnonzero((share > 0.002) & (share < 0.998))
        centre = np.nanmean(clipped, axis=0)
        scale = np.where(scale < 1e-9, 1.0, scale)
        bending = np.array(bent, dtype=int)
        quantiles = np.nanquantile(clipped[:, bending], _KNOTS, axis=0)
        knots = ((quantiles - centre[bending]) / scale[bending]).T
        return LinearDesign(low, high, centre, scale, marked, clock, bending, knots)

    @property
    def owners(self) -> np.ndarray:
        """The input each regressor after the constant belongs to."""
        inputs = np.arange(len(self.low))
        return np.concatenate([inputs, self.marked, inputs, np.repeat(self.bent, len(_KNOTS))])

    def regressors(self, rows: np.ndarray) -> np.ndarray:
        """(r, d) float32 regressors of bin rows; an unknown value stands at the mean, marked."""
        standard = (np.clip(rows, self.low, self.high) - self.centre) / self.scale
        missing = np.isnan(rows)
        standard[missing] = 0.0
        constant = np.ones((len(rows), 1))
        timed = standard * standard[:, [self.clock]]
        hinges = np.maximum(standard[:, self.bent, None] - self.knots, 0.0)
        hinges[missing[:, self.bent]] = 0.0
        return np.hstack(
            [constant, standard, missing[:, self.marked], timed, hinges.reshape(len(rows), self.knots.size)]
        ).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        return {
            "low": self.low.tolist(),
            "high": self.high.tolist(),
            "centre": self.centre.tolist(),
            "scale": self.scale.tolist(),
            "marked": self.marked.tolist(),
            "clock": self.clock,
            "bent": self.bent.tolist(),
            "knots": self.knots.tolist(),
        }

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "LinearDesign":
        ranges = {name: np.array(stored[name], dtype=float) for name in ("low", "high", "centre", "scale")}
        places = {name: np.array(stored[name], dtype=int) for name in ("marked", "bent")}
        knots = np.array(stored["knots"], dtype=float).reshape(-1, len(_KNOTS))
        return LinearDesign(**ranges, **places, clock=stored["clock"], knots=knots)


def sample_rows(snapshots: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Indices of at most 100,000 rows, all rows of a snapshot or none: enough for some hundred coefficients."""
    if len(snapshots) <= _SAMPLE_ROWS:
        return np.arange(len(snapshots))
    chosen = rng.random(int(snapshots.max()) + 1) < _SAMPLE_ROWS / len(snapshots)
    return np.flatnonzero(chosen[snapshots])


def fit_poisson(regressors: np.ndarray, events: np.ndarray, log_expected: np.ndarray, *, penalty: float) -> np.ndarray:
    """Coefficients (d,) of a Poisson regression with offset, by Newton's method.

    Parameters
    ----------
    regressors : (r, d), the first one constant.
    events : (r,) counts.
    log_expected : (r,) offset: log of days at risk times a reference intensity.
    penalty : ridge on all coefficients (a prior worth so many expected events), a tenth of it on the constant.
    """
    ridge = np.full(regressors.shape[1], penalty)
    ridge[0] = penalty / 10
    beta = np.zeros(regressors.shape[1])
    gain = regressors.T @ events.astype(regressors.dtype)
    for _ in range(_STEPS):
        margin = regressors @ beta.astype(regressors.dtype)
        expected = np.exp(np.clip(margin + log_expected, -_LIMITS, _LIMITS)).astype(regressors.dtype)
        gradient = gain - regressors.T @ expected - ridge * beta
        curvature = (regressors.T * expected) @ regressors + np.diag(ridge)
        step = np.linalg.solve(curvature.astype(float), gradient.astype(float))
        beta += step * min(1.0, _LARGEST_STEP / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < _TOLERANCE:
            break
    return beta
