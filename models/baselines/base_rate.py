"""The share of snapshots won in their period, for every deal alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class BaseRate:
    """One probability for all."""

    rate: float
    name: str = "base_rate"

    @staticmethod
    def fit(won_in_period: np.ndarray) -> "BaseRate":
        """Half a win and half a miss are added, so that the rate is never 0 or 1."""
        return BaseRate(float((won_in_period.sum() + 0.5) / (len(won_in_period) + 1.0)))

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        return np.full(len(features), self.rate)

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "rate": self.rate}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "BaseRate":
        return BaseRate(stored["rate"])
