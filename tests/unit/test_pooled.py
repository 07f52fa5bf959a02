import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.bins import BIN_INPUTS, CAUSES, BinGrid, BinOutcomes
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


EDGES = np.array([0.0, 10.0, 30.0, 100.0])
USUAL = PooledRates(
    ("early", "late"),
    # A row for each stage, one of the unknown, and one for each range of ages.
    {cause: np.log([[0.001, 0.01, 0.02], [0.05, 0.04, 0.01], *[[0.003, 0.02, 0.01]] * 18]) for cause in CAUSES},
)


def test_at_half_the_pace_a_bin_has_the_mean_rate_of_half_as_many_days_ahead() -> None:
    slow = np.exp(USUAL.at_pace(0.5, EDGES).log_rates["won"])
    # Days 0 to 5, 5 to 15 and 15 to 50 of the usual time.
    assert slow[0] == pytest.approx([0.001, (5 * 0.001 + 5 * 0.01) / 10, (15 * 0.01 + 20 * 0.02) / 35])
    assert slow[1] == pytest.approx([0.05, (5 * 0.05 + 5 * 0.04) / 10, (15 * 0.04 + 20 * 0.01) / 35])


def test_at_twice_the_pace_the_last_bin_goes_on() -> None:
    quick = np.exp(USUAL.at_pace(2.0, EDGES).log_rates["won"])
    assert quick[0] == pytest.approx([(10 * 0.001 + 10 * 0.01) / 20, (10 * 0.01 + 30 * 0.02) / 40, 0.02])


def test_losses_and_deals_of_no_stage_keep_their_time() -> None:
    slow = USUAL.at_pace(0.7, EDGES)
    assert np.array_equal(slow.log_rates["lost"], USUAL.log_rates["lost"])
    assert np.array_equal(slow.log_rates["won"][2:], USUAL.log_rates["won"][2:])
    nowhere = replace(USUAL, stages=(), log_rates={cause: each[2:] for cause, each in USUAL.log_rates.items()})
    assert np.array_equal(nowhere.at_pace(0.7, EDGES).log_rates["won"], nowhere.log_rates["won"])


@given(st.floats(0.2, 5.0))
def test_the_usual_pace_changes_nothing_and_another_keeps_rates_within_the_usual_ones(pace: float) -> None:
    assert USUAL.at_pace(1.0, EDGES).log_rates["won"] == pytest.approx(USUAL.log_rates["won"])
    usual, now = (each.log_rates["won"][:2] for each in (USUAL, USUAL.at_pace(pace, EDGES)))
    assert (now >= usual.min(axis=1, keepdims=True) - 1e-9).all()
    assert (now <= usual.max(axis=1, keepdims=True) + 1e-9).all()


def test_without_any_loss_losing_is_rare_but_possible() -> None:
    pooled = rates(seen(["early"]), [10], [1000.0])
    assert 0 < rate(pooled, "early", cause="lost") < 0.001


def test_rates_read_back_are_the_same() -> None:
    pooled = rates(seen(["early", "late"]), [10, 40], [1000.0, 1000.0])
    again = PooledRates.from_dict(json.loads(json.dumps(pooled.to_dict())))
    assert rate(again, "late") == rate(pooled, "late")
