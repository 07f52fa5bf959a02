"""The scoreboard, on rows whose scores can be worked out on paper."""

import numpy as np
import pandas as pd
import pytest

from models.forecaster import QUANTILES
from training.scoreboard import build_scoreboard, compare_with_model, crps, judged_rows, pinball_losses

Q1, Q2 = pd.Timestamp("2026-01-01"), pd.Timestamp("2026-04-01")


def row(forecaster: str, period: pd.Timestamp, value: float, actual: float | None, **more: object) -> dict:
    return {
        "period_start": period,
        "cut_at": period.tz_localize("UTC") + pd.Timedelta(days=5, hours=9),
        "week_of_period": 1,
        "node_type": "company",
        "node_id": "company",
        "forecaster": forecaster,
        "category": None,
        "value": value,
        "actual": actual,
        **dict.fromkeys(QUANTILES, np.nan),
        "inside_80": None,
        **more,
    }


def judged(*rows: dict) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows)).astype({"actual": "float64", "category": "str", "inside_80": "boolean"})
    return judged_rows(frame.assign(error=frame["value"] - frame["actual"]))


def sure(value: float, inside: bool) -> dict:
    return {**dict.fromkeys(QUANTILES, value), "inside_80": inside}


ROWS = judged(
    row("model", Q1, 110.0, 100.0, **sure(110.0, True)),
    row("model", Q2, 270.0, 300.0, **sure(270.0, False)),
    row("last_period", Q1, 60.0, 100.0),
    row("last_period", Q2, 420.0, 300.0),
    row("call", Q2, 300.0, 300.0, category="commit"),
    row("call", Q2, 999.0, None, category="best_case"),
)


def scores_of(forecaster: str) -> pd.Series:
    board = build_scoreboard(ROWS)
    return board[board["forecaster"] == forecaster].iloc[0]


def test_the_pinball_loss_is_a_share_of_the_miss_that_depends_on_the_side():
    losses = pinball_losses(np.array([[80.0], [120.0]]), np.array([0.9]), np.array([100.0, 100.0]))
    assert losses == pytest.approx([0.9 * 20, 0.1 * 20])


def test_the_crps_of_one_number_is_its_absolute_error_and_of_an_even_spread_what_the_integral_gives():
    levels = np.array([0.1, 0.5, 0.9])
    assert crps(np.full((1, 3), 80.0), levels, np.array([100.0])) == pytest.approx([20.0])
    # Uniform on 0..1, actual 1/2: the integral of (level - [above])^2 is 1/12.
    assert crps(np.array([[0.0, 0.5, 1.0]]), np.array([0.0, 0.5, 1.0]), np.array([0.5])) == pytest.approx(
        [1 / 12], rel=1e-4
    )


def test_wape_and_bias_are_sums_of_errors_over_the_sum_of_what_came():
    model, naive = scores_of("model"), scores_of("last_period")
    assert model["wape"] == pytest.approx((10 + 30) / 400)
    assert model["bias"] == pytest.approx((10 - 30) / 400)
    assert naive["wape"] == pytest.approx((40 + 120) / 400) and naive["bias"] == pytest.approx(80 / 400)


def test_losses_are_means_and_who_names_one_number_has_no_coverage():
    model, naive = scores_of("model"), scores_of("last_period")
    assert model["crps"] == pytest.approx((10 + 30) / 2) and model["pinball_loss"] == pytest.approx((10 + 30) / 4)
    assert model["coverage_80"] == 0.5 and np.isnan(naive["coverage_80"])
    assert model["periods"] == 2 and model["week"] == 1


def test_a_row_whose_actual_is_unknown_is_not_judged():
    call = build_scoreboard(ROWS).query("forecaster == 'call'")
    assert (
        call["category"].tolist() == ["commit"] and call["periods"].tolist() == [1] and call["wape"].tolist() == [0.0]
    )


def test_where_nothing_was_booked_a_share_of_it_is_unknown():
    board = build_scoreboard(judged(row("last_period", Q1, 10.0, 0.0)))
    assert board[["wape", "bias"]].isna().all(axis=None) and board["crps"].item() == pytest.approx(10.0)


def test_the_model_less_another_is_judged_where_both_spoke_with_whole_periods_drawn_anew():
    found = compare_with_model(ROWS).set_index(["against", "metric"])
    naive = found.loc[("last_period", "wape")]
    assert naive["difference"] == pytest.approx((40 - 160) / 400)
    # Drawing two periods of two gives only three cases: both the first, both the second, one of each.
    assert naive[["low", "high"]].tolist() == pytest.approx([-30 / 100, -90 / 300])
    assert found.loc[("last_period", "crps"), "difference"] == pytest.approx((-30 - 90) / 2)
    assert found.loc[("last_period", "crps"), ["low", "high"]].tolist() == pytest.approx([-90.0, -30.0])
    assert naive["periods"] == 2


def test_one_period_gives_a_difference_without_a_range():
    call = compare_with_model(ROWS).query("against == 'call' and metric == 'wape'").iloc[0]
    assert call["difference"] == pytest.approx(30 / 300) and np.isnan(call["low"]) and np.isnan(call["high"])


def test_without_a_model_nothing_is_compared():
    assert compare_with_model(ROWS[ROWS["forecaster"] != "model"]).empty
