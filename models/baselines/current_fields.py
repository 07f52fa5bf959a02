"""LightGBM as it comes, on the deal's current fields only: what a first attempt usually is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd

from models.baselines.inputs import SMALLEST
from models.encoding import DeclaredFeature, FeatureEncoder

CURRENT_FIELDS = (
    *("stage", "stage_rank", "pipeline", "log_amount", "forecast_category", "deal_type", "lead_source"),
    *("segment", "industry", "region", "deal_age_days"),
    *("days_to_close_date", "days_to_period_end", "close_date_before_period_end"),
)


@dataclass(frozen=True)
class CurrentFields:
    """A default LightGBM classifier."""

    encoder: FeatureEncoder
    trees: lgb.Booster
    name: str = "lightgbm_current_fields"

    @staticmethod
    def fit(
        features: pd.DataFrame, won_in_period: np.ndarray, catalogue: Mapping[str, DeclaredFeature], *, seed: int
    ) -> "CurrentFields":
        """Fit with LightGBM's default settings."""
        fields = {name: catalogue[name] for name in CURRENT_FIELDS if name in catalogue}
        outcomes = pd.DataFrame({"outcome": np.where(won_in_period > 0, "won", "lost")})
        encoder = FeatureEncoder.fit(features, fields, outcomes=outcomes)
        parameters = {
            "objective": "binary",
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbose": -1,
        }
        dataset = lgb.Dataset(encoder.transform(features), label=won_in_period, params=parameters)
        return CurrentFields(encoder, lgb.train(parameters, dataset, num_boost_round=100))

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        probability = self.trees.predict(self.encoder.transform(features), num_threads=1)
        return np.clip(np.asarray(probability, dtype=float), SMALLEST, 1 - SMALLEST)

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "encoder": self.encoder.to_dict(), "trees": self.trees.model_to_string()}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "CurrentFields":
        return CurrentFields(FeatureEncoder.from_dict(stored["encoder"]), lgb.Booster(model_str=stored["trees"]))
