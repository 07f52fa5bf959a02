import numpy as np
import pandas as pd
import pytest

from crm.calendar import Calendar
from models.curves import Curves
from models.scorer import days_to_period_end, tilt_curves, win_dates, won_between


@pytest.fixture
def curves():
    """Three deals, two bins: at even chances, hopeless, and nearly certain to be lost soon."""
    edges = np.tile([0.0, 30.0, 365.0], (3, 1))
    won = np.log([[0.01, 0.01], [1e-6, 1e-6], [0.01, 0.01]])
    lost = np.log([[0.01, 0.01], [0.01, 0.01], [0.5, 0.5]])
    return Curves(edges, won, lost)


@pytest.mark.parametrize("probability", [0.005, 0.2, 0.9])
def test_tilted_curves_say_what_the_baseline_says_of_the_period(curves, probability):
    days = np.array([20.0, 50.0, 90.0])
    tilted = tilt_curves(curves, np.full(3, probability), days)
    assert tilted.probability_by(days).won == pytest.approx(probability, abs=1e-9)
    later, sooner = (tilted.probability_by(days + more).won for more in (30, -10))
    assert (later >= probability - 1e-9).all() and (sooner <= probability + 1e-9).all()


def test_tilting_moves_each_deal_by_itself(curves):
    days = np.array([20.0, 50.0, 90.0])
    together = tilt_curves(curves, np.array([0.1, 0.2, 0.3]), days)
    alone = tilt_curves(curves.take(np.array([1])), np.array([0.2]), days[[1]])
    assert np.array_equal(alone.won[0], together.won[1])


def test_days_to_the_period_end_count_local_midnights_across_the_change_of_clocks():
    calendar = Calendar("EUR", time_zone="Europe/Amsterdam")
    winter = pd.Series([calendar.parse_moment("2026-03-01")])
    assert days_to_period_end(winter, calendar) == pytest.approx(31 - 1 / 24)


def test_what_is_won_in_period_after_period_adds_up_to_what_is_won_by_the_end_of_the_last(curves):
    calendar = Calendar("EUR")
    as_of = pd.Series([calendar.parse_moment("2026-02-10")] * 3)
    periods = calendar.periods_between(as_of.iloc[0], calendar.parse_moment("2027-01-01"))
    won = [won_between(curves, as_of, period) for period in periods]
    days = np.full(3, (periods[-1].end_at - as_of.iloc[0]).days, dtype=float)
    assert len(periods) == 4 and (np.array(won)[:, :2] > 0).all()
    assert np.sum(won, axis=0) == pytest.approx(curves.probability_by(days).won)
    past = calendar.previous_period(periods[0])
    assert (won_between(curves, as_of, past) == 0).all()


def test_the_expected_close_date_is_a_local_day_after_the_moment(curves):
    calendar = Calendar("EUR", time_zone="America/New_York")
    as_of = pd.Series([calendar.parse_moment("2026-01-05T23:00:00Z")] * 3)
    dates = win_dates(curves, as_of, calendar)
    median = curves.win_day(within=365.0)
    assert (
        dates.iloc[0]
        == (as_of.iloc[0] + pd.Timedelta(days=median[0])).tz_convert("America/New_York").tz_localize(None).normalize()
    )
    low, high = (win_dates(curves, as_of, calendar, share=share) for share in (0.05, 0.95))
    assert (low <= dates).all() and (dates <= high).all() and (low < high).any()
    assert median[2] < 1.5 and dates.iloc[2] >= pd.Timestamp("2026-01-06")
    at_once = Curves(curves.edges, curves.won + 15, curves.lost)
    assert (win_dates(at_once, as_of, calendar) == pd.Timestamp("2026-01-06")).all()
