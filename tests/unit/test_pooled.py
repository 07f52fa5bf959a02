import json

import numpy as np
import pandas as pd
import pytest

from models.bins import BIN_INPUTS, BinGrid, BinOutcomes
from models.pooled import PooledRates

MIDDLE = 5.0
"""Of the only bin, in days from the snapshot."""


def grid(snapshots: int) -> BinGrid:
    inputs = np.zeros((1, 1, len(BIN_INPUTS)))
    inputs[..., 0] = MIDDLE
    moments = np.array(["2026-03-02"], dtype="datetime64[us]")
    edges, base = np.array([[0.0, 2 * MIDDLE]]), np.zeros((1, 1), dtype=int)
    return BinGrid(np.zeros(snapshots, dtype=int), edges, base, inputs, moments)


def seen(stages: list[str | None], ages: list[float] | None = None) -> pd.DataFrame:
    """Snapshots; where a stage is known so are the days in it, and then nothing goes by age."""
    stage = pd.Series(stages, dtype="str")
    in_stage = stage.notna().map({True: 3.0, False: np.nan})
    return pd.DataFrame({"stage": stage, "days_in_stage": in_stage, "deal_age_days": ages or [np.nan] * len(stages)})


def rates(features: pd.DataFrame, events: list[int], days: list[float]) -> PooledRates:
    """One bin: so many wins in so many days at risk."""
    outcomes = BinOutcomes(
        np.array(days)[:, None], {"won": np.array(events, dtype=float)[:, None], "lost": np.zeros((len(days), 1))}
    )
    return PooledRates.fit(features, grid(len(features)), outcomes, bins=1, snapshots_per_deal=1.0)


def rate(pooled: PooledRates, stage: str | None, age: float = np.nan, cause: str = "won") -> float:
    return float(np.exp(pooled.log_intensities(seen([stage], [age]), grid(1))[cause].item()))


def test_with_thousands_of_wins_a_stage_has_its_own_rate() -> None:
    pooled = rates(seen(["early", "late"]), [1000, 4000], [100_000.0, 100_000.0])
    assert rate(pooled, "early") == pytest.approx(0.01, rel=0.02)
    assert rate(pooled, "late") == pytest.approx(0.04, rel=0.02)


def test_with_two_wins_a_stage_stays_near_all_others() -> None:
    pooled = rates(seen(["usual", "rare"]), [1000, 2], [100_000.0, 20.0])
    assert 0.01 < rate(pooled, "rare") < 0.02


def test_a_stage_never_seen_has_the_rate_of_all() -> None:
    pooled = rates(seen(["early", "late"]), [1000, 4000], [100_000.0, 100_000.0])
    assert rate(pooled, "new") == rate(pooled, None) == pytest.approx(0.025, rel=0.02)


def test_without_stages_deals_go_by_how_old_they_will_be() -> None:
    pooled = rates(seen([None, None], [1.0, 80.0]), [1000, 4000], [100_000.0, 100_000.0])
    assert rate(pooled, None, age=1.0) == rate(pooled, None, age=7.0 - MIDDLE - 0.1) == pytest.approx(0.01, rel=0.02)
    assert rate(pooled, None, age=80.0) == pytest.approx(0.04, rel=0.02)
    assert rate(pooled, None, age=300.0) == rate(pooled, None) == pytest.approx(0.025, rel=0.02)
    assert pooled.goes_by_age(seen(["new", None, None], [1.0, 1.0, np.nan]), grid(3)).tolist() == [
        [False],
        [True],
        [False],
    ]


def test_a_deal_in_a_stage_has_the_stage_s_rate_however_old_it_is() -> None:
    pooled = rates(seen(["early", "late"], [1.0, 80.0]), [1000, 4000], [100_000.0, 100_000.0])
    assert rate(pooled, "early", age=80.0) == rate(pooled, "early", age=1.0) == pytest.approx(0.01, rel=0.02)


def test_wins_in_a_lively_season_tell_of_a_rate_that_is_lower_in_an_average_one() -> None:
    outcomes = BinOutcomes(np.full((1, 1), 100_000.0), {"won": np.full((1, 1), 1000.0), "lost": np.full((1, 1), 500.0)})
    pooled = PooledRates.fit(seen(["early"]), grid(1), outcomes, bins=1, snapshots_per_deal=1.0, season=1.25)
    assert rate(pooled, "early") == pytest.approx(0.008, rel=0.01)
    assert rate(pooled, "early", cause="lost") == pytest.approx(0.005, rel=0.01)


def test_without_any_loss_losing_is_rare_but_possible() -> None:
    pooled = rates(seen(["early"]), [10], [1000.0])
    assert 0 < rate(pooled, "early", cause="lost") < 0.001


def test_rates_read_back_are_the_same() -> None:
    pooled = rates(seen(["early", "late"]), [10, 40], [1000.0, 1000.0])
    again = PooledRates.from_dict(json.loads(json.dumps(pooled.to_dict())))
    assert rate(again, "late") == rate(pooled, "late")
