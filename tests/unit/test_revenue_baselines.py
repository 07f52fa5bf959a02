"""Forecasts by pencil and paper, of a company of ten people."""

from typing import Any

import pandas as pd
import pytest
from forecast_company import EURO_QUARTERS, STAGES, at, company, won

from crm.history import build_history
from models.revenue_baselines import (
    known_at,
    last_period,
    revenue_baselines,
    same_day_conversion,
    same_period_last_year,
    stage_weighted,
)

NOW = at("2026-05-15")
QUARTER = EURO_QUARTERS.period_of(NOW)


def forecast(baseline, *deals: dict[str, Any], as_of=NOW, period=QUARTER, **others) -> pd.Series:
    tables = company(*deals, **others)
    return baseline(known_at(tables, build_history(tables), as_of), period).set_index(["node_type", "node_id"])["value"]


def test_the_stage_weighted_pipeline_is_what_is_won_and_what_is_due_at_its_stages_probability():
    value = forecast(
        stage_weighted,
        won("2026-04-20", amount=1000),
        {"close_date": "2026-06-10"},
        {"close_date": "2026-06-10", "stage": "Late", "owner_id": "e"},
        {"close_date": "2026-07-01", "amount": 7},
    )
    assert value["company", "company"] == 1000 + 25 + 50
    assert value["region", "East"] == 50.0
    assert value["rep", "a"] == 1025.0


def test_a_close_date_past_or_unknown_counts_as_due_in_the_period_that_holds_today():
    assert forecast(stage_weighted, {"close_date": "2026-02-01"})["company", "company"] == 25.0
    assert forecast(stage_weighted, {})["company", "company"] == 25.0
    following = EURO_QUARTERS.next_period(QUARTER)
    assert forecast(stage_weighted, {}, period=following)["company", "company"] == 0.0
    assert forecast(stage_weighted, {"close_date": "2026-07-01"}, period=following)["company", "company"] == 25.0


def test_without_any_stage_probability_the_stage_weighted_pipeline_is_unknown():
    bare = [{key: value for key, value in stage.items() if key != "default_probability"} for stage in STAGES]
    assert forecast(stage_weighted, {}, stages=bare).isna().all()


# On day 44 of the last quarter two deals of 100 were open, one of which was won in it for 80; one more came later.
LAST_QUARTER = (
    won("2026-03-20", created_at="2026-01-01", amount=80),
    {"created_at": "2026-01-01"},
    won("2026-03-25", created_at="2026-03-01", amount=30, owner_id="d"),
)
SHOWN = [
    {
        "deal_id": "deal-0",
        "changed_at": "2026-03-20T12:00:00Z",
        "field": "amount",
        "old_value": "100",
        "new_value": "80",
    }
]


def test_same_day_conversion_wins_of_todays_pipeline_what_was_won_of_the_last_ones_on_this_day():
    value = forecast(
        same_day_conversion, *LAST_QUARTER, {"created_at": "2026-05-01", "amount": 200}, deal_history=SHOWN
    )
    # 80 of 200 open were won: of 300 open today 120, and the 30 that came later.
    assert value["company", "company"] == pytest.approx(120 + 30)
    assert value["rep", "d"] == pytest.approx(30)


def test_same_day_conversion_needs_a_whole_period():
    assert forecast(same_day_conversion, {"created_at": "2026-02-01"}).isna().all()


def test_the_last_period_is_what_it_brought_as_known_today():
    value = forecast(last_period, *LAST_QUARTER, won("2026-04-20"))
    assert value["company", "company"] == 110.0
    assert value["rep", "d"] == 30.0


def test_a_period_ahead_is_compared_with_the_last_one_that_has_ended():
    following = EURO_QUARTERS.next_period(QUARTER)
    assert forecast(last_period, *LAST_QUARTER, period=following)["company", "company"] == 110.0


def test_the_same_period_last_year_is_unknown_where_the_data_do_not_reach_back():
    assert forecast(same_period_last_year, won("2026-04-20")).isna().all()
    old = won("2025-06-30", created_at="2025-01-02", amount=64)
    assert forecast(same_period_last_year, old)["company", "company"] == 64.0


def test_wins_after_the_moment_are_not_read():
    late = won("2026-05-14", created_at="2026-01-01", amount=1_000_000)
    names = ("stage_weighted", "same_day_conversion", "last_period")
    values = {}
    for deals in ((*LAST_QUARTER, late), (*LAST_QUARTER, {"created_at": "2026-01-01", "amount": 1_000_000})):
        rows = forecast_all(deals, at("2026-05-01"))
        values[len(values)] = [rows[name, "company", "company"] for name in names]
    assert values[0] == values[1]


def forecast_all(deals, as_of) -> pd.Series:
    tables = company(*deals)
    rows = revenue_baselines(tables, build_history(tables), as_of, QUARTER)
    return rows.set_index(["forecaster", "node_type", "node_id"])["value"]


def test_all_four_are_named_as_everywhere():
    rows = forecast_all(LAST_QUARTER, NOW)
    names = list(rows.index.get_level_values("forecaster").unique())
    assert names == ["stage_weighted", "same_day_conversion", "last_period", "same_period_last_year"]
