from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from crm.calendar import Calendar
from training.splits import days_between_snapshots, snapshot_moments, walk_forward_folds

QUARTERS = Calendar("EUR", time_zone="Europe/Amsterdam")
MONTHS = Calendar("EUR", time_zone="Europe/Amsterdam", period="month")


def midnight(text):
    return pd.Timestamp(text, tz="Europe/Amsterdam").tz_convert("UTC").as_unit("us")


def lives(first, last, *, lasting, every="1D"):
    """Only the spells of a history: one deal opened each day, each open for so many days."""
    opened = pd.date_range(first, last, freq=every, tz="UTC").as_unit("us")
    ended = opened + pd.Timedelta(days=lasting).as_unit("us")
    spells = pd.DataFrame({"deal_id": np.arange(len(opened)).astype(str), "opened_at": opened, "ended_at": ended})
    return SimpleNamespace(spells=spells)


@pytest.mark.parametrize(("lasting", "every"), [(0.02, 7), (4, 1), (20, 2), (80, 7)])
def test_snapshots_are_closer_together_where_deals_live_shortly(lasting, every):
    history = lives("2025-01-01", "2025-12-31", lasting=lasting)
    assert days_between_snapshots(history, midnight("2026-01-01")) == every


def test_deals_that_closed_later_do_not_tell_how_long_deals_live():
    history = lives("2025-01-01", "2025-03-01", lasting=80)
    assert days_between_snapshots(history, midnight("2025-03-01")) == 7
    history.spells.loc[len(history.spells)] = ["quick", midnight("2025-01-01"), midnight("2025-01-05")]
    history.spells.loc[len(history.spells)] = ["later", midnight("2025-02-01"), midnight("2026-01-05")]
    assert days_between_snapshots(history, midnight("2025-03-01")) == 1


def test_snapshots_are_taken_on_mondays_at_local_midnight_and_before_the_training_moment():
    moments = snapshot_moments(lives("2025-01-01", "2025-12-31", lasting=80), QUARTERS, midnight("2025-06-02"))
    local = [moment.tz_convert("Europe/Amsterdam") for moment in moments]
    assert all(each.weekday() == 0 and each.hour == 0 for each in local)
    assert str(local[0].date()) == "2025-01-06" and str(local[-1].date()) == "2025-05-26"
    assert len(moments) == 21


def test_too_many_snapshots_are_thinned_by_whole_moments_of_older_years_first():
    history = lives("2022-01-01", "2025-12-31", lasting=80)
    known_at = midnight("2025-12-31")
    everything = snapshot_moments(history, QUARTERS, known_at)
    fewer = snapshot_moments(history, QUARTERS, known_at, most=9_000)
    open_then = sum(((history.spells["opened_at"] <= at) & (history.spells["ended_at"] > at)).sum() for at in fewer)
    assert open_then <= 9_000 < 80 * len(everything)
    assert set(fewer) < set(everything)
    last_year = [moment for moment in everything if moment >= known_at - pd.Timedelta(days=365)]
    assert fewer[-len(last_year) :] == last_year


def test_even_a_tiny_allowance_leaves_the_latest_moment():
    moments = snapshot_moments(lives("2025-01-01", "2025-12-31", lasting=80), QUARTERS, midnight("2025-12-31"), most=1)
    assert moments == [midnight("2025-12-29")]


def test_without_deals_there_are_no_snapshots_and_no_folds():
    nothing = lives("2025-01-01", "2025-01-01", lasting=1)
    assert snapshot_moments(nothing, QUARTERS, midnight("2025-01-01")) == []
    assert walk_forward_folds(QUARTERS, [], midnight("2025-01-01")) == []


def test_two_months_give_four_fits_inside_the_second():
    known_at = midnight("2011-12-01")
    moments = MONTHS.moments(midnight("2011-10-01"), midnight("2011-11-30"), 2)
    folds = walk_forward_folds(MONTHS, moments, known_at)
    assert len(folds) == 4
    assert folds[0].fitted_at >= midnight("2011-11-01") and folds[-1].judged_until == known_at
    assert all(earlier.judged_until == later.fitted_at for earlier, later in zip(folds, folds[1:], strict=False))


def test_three_years_of_quarters_are_judged_over_the_last_six():
    known_at = midnight("2026-05-10")
    moments = QUARTERS.moments(midnight("2023-05-10"), known_at, 7)
    starts = [fold.fitted_at for fold in walk_forward_folds(QUARTERS, moments, known_at)]
    assert starts == [midnight(day) for day in ("2024-10-01", "2025-04-01", "2025-10-01", "2026-01-01")]


def test_a_first_period_that_has_just_ended_gives_no_fold():
    known_at = midnight("2011-11-01")
    assert walk_forward_folds(MONTHS, MONTHS.moments(midnight("2011-10-01"), known_at, 2), known_at) == []
