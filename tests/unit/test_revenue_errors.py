"""Past forecasts beside what came, of a company of ten people."""

import pandas as pd
import pytest
from forecast_company import at, company, won

from crm.history import build_history, snapshot_spine
from models.revenue import fit_revenue
from models.revenue_errors import ERROR_COLUMNS, find_past_errors

MONDAYS = [at("2026-02-02"), at("2026-02-09"), at("2026-03-02"), at("2026-04-06")]
DEALS = (
    won("2026-03-20", created_at="2026-01-02"),
    {"created_at": "2026-01-02", "owner_id": "e"},
    won("2026-04-20", created_at="2026-01-02", owner_id="d"),
)


def errors(*deals, known_at="2026-05-15", chance=0.5) -> pd.DataFrame:
    tables = company(*deals)
    history = build_history(tables)
    judged = snapshot_spine(history, MONDAYS).assign(win_probability=chance)
    return find_past_errors(tables, history, judged, at(known_at))


def test_a_past_period_is_looked_at_twice_with_what_it_brought_beside():
    found = errors(*DEALS)
    assert tuple(found.columns) == ERROR_COLUMNS
    companies = found[found["node_type"] == "company"]
    # A third and two thirds through the first quarter; the second had not ended.
    assert companies["period_start"].tolist() == [pd.Timestamp("2026-01-01")] * 2
    assert companies["week"].tolist() == [5, 9]
    assert companies["mean"].tolist() == [150.0, 150.0]
    assert companies["actual"].tolist() == [100.0, 100.0]
    assert companies["sensitivity"].iloc[0] == pytest.approx(75.0)
    teams = found[(found["node_type"] == "team") & (found["week"] == 5)].set_index("node_id")
    assert teams["actual"].to_dict() == {"T1": 100.0, "T2": 0.0, "T3": 0.0}
    assert teams["mean"].to_dict() == {"T1": 50.0, "T2": 50.0, "T3": 50.0}


def test_a_period_that_had_not_ended_tells_nothing():
    found = errors(*DEALS, known_at="2026-03-31")
    assert found.empty
    assert tuple(found.columns) == ERROR_COLUMNS
    assert fit_revenue(found) == fit_revenue()


def test_what_was_won_after_the_training_moment_is_not_read():
    late = won("2026-05-10", booked_on="2026-03-31", created_at="2026-01-02", owner_id="d", amount=9_000)
    found = errors(*DEALS, late, known_at="2026-05-01")
    assert found.loc[found["node_type"] == "company", "actual"].tolist() == [100.0, 100.0]


def test_what_is_found_can_be_fitted():
    assert fit_revenue(errors(*DEALS)).periods == 1
