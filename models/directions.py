"""Where trees must not contradict common sense: a higher value that is declared better never speaks against winning."""

import numpy as np

_AGAINST = 2.0
"""Standard errors by which the data must contradict a declaration before it is dropped."""


def allowed_direction(
    inputs: np.ndarray, declared: np.ndarray, *, events: np.ndarray, expected: np.ndarray, rows_per_deal: float
) -> np.ndarray:
    """(k,) the declared directions of inputs, 0 where the data speak against them.

    Closings observed over expected are compared between the rows above an input's median and the others.

    Parameters
    ----------
    inputs : (r, k), NaN where unknown.
    declared : (k,) 1 where a higher value should raise the intensity, -1 where it should lower it, 0 for no opinion.
    events, expected : (r,) closings observed, and expected without the inputs.
    rows_per_deal : how often one deal's fate is repeated.
    """
    allowed = declared.copy()
    for place in np.flatnonzero(declared):
        values = inputs[:, place]
        known = ~np.isnan(values)
        if not known.any():
            continue
        high = values > np.median(values[known])
        if declared[place] * _difference(high, known & ~high, events, expected, rows_per_deal) < -_AGAINST:
            allowed[place] = 0
    return allowed


def _difference(
    high: np.ndarray, low: np.ndarray, events: np.ndarray, expected: np.ndarray, rows_per_deal: float
) -> float:
    """Standard errors by which the log of observed over expected is higher in some rows than in others."""
    log_ratio, variance = [], 0.0
    for rows in (high, low):
        # Half a deal more on both sides: no ratio is infinite.
        seen, due = events[rows].sum() / rows_per_deal + 0.5, expected[rows].sum() / rows_per_deal + 0.5
        log_ratio.append(np.log(seen / due))
        variance += 1.0 / seen
    return float((log_ratio[0] - log_ratio[1]) / np.sqrt(variance))
