"""Measures drift: how many deals were won and lost in the last weeks, beside what past fits had expected of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import poisson

from models.bins import CAUSES, BinOutcomes, bin_outcomes
from models.curves import Curves
from training.evaluate import Correction, PastFit

WEEKS = 8
"""How far back drift is looked for."""
# More looks see a late closing coming than an early one, so it weighs more, and chance spreads about a tenth wider than
# Poisson's: the bound is stricter than the one in a hundred that is meant.
_ALARM_BEYOND = 0.002


@dataclass(frozen=True)
class CauseDrift:
    """Deals that closed for one cause in the last weeks, each counted once, and how many were expected to."""

    observed: int = 0
    expected: float = 0.0

    @property
    def ratio(self) -> float:
        """Observed over expected; 1 where nothing was expected."""
        return self.observed / self.expected if self.expected > 0 else 1.0

    @property
    def chance(self) -> float:
        """How likely a number so far from the expected one, or further on its side, is by chance alone (two-sided)."""
        fewer, more = poisson.cdf(self.observed, self.expected), poisson.sf(self.observed - 1, self.expected)
        return float(min(1.0, 2 * min(fewer, more)))

    @property
    def is_alarming(self) -> bool:
        """Whether chance does not explain it."""
        return self.expected > 0 and self.chance < _ALARM_BEYOND


@dataclass(frozen=True)
class Drift:
    """The drift of both causes; the default is none."""

    won: CauseDrift = CauseDrift()
    lost: CauseDrift = CauseDrift()

    def to_dict(self) -> dict[str, Any]:
        """What the model card publishes: per cause observed, expected and ratio, and over how many weeks."""
        causes = {cause: getattr(self, cause) for cause in CAUSES}
        return {
            "weeks": WEEKS,
            **{
                cause: {
                    "observed": each.observed,
                    "expected": round(each.expected, 3),
                    "ratio": round(each.ratio, 4),
                    "alarm": each.is_alarming,
                }
                for cause, each in causes.items()
            },
        }


def find_drift(fits: Sequence[PastFit], correction: Correction, known_at: pd.Timestamp) -> Drift:
    """Closings of the last weeks, beside what fits made before them, corrected, expected of the deals then open.

    Every snapshot of the last `WEEKS` is watched from its as_of to `known_at`. Looking at a deal every week counts its
    closing once per look; both sums are divided by how often the deals that closed were looked at (all deals, if none
    closed), so that a deal is one piece of evidence.

    Parameters
    ----------
    fits : past fits, each with the snapshots after it.
    correction : what makes their margins mean what they say.
    """
    recent = [_since(fit, correction, known_at) for fit in fits]
    deals = np.concatenate([each.deals for each in recent]) if recent else np.array([])
    if not len(deals):
        return Drift()
    return Drift(*(_of_cause(recent, deals, cause) for cause in CAUSES))


@dataclass(frozen=True)
class _Recent:
    """What one fit said of its snapshots of the last weeks (deal ids, one per look), and what was seen of them."""

    deals: NDArray[Any]
    curves: Curves
    seen: BinOutcomes


def _since(fit: PastFit, correction: Correction, known_at: pd.Timestamp) -> _Recent:
    rows = np.flatnonzero((fit.judged.features["as_of"] >= known_at - pd.Timedelta(weeks=WEEKS)).to_numpy())
    curves = correction.apply(fit.margins, fit.following).take(rows)
    seen = bin_outcomes(curves.edges, fit.judged.outcomes(known_at).iloc[rows])
    return _Recent(fit.judged.features["deal_id"].to_numpy(dtype=object)[rows], curves, seen)


def _of_cause(recent: Sequence[_Recent], deals: NDArray[Any], cause: str) -> CauseDrift:
    closed = np.concatenate([each.seen.events[cause].any(axis=1) for each in recent])
    expected = sum(float((each.seen.exposure * np.exp(getattr(each.curves, cause))).sum()) for each in recent)
    looked_at = deals[closed] if closed.any() else deals
    looks = len(looked_at) / len(set(looked_at))
    return CauseDrift(len(set(deals[closed])), expected / looks)
