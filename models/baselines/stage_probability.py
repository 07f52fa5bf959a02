"""What the CRM itself says: the default probability of the deal's stage, if the deal is due in the period."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from models.baselines.inputs import SMALLEST, due_in_period


@dataclass(frozen=True)
class StageProbability:
    """Default probabilities by pipeline and stage; `""` stands for no pipeline."""

    by_stage: Mapping[str, Mapping[str, float]]
    name: str = "stage_probability"

    @staticmethod
    def fit(stages: pd.DataFrame) -> "StageProbability":
        """Read the stages table: stage, default_probability, pipeline (may be absent)."""
        known = stages[stages["default_probability"].notna()]
        pipeline = known["pipeline"].fillna("") if "pipeline" in known else pd.Series("", index=known.index)
        by_stage: dict[str, dict[str, float]] = {}
        for line, stage, probability in zip(pipeline, known["stage"], known["default_probability"], strict=True):
            by_stage.setdefault(str(line), {})[str(stage)] = float(probability)
        return StageProbability(by_stage)

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        """The stage's probability; that of the stage's name in any pipeline if the deal's own does not list it."""
        anywhere = {stage: value for stages in self.by_stage.values() for stage, value in stages.items()}
        probability = features["stage"].map(anywhere).to_numpy(dtype=float)
        if "pipeline" in features:
            pipeline = features["pipeline"].fillna("")
            for line, listed in self.by_stage.items():
                own = np.where(pipeline == line, features["stage"].map(listed).to_numpy(dtype=float), np.nan)
                probability = np.where(np.isnan(own), probability, own)
        unknown = float(np.mean(list(anywhere.values())))
        probability = np.where(np.isnan(probability), unknown, probability)
        return np.clip(np.where(due_in_period(features), probability, 0.0), SMALLEST, 1 - SMALLEST)

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "by_stage": {line: dict(stages) for line, stages in self.by_stage.items()}}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "StageProbability":
        return StageProbability(stored["by_stage"])
