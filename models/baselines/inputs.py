"""What baselines share: the shape of one, evidence counted in deals, and whether a deal is due in its period."""

from typing import Any, Protocol

import numpy as np
import pandas as pd

# Nobody's word is taken as certain: a log loss would be infinite at the first surprise.
SMALLEST = 0.005


class Baseline(Protocol):
    """A simple forecaster of whether a deal is won in its period."""

    @property
    def name(self) -> str:
        """The name in JSON and review rows."""
        ...

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        """(n,) probabilities of winning in the period that holds as_of, 0..1."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """JSON values, the name among them; `models.baselines.baseline_from_dict` reads them back."""
        ...


def due_in_period(features: pd.DataFrame) -> np.ndarray:
    """(n,) whether the promised day lies in the as_of's period; one past or unknown counts as due."""
    if "days_to_close_date" not in features:
        return np.ones(len(features), dtype=bool)
    return ~(features["days_to_close_date"] >= features["days_to_period_end"]).to_numpy()


def snapshots_per_deal(features: pd.DataFrame) -> float:
    """How many snapshots repeat one deal's fate, on average."""
    return len(features) / max(features["deal_id"].nunique(), 1)


def is_known(features: pd.DataFrame, column: str) -> bool:
    """Whether a column is there with at least one value."""
    return column in features and bool(features[column].notna().any())
