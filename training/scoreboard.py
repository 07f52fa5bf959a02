"""Who was right: the accuracy of every forecaster by level of the hierarchy and week, and the model less each other.

Everybody is judged by the same rules: who names one number is judged as if sure of it.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.forecaster import QUANTILES
from training.metrics import Difference

Array = NDArray[np.float64]

SCORES = ("wape", "bias", "pinball_loss", "crps", "coverage_80", "periods")
SCOREBOARD_COLUMNS = ("node_type", "week", "forecaster", "category", *SCORES)
DIFFERENCE_COLUMNS = ("against", "category", "node_type", "metric", "difference", "low", "high", "periods")
COMPARED = ("wape", "pinball_loss", "crps")
SEED = 7
_DRAWS = 2000
_WHO = ["node_type", "forecaster", "category"]
_PLACE = ["period_start", "cut_at", "node_type", "node_id"]
_LEVELS = np.array(list(QUANTILES.values()))
# Of the quantile function, straight between the levels given and level beyond them, at the middles of 400 steps.
_FINE_LEVELS = (np.arange(400) + 0.5) / 400


def pinball_losses(quantiles: Array, levels: Array, actual: Array) -> Array:
    """The mean pinball loss over levels, per row, in the unit of the values.

    Parameters
    ----------
    quantiles : (rows, levels).
    levels : (levels,), 0..1.
    actual : (rows,).

    Examples
    --------
    >>> pinball_losses(np.array([[80.0, 120.0]]), np.array([0.1, 0.9]), np.array([100.0]))
    array([2.])
    """
    missed = actual[:, None] - quantiles
    return np.asarray(np.maximum(levels * missed, (levels - 1) * missed).mean(axis=1))


def crps(quantiles: Array, levels: Array, actual: Array) -> Array:
    """The continuous ranked probability score per row: twice the pinball loss over all levels.

    For a forecast that is sure of one number it is the absolute error.
    """
    fine = np.array([np.interp(_FINE_LEVELS, levels, row) for row in quantiles]).reshape(len(quantiles), -1)
    return 2 * pinball_losses(fine, _FINE_LEVELS, actual)


def judged_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The review rows whose actual is known, with what each cost: pinball_loss and crps, money.

    Parameters
    ----------
    rows : as `models.review.with_actual` gives them, quantiles included.
    """
    judged = rows[rows["actual"].notna()].reset_index(drop=True)
    given = judged[list(QUANTILES)]
    quantiles = given.where(given.notna(), judged["value"], axis=0).to_numpy(dtype=np.float64)
    actual = judged["actual"].to_numpy(dtype=np.float64)
    return judged.assign(
        category=judged["category"].fillna(""),
        pinball_loss=pinball_losses(quantiles, _LEVELS, actual),
        crps=crps(quantiles, _LEVELS, actual),
    )


def build_scoreboard(judged: pd.DataFrame) -> pd.DataFrame:
    """How good each forecaster was at each level and week.

    Returns
    -------
    Frame with `SCOREBOARD_COLUMNS`: wape and bias are sums of |error| and of error over the sum of |actual| (shares;
    missing where nothing was booked), pinball_loss and crps means per node and cut (money), coverage_80 the share of
    actuals inside the 80 % range (missing for who gives none), periods how many periods it rests on.
    """
    rows = [
        {"node_type": node_type, "week": week, "forecaster": who, "category": category or None, **_scores(group)}
        for (node_type, who, category, week), group in judged.groupby([*_WHO, "week_of_period"])
    ]
    board = pd.DataFrame(rows, columns=list(SCOREBOARD_COLUMNS))
    return board.sort_values(["node_type", "week", "forecaster", "category"], ignore_index=True).astype(
        {"category": "str", "coverage_80": "float64"}
    )


def compare_with_model(judged: pd.DataFrame, *, seed: int = SEED) -> pd.DataFrame:
    """The model's score less each other forecaster's, on the nodes and cuts both spoke of.

    Returns
    -------
    Frame with `DIFFERENCE_COLUMNS`; below zero, the model was better. low and high enclose 95 % of what drawing whole
    periods anew gives; missing for fewer than two periods.
    """
    model = judged[judged["forecaster"] == "model"]
    others = judged[judged["forecaster"] != "model"]
    found = []
    for (node_type, who, category), group in others.groupby(_WHO):
        both = model.merge(group, on=_PLACE, suffixes=("_model", "_other"))
        for metric in COMPARED if len(both) else ():
            seen = _difference(both, metric, seed)
            names = {"against": who, "category": category or None, "node_type": node_type, "metric": metric}
            numbers = {"difference": seen.value, "low": seen.low, "high": seen.high}
            found.append({**names, **numbers, "periods": both["period_start"].nunique()})
    return pd.DataFrame(found, columns=list(DIFFERENCE_COLUMNS)).astype({"category": "str"})


def _scores(group: pd.DataFrame) -> dict[str, float | int]:
    booked = float(group["actual"].abs().sum())
    inside = group["inside_80"].dropna()
    return {
        "wape": float(group["error"].abs().sum()) / booked if booked else np.nan,
        "bias": float(group["error"].sum()) / booked if booked else np.nan,
        "pinball_loss": float(group["pinball_loss"].mean()),
        "crps": float(group["crps"].mean()),
        "coverage_80": float(inside.astype("float64").mean()) if len(inside) else np.nan,
        "periods": int(group["period_start"].nunique()),
    }


def _difference(both: pd.DataFrame, metric: str, seed: int) -> Difference:
    """A ratio of sums over periods: of money missed over money booked (wape), of losses over rows (the others)."""
    if metric == "wape":
        cost = both["error_model"].abs() - both["error_other"].abs()
        weight = both["actual_model"].abs()
    else:
        cost, weight = both[f"{metric}_model"] - both[f"{metric}_other"], pd.Series(1.0, index=both.index)
    sums = pd.DataFrame({"cost": cost, "weight": weight}).groupby(both["period_start"]).sum().to_numpy()
    value = _ratio(sums.sum(axis=0)[None])[0]
    if len(sums) < 2:
        return Difference(float(value), np.nan, np.nan)
    times = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=_DRAWS)
    low, high = np.nanquantile(_ratio(times @ sums), [0.025, 0.975])
    return Difference(float(value), float(low), float(high))


def _ratio(sums: Array) -> Array:
    return np.divide(sums[:, 0], sums[:, 1], out=np.full(len(sums), np.nan), where=sums[:, 1] > 0)
