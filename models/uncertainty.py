"""The range of a win probability itself: how far models fitted on other deals of the same kind would disagree.

The probability meant is that of deals which look like this one in the CRM. What the CRM does not show (a buyer who has
already decided) moves a single deal's own chance further than any range that would still say something.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit, ndtri

from crm.calendar import Calendar
from models.bins import LONGEST_HORIZON
from models.calibration import HazardCalibration
from models.hazard import HazardModel, training_rows
from models.learners import HazardSettings, Intensity, fit_intensities

# Half of the deals, drawn without replacement, vary as much about the whole as the whole does about the truth.
_SHARE_OF_DEALS = 0.5
# Snapshots of one deal say nearly the same, so half of them lose little and save half the time.
_SHARE_OF_SNAPSHOTS = 0.5
_FASTER = 4
_TYPICAL_SNAPSHOTS = 400
# Shrinkage and unseen circumstances are not in the disagreement; this much wider covered 90 % in simulations.
_WIDER = 1.3
_SMALLEST_PROBABILITY = 1e-6


@dataclass(frozen=True)
class WinRange:
    """A few small fits on half the deals each, and the spread they typically have.

    Attributes
    ----------
    bags : learners by cause, to take the place of the model's own.
    typical_variance : mean variance of the log-odds over training snapshots; a deal's own variance, resting on few
        fits, is averaged with it.
    """

    bags: tuple[Mapping[str, Intensity], ...]
    typical_variance: float

    def low_high(
        self,
        model: HazardModel,
        calibration: HazardCalibration,
        features: pd.DataFrame,
        calendar: Calendar,
        *,
        win_probability: np.ndarray,
        coverage: float = 0.9,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The range of each deal's win probability.

        Parameters
        ----------
        model, calibration : what `win_probability` (n,) came from.
        features : as_of and features of the n deals.
        coverage : share of true probabilities meant to lie inside.
        """
        own = _log_odds(self.bags, model, calibration, features, calendar).var(axis=0, ddof=1)
        spread = np.sqrt(_WIDER**2 * (own + self.typical_variance) / 2 + calibration.spread**2)
        reach = float(ndtri(0.5 + coverage / 2)) * spread
        centre = logit(np.clip(win_probability, _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY))
        low, high = expit(centre - reach), expit(centre + reach)
        return np.minimum(low, win_probability), np.maximum(high, win_probability)

    def to_dict(self) -> dict[str, Any]:
        bags = [{cause: intensity.to_dict() for cause, intensity in bag.items()} for bag in self.bags]
        return {"bags": bags, "typical_variance": self.typical_variance}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "WinRange":
        bags = tuple({cause: Intensity.from_dict(value) for cause, value in bag.items()} for bag in stored["bags"])
        return WinRange(bags, stored["typical_variance"])


def fit_range(
    model: HazardModel,
    features: pd.DataFrame,
    outcomes: pd.DataFrame,
    calendar: Calendar,
    *,
    seed: int,
    bags: int = 5,
    settings: HazardSettings | None = None,
    num_threads: int = 2,
) -> WinRange:
    """Fit the bags on the snapshots the model was fitted on; takes about half as long as the model.

    Parameters
    ----------
    features, outcomes, calendar, settings : as given to `fit_hazards`.
    bags : number of small fits, at least 2.
    """
    full = settings or HazardSettings()
    quick = replace(full, rounds=max(1, full.rounds // _FASTER), learning_rate=min(0.5, full.learning_rate * _FASTER))
    table = training_rows(
        features, outcomes, calendar, model.bins, encoder=model.encoder, pooled=model.pooled, season=model.season
    )
    deal, deals = pd.factorize(features["deal_id"])
    rng = np.random.default_rng(seed)
    fitted = []
    for bag in range(bags):
        drawn = rng.permutation(len(deals)) < _SHARE_OF_DEALS * len(deals)
        kept = drawn[deal] & (rng.random(len(features)) < _SHARE_OF_SNAPSHOTS)
        part = table.take(np.flatnonzero(kept[table.snapshot]))
        fitted.append(fit_intensities(part, model.design, quick, seed=seed + bag, num_threads=num_threads))
    sample = features.iloc[rng.permutation(len(features))[:_TYPICAL_SNAPSHOTS]]
    variance = _log_odds(tuple(fitted), model, HazardCalibration(), sample, calendar).var(axis=0, ddof=1)
    return WinRange(tuple(fitted), float(variance.mean()))


def _log_odds(
    bags: tuple[Mapping[str, Intensity], ...],
    model: HazardModel,
    calibration: HazardCalibration,
    features: pd.DataFrame,
    calendar: Calendar,
) -> np.ndarray:
    """(bags, n) log-odds of winning within 365 days."""
    said = model.margins_of(bags, features, calendar)
    won = [
        calibration.apply(margins.blend(model.weight_linear)).probability_by(LONGEST_HORIZON).won for margins in said
    ]
    return logit(np.clip(won, _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY))
