"""A regularised logistic regression on the same features: standardised numbers, one mark per category and per gap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from models.baselines.inputs import SMALLEST, snapshots_per_deal

_STRENGTH_PER_DEAL = 0.3
_FEWEST_ROWS = 20
_FARTHEST = 5.0


@dataclass(frozen=True)
class LogisticRegression:
    """Coefficients on standardised columns.

    Attributes
    ----------
    numbers : mean and standard deviation by number column; values are cut at five deviations, unknown is the mean.
    marks : (column, value) pairs with a 0/1 regressor; a null value marks what is unknown.
    coefficients : of the numbers, then of the marks.
    """

    numbers: Mapping[str, tuple[float, float]]
    marks: tuple[tuple[str, str | None], ...]
    coefficients: tuple[float, ...]
    intercept: float
    name: str = "logistic_regression"

    @staticmethod
    def fit(
        features: pd.DataFrame, won_in_period: np.ndarray, numbers: Sequence[str], categories: Sequence[str]
    ) -> "LogisticRegression":
        """Fit with an L2 penalty that counts a deal's snapshots as one piece of evidence (scikit-learn)."""
        from sklearn.linear_model import LogisticRegression as Regression

        spread = {column: (float(features[column].mean()), float(features[column].std())) for column in numbers}
        spread = {column: each for column, each in spread.items() if np.isfinite(each).all() and each[1] > 0}
        marks: list[tuple[str, str | None]] = []
        for column in categories:
            counts = features[column].value_counts()
            marks += [(column, str(value)) for value, count in counts.items() if count >= _FEWEST_ROWS]
        for column in (*spread, *categories):
            if _FEWEST_ROWS <= features[column].isna().sum() <= len(features) - _FEWEST_ROWS:
                marks.append((column, None))
        blank = LogisticRegression(spread, tuple(marks), (), 0.0)
        regression = Regression(C=_STRENGTH_PER_DEAL / snapshots_per_deal(features), max_iter=1000)
        regression.fit(blank._regressors(features), won_in_period)
        coefficients = tuple(float(each) for each in regression.coef_[0])
        return LogisticRegression(spread, tuple(marks), coefficients, float(regression.intercept_[0]))

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        odds = self.intercept + np.vecdot(self._regressors(features), np.array(self.coefficients))
        return np.clip(1 / (1 + np.exp(-odds)), SMALLEST, 1 - SMALLEST)

    def _regressors(self, features: pd.DataFrame) -> np.ndarray:
        columns = [
            np.nan_to_num(((features[column] - mean) / deviation).clip(-_FARTHEST, _FARTHEST).to_numpy(dtype=float))
            for column, (mean, deviation) in self.numbers.items()
        ]
        for column, value in self.marks:
            marked = features[column].isna() if value is None else features[column] == value
            columns.append(marked.to_numpy(dtype=float))
        return np.column_stack(columns) if columns else np.zeros((len(features), 0))

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "numbers": {column: list(each) for column, each in self.numbers.items()},
            "marks": [list(mark) for mark in self.marks],
            "coefficients": list(self.coefficients),
            "intercept": self.intercept,
        }

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "LogisticRegression":
        return LogisticRegression(
            {column: (each[0], each[1]) for column, each in stored["numbers"].items()},
            tuple((column, value) for column, value in stored["marks"]),
            tuple(stored["coefficients"]),
            stored["intercept"],
        )
