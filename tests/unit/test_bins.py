import numpy as np
import pandas as pd
import pytest

from crm.calendar import Calendar
from models.bins import BIN_INPUTS, bin_outcomes, bin_rows, build_grid, choose_bins, read_clocks

CALENDAR = Calendar(base_currency="EUR")
MID_MARCH = pd.Timestamp("2026-03-15", tz="UTC")


def test_a_cycle_of_months_starts_with_a_week_and_a_cycle_of_days_with_a_day() -> None:
    rng = np.random.default_rng(0)
    assert choose_bins(rng.exponential(90, 5000)).tolist()[:4] == [0, 7, 10, 14]
    assert choose_bins(rng.exponential(10, 5000)).tolist()[:4] == [0, 1, 2, 3]


def test_what_lies_beyond_the_closings_seen_is_one_bin() -> None:
    bins = choose_bins(np.random.default_rng(0).uniform(0, 60, 1000))
    assert bins[-1] == 365
    assert bins[-2] < 60


def test_deals_still_open_do_not_count_and_few_closings_make_few_bins() -> None:
    assert choose_bins(np.array([np.nan, np.nan])).tolist() == [0, 365]
    assert len(choose_bins(np.linspace(1, 300, 40))) <= 5


def test_bins_are_cut_where_the_period_and_the_next_one_end() -> None:
    grid = build_grid(pd.Series([MID_MARCH]), CALENDAR, np.array([0.0, 30.0, 60.0, 365.0]))
    assert grid.edges[0].tolist() == [0, 17, 30, 60, 108, 365]
    assert grid.base[0].tolist() == [0, 0, 1, 2, 2]


def test_a_cut_beyond_the_last_edge_is_a_bin_without_days() -> None:
    grid = build_grid(pd.Series([MID_MARCH]), CALENDAR, np.array([0.0, 30.0, 90.0]))
    assert grid.edges[0].tolist() == [0, 0, 17, 30, 90]


def test_a_bin_knows_its_distance_to_the_end_of_the_period_it_lies_in() -> None:
    grid = build_grid(pd.Series([MID_MARCH]), CALENDAR, np.array([0.0, 30.0, 60.0, 365.0]))
    midpoint, _, to_period_end, ahead = grid.inputs[0].T
    assert midpoint.tolist() == [8.5, 23.5, 45, 84, 236.5]
    assert ahead.tolist() == [0, 1, 1, 1, 2]
    assert to_period_end[:4].tolist() == [8.5, 84.5, 63, 24]
    assert np.isnan(to_period_end[4])


def test_a_row_holds_the_snapshots_inputs_and_what_its_clocks_will_show_in_the_middle_of_the_bin() -> None:
    grid = build_grid(pd.Series([MID_MARCH, MID_MARCH]), CALENDAR, np.array([0.0, 30.0, 365.0]))
    features = pd.DataFrame({"days_to_close_date": [8.5, np.nan], "deal_age_days": [40.0, 7.0]})
    rows = bin_rows(np.array([[1.0], [2.0]]), read_clocks(features), grid)
    shown = pd.DataFrame(rows, columns=["input", *BIN_INPUTS]).iloc[[0, 1, 4]]
    assert rows.shape == (8, 7)
    assert shown["input"].tolist() == [1, 1, 2]
    assert shown["bin_midpoint"].tolist() == [8.5, 23.5, 8.5]
    assert shown["deal_age_days"].tolist() == [48.5, 63.5, 15.5]
    assert shown["days_to_close_date"].tolist()[:2] == [0, 15]
    assert np.isnan(rows[4:, 3]).all()


def test_the_age_a_deal_will_have_is_told_only_where_it_has_no_stage_to_leave() -> None:
    features = pd.DataFrame({"days_in_stage": [3.0, np.nan], "deal_age_days": [40.0, 7.0]})
    np.testing.assert_array_equal(read_clocks(features)[:, 1], [np.nan, 7.0])
    assert read_clocks(features[["deal_age_days"]])[:, 1].tolist() == [40.0, 7.0]
    assert np.isnan(read_clocks(features[[]])).all()
    assert features["deal_age_days"].tolist() == [40.0, 7.0]


def test_nobody_is_at_risk_after_the_closing_or_the_training_moment() -> None:
    outcomes = pd.DataFrame({"days_observed": [10.0, 25.0, 400.0, 0.0], "outcome": ["won", None, "lost", None]})
    seen = bin_outcomes(np.tile([0.0, 10.0, 20.0, 365.0], (4, 1)), outcomes)
    assert seen.exposure.tolist() == [[10, 0, 0], [10, 10, 5], [10, 10, 345], [0, 0, 0]]
    assert seen.events["won"].tolist() == [[True, False, False], [False] * 3, [False] * 3, [False] * 3]
    assert not seen.events["lost"].any()


@pytest.mark.parametrize("zone", ["UTC", "Australia/Sydney"])
def test_cuts_are_local_midnights(zone: str) -> None:
    calendar = Calendar(base_currency="EUR", time_zone=zone)
    start = calendar.midnight(pd.Timestamp("2026-03-30").date())
    grid = build_grid(pd.Series([start]), calendar, np.array([0.0, 365.0]))
    assert grid.edges[0, 1] == pytest.approx(2.0)
