from datetime import date

import pandas as pd
import pytest

from crm.calendar import Calendar
from training.splits import walk_forward_folds
from training.tune import choose_dates, plan_tuning

MONTHS = Calendar(base_currency="USD", period="month")


def mondays(first: str, last: str) -> list[pd.Timestamp]:
    return MONTHS.moments(pd.Timestamp(first, tz="UTC"), pd.Timestamp(last, tz="UTC"), 7)


def test_search_confirmation_and_judged_periods_follow_one_another_without_touching():
    known_at = pd.Timestamp("2026-01-15", tz="UTC")
    moments = mondays("2024-12-30", "2026-01-12")
    judged = walk_forward_folds(MONTHS, moments, known_at)
    plan = plan_tuning(MONTHS, moments, judged)
    assert judged[0].fitted_at == plan.judged_from == pd.Timestamp("2025-07-01", tz="UTC")
    assert [each.fitted_at.date() for each in plan.confirm] == [date(2025, 5, 1), date(2025, 6, 1)]
    assert plan.confirm[-1].judged_until == plan.judged_from
    assert plan.search_until == plan.confirm[0].fitted_at == plan.search[-1].judged_until
    assert all(each.fitted_at < plan.search_until for each in plan.search)


@pytest.mark.parametrize(("first", "possible"), [("2025-06-01", True), ("2025-07-01", False)])
def test_without_three_ended_periods_before_the_judged_ones_there_is_no_plan(first, possible):
    moments = mondays(first, "2026-01-12")
    judged = walk_forward_folds(MONTHS, moments, pd.Timestamp("2026-01-15", tz="UTC"))
    assert (plan_tuning(MONTHS, moments, judged) is not None) is possible
    assert plan_tuning(MONTHS, moments, []) is None


def test_dates_are_spread_evenly_from_the_first_to_the_last():
    dates = pd.Series(mondays("2025-01-06", "2025-03-31"))
    chosen = choose_dates(dates, 5)
    assert chosen == [dates[0], dates[3], dates[6], dates[9], dates[12]]
    assert choose_dates(dates[:2], 5) == list(dates[:2])
