"""Whether a model tells the deals that will be won from those that will be lost, or only knows when deals close.

Whoever knows how long deals last beats the base rate on "won in the period?", and may still show every deal a chance
that has nothing to do with it. So the model is put beside itself with one chance of winning for every closing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from models.curves import Curves
from models.scorer import days_to_period_end
from training.evaluate import Correction, PastFit
from training.metrics import log_losses
from training.resampling import resample_sums, week_of


@dataclass(frozen=True)
class Picking:
    """What it is worth to know which deals win, beside knowing when deals close.

    Attributes
    ----------
    difference : log loss less that with one chance of winning for every closing, in nats; below zero the won are told
        from the lost.
    at_most : what it stays below in 95 of 100 draws of deals and weeks.
    """

    difference: float
    at_most: float

    @property
    def is_shown(self) -> bool:
        """Whether chance alone does not explain it."""
        return self.at_most < 0

    def limits(self) -> list[str]:
        """What a user must know of it before trusting the model, in words; nothing if the skill is shown."""
        if self.is_shown:
            return []
        return [
            "No skill found in telling the won from the lost: with one chance of winning for every closing, log loss "
            f"would differ by {-self.difference:+.4f}. What is known is when deals close; read win_probability as the "
            "same for all until more have closed."
        ]

    def to_dict(self) -> dict[str, float]:
        return {"difference": self.difference, "at_most": self.at_most}


def tell_apart(fits: Sequence[PastFit], correction: Correction, known_at: pd.Timestamp, *, seed: int) -> Picking | None:
    """How much better past fits were than the same fits with one chance of winning for every closing.

    Both know equally well when deals close. Judged on all snapshots whose period had ended, as everything is: closed
    deals are never judged alone.

    Parameters
    ----------
    fits, correction : as `training.evaluate` has them.
    known_at : what was known by then counts.

    Returns
    -------
    None if nothing was judged, or deals had closed in one way only.
    """
    judged = [each for fit in fits if (each := _judged(fit, correction, known_at)) is not None]
    both = pd.concat(judged, ignore_index=True).dropna(subset=["won"], ignore_index=True) if judged else pd.DataFrame()
    if both.empty:
        return None
    won = both["won"].to_numpy()
    less = log_losses(both["model"].to_numpy(), won) - log_losses(both["even"].to_numpy(), won)
    columns = np.column_stack([less, np.ones(len(less))])
    sums = resample_sums(columns, both["deal_id"].to_numpy(dtype=object), week_of(both["as_of"]), seed=seed)
    drawn = sums[sums[:, 1] > 0]
    return Picking(float(less.mean()), float(np.quantile(drawn[:, 0] / drawn[:, 1], 0.95)))


def with_one_chance(curves: Curves, share_won: float) -> Curves:
    """The same closings at the same times, the given share of all of them won (0..1, exclusive)."""
    closing = np.logaddexp(curves.won, curves.lost)
    return Curves(curves.edges, closing + np.log(share_won), closing + np.log1p(-share_won))


def _judged(fit: PastFit, correction: Correction, known_at: pd.Timestamp) -> pd.DataFrame | None:
    """deal_id, as_of, won, and what the fit says with its own chances (model) and with one for all (even)."""
    endings = fit.judged.history.endings
    ended = endings.loc[endings["at"] <= fit.fitted_at, "outcome"]
    won, lost = int((ended == "won").sum()), int(ended.isin(["lost", "deleted"]).sum())
    if not won or not lost:
        return None
    curves = correction.apply(fit.margins, fit.following)
    rows = fit.judged.features[["deal_id", "as_of"]]
    days = days_to_period_end(rows["as_of"], fit.judged.calendar)
    even = with_one_chance(curves, won / (won + lost))
    said = {"model": curves.probability_by(days).won, "even": even.probability_by(days).won}
    return rows.assign(won=fit.judged.won(), **said)[(fit.judged.period_end_at <= known_at).to_numpy()]
