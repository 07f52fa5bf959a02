import json

import numpy as np
import pandas as pd
import pytest

from models.bins import BinOutcomes
from models.pooled import PooledRates

BASE = np.zeros((1, 1), dtype=int)


def rates(stages: list[str | None], events: list[int], days: list[float]) -> PooledRates:
    """One bin, one row per stage: so many wins in so many days at risk."""
    outcomes = BinOutcomes(
        np.array(days)[:, None], {"won": np.array(events, dtype=float)[:, None], "lost": np.zeros((len(days), 1))}
    )
    base = np.zeros((len(days), 1), dtype=int)
    return PooledRates.fit(pd.Series(stages, dtype="str"), base, outcomes, bins=1, snapshots_per_deal=1.0)


def rate(pooled: PooledRates, stage: str | None) -> float:
    return float(np.exp(pooled.log_intensities(pd.Series([stage], dtype="str"), BASE)["won"].item()))


def test_with_thousands_of_wins_a_stage_has_its_own_rate() -> None:
    pooled = rates(["early", "late"], [1000, 4000], [100_000.0, 100_000.0])
    assert rate(pooled, "early") == pytest.approx(0.01, rel=0.02)
    assert rate(pooled, "late") == pytest.approx(0.04, rel=0.02)


def test_with_two_wins_a_stage_stays_near_all_others() -> None:
    pooled = rates(["usual", "rare"], [1000, 2], [100_000.0, 20.0])
    assert 0.01 < rate(pooled, "rare") < 0.02


def test_a_stage_never_seen_has_the_rate_of_all() -> None:
    pooled = rates(["early", "late"], [1000, 4000], [100_000.0, 100_000.0])
    assert rate(pooled, "new") == rate(pooled, None) == pytest.approx(0.025, rel=0.02)


def test_without_any_loss_losing_is_rare_but_possible() -> None:
    pooled = rates(["early"], [10], [1000.0])
    lost = np.exp(pooled.log_intensities(pd.Series(["early"], dtype="str"), BASE)["lost"].item())
    assert 0 < lost < 0.001


def test_rates_read_back_are_the_same() -> None:
    pooled = rates(["early", "late"], [10, 40], [1000.0, 1000.0])
    again = PooledRates.from_dict(json.loads(json.dumps(pooled.to_dict())))
    assert rate(again, "late") == rate(pooled, "late")
