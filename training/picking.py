"""Whether a model tells the deals that will be won from those that will be lost, or only knows when deals close.

Whoever knows how long deals last beats the base rate on "won in the period?", and may still show every deal a chance
that has nothing to do with it. So the model is put beside itself with one chance of winning for every closing. Where
the two are as good, that one chance serves.
"""

from dataclasses import asdict, dataclass

import numpy as np

from training.evaluate import Evaluation
from training.metrics import log_losses
from training.resampling import resample_sums, week_of

WORTH_HAVING = 0.03
"""Nats of log loss: skill that may be as large is not given up because few deals have not shown it yet."""


@dataclass(frozen=True)
class Picking:
    """What it is worth to know which deals win, beside knowing when deals close.

    Attributes
    ----------
    difference : log loss less that with one chance of winning for every closing, in nats; below zero the won are told
        from the lost.
    at_least, at_most : what it stays above, and below, in 95 of 100 draws of deals and weeks each.
    share_won : that one chance, 0..1: how many of all closings known were won.
    """

    difference: float
    at_least: float
    at_most: float
    share_won: float

    @property
    def is_shown(self) -> bool:
        """Whether chance alone does not explain it."""
        return self.at_most < 0

    @property
    def is_absent(self) -> bool:
        """Whether it is not shown where skill worth having would have been: one chance for all loses nothing."""
        return not self.is_shown and self.at_least > -WORTH_HAVING

    def limits(self) -> list[str]:
        """What a user must know of it before trusting the model, in words; nothing if the skill is shown."""
        if self.is_shown:
            return []
        found = (
            "No skill found in telling the won from the lost: with one chance of winning for every closing, "
            f"{self.share_won:.2f}, log loss would differ by {-self.difference:+.4f}"
        )
        if self.is_absent:
            return [f"{found}. That serves in the model's place, without reasons: what is known is when deals close."]
        return [f"{found}, by {-self.at_least:+.4f} at most. Read win_probability with care until more have closed."]

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def tell_apart(evaluation: Evaluation, share_won: float | None, *, seed: int) -> Picking | None:
    """How much better past fits were than the same fits with one chance of winning for every closing.

    Both know equally well when deals close. Judged on all snapshots whose period had ended, as everything is: closed
    deals are never judged alone.

    Parameters
    ----------
    share_won : of the closings known by now; None if deals had closed in one way only.

    Returns
    -------
    None if nothing was judged, or deals had closed in one way only.
    """
    judged = evaluation.judged
    if share_won is None or judged.empty:
        return None
    won = judged["won"].to_numpy()
    less = log_losses(judged["model"].to_numpy(), won) - log_losses(judged["one_chance"].to_numpy(), won)
    columns = np.column_stack([less, np.ones(len(less))])
    sums = resample_sums(columns, judged["deal_id"].to_numpy(dtype=object), week_of(judged["as_of"]), seed=seed)
    drawn = sums[sums[:, 1] > 0]
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.05, 0.95])
    return Picking(float(less.mean()), float(low), float(high), share_won)
