"""The simple forecasters that the win model must beat, each of whether a deal is won in the period that holds as_of.

All are fitted on what the model is fitted on, as of the same moment, and all are reported beside it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import pandas as pd

from models.baselines.base_rate import BaseRate
from models.baselines.category_win_rate import CategoryWinRate
from models.baselines.current_fields import CURRENT_FIELDS, CurrentFields
from models.baselines.inputs import Baseline, is_known
from models.baselines.logistic_regression import LogisticRegression
from models.baselines.naive_bayes import NaiveBayes
from models.baselines.stage_probability import StageProbability

__all__ = ["BASELINES", "Baseline", "baseline_from_dict", "fit_baselines", "left_out"]

_READERS: dict[str, Callable[[Mapping[str, Any]], Baseline]] = {
    "base_rate": BaseRate.from_dict,
    "stage_probability": StageProbability.from_dict,
    "stage_win_rate": CategoryWinRate.from_dict,
    "naive_bayes": NaiveBayes.from_dict,
    "forecast_category": CategoryWinRate.from_dict,
    "logistic_regression": LogisticRegression.from_dict,
    "lightgbm_current_fields": CurrentFields.from_dict,
}
BASELINES = tuple(_READERS)
"""All names, simplest first."""


class CatalogueEntry(Protocol):
    """What baselines read of a catalogue entry."""

    @property
    def kind(self) -> str: ...
    @property
    def higher_is(self) -> str: ...


def fit_baselines(
    features: pd.DataFrame,
    won_in_period: np.ndarray,
    *,
    catalogue: Mapping[str, CatalogueEntry],
    stages: pd.DataFrame | None = None,
    seed: int = 0,
) -> dict[str, Baseline]:
    """Fit every baseline whose input is there; `left_out` says why the others are missing.

    Parameters
    ----------
    features : deal_id, as_of and features, one row per snapshot whose period had ended at the training moment.
    won_in_period : (n,) whether the deal was won before its period ended, 0/1 or boolean.
    catalogue : features by name.
    stages : the stages table (stage, default_probability, pipeline).

    Returns
    -------
    Baselines by name, in the order of `BASELINES`; empty without snapshots.
    """
    won = np.asarray(won_in_period, dtype=float)
    absent = left_out(features, won, stages=stages)
    named = {
        kind: [f for f in map(str, features.columns) if f in catalogue and catalogue[f].kind == kind]
        for kind in ("number", "category")
    }
    fields = [field for field in named["category"] if field != "stage"]
    stage_columns = ("pipeline", "stage") if is_known(features, "pipeline") else ("stage",)
    fits: dict[str, Callable[[], Baseline]] = {
        "base_rate": lambda: BaseRate.fit(won),
        "stage_probability": lambda: StageProbability.fit(stages if stages is not None else pd.DataFrame()),
        "stage_win_rate": lambda: CategoryWinRate.fit("stage_win_rate", stage_columns, features, won),
        "naive_bayes": lambda: NaiveBayes.fit(features, won, fields),
        "forecast_category": lambda: CategoryWinRate.fit("forecast_category", ("forecast_category",), features, won),
        "logistic_regression": lambda: LogisticRegression.fit(features, won, named["number"], named["category"]),
        "lightgbm_current_fields": lambda: CurrentFields.fit(features, won, catalogue, seed=seed),
    }
    return {name: fits[name]() for name in BASELINES if name not in absent}


def left_out(
    features: pd.DataFrame, won_in_period: np.ndarray, *, stages: pd.DataFrame | None = None
) -> dict[str, str]:
    """Why a baseline cannot be fitted, by name."""
    if not len(features):
        return dict.fromkeys(BASELINES, "no snapshot's period has ended yet")
    absent = {}
    if stages is None or not is_known(stages, "default_probability"):
        absent["stage_probability"] = "the stages table has no default_probability"
    if not is_known(features, "stage"):
        absent["stage_win_rate"] = absent["stage_probability"] = "no deal's stage is known"
    if not is_known(features, "forecast_category"):
        absent["forecast_category"] = "no deal's forecast category is known"
    if len(np.unique(won_in_period)) < 2:
        reason = "all snapshots ended the same way"
        absent.update(dict.fromkeys(("naive_bayes", "logistic_regression", "lightgbm_current_fields"), reason))
    elif not any(is_known(features, field) for field in CURRENT_FIELDS):
        absent["lightgbm_current_fields"] = "none of the deal's current fields is known"
    return absent


def baseline_from_dict(stored: Mapping[str, Any]) -> Baseline:
    """Read back what `to_dict` of any baseline gave."""
    return _READERS[stored["name"]](stored)
