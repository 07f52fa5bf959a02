"""What is fitted and forecast at a moment is the same from the full export as from the export taken at that moment."""

from datetime import date
from types import SimpleNamespace

import pandas as pd
import pytest

from crm.bookings import bookings_by_node, shown_deals
from crm.history import build_history, open_deals
from crm.synthetic import CompanyConfig, export, simulate
from crm.truncation import truncate_export
from models.amount import fit_amount
from models.creation import fit_creation
from models.forecaster import forecast_nodes
from models.revenue import fit_revenue
from models.revenue_baselines import revenue_baselines

COMPANY = CompanyConfig(
    days=500,
    n_reps=8,
    deals_per_week=14,
    currencies=("USD", "EUR"),
    team_moves=True,
    renewals=True,
    reopened_wins=True,
    missing_amounts=0.3,
)


@pytest.fixture(scope="module")
def known():
    """The same moment seen from a year later and from that very day: tables and history of each."""
    full = export(simulate(COMPANY))
    then = full.calendar.midnight(date(2024, 2, 20))
    history = build_history(full)
    cut = truncate_export(full, then, history)
    return then, {"later": (full, history), "then": (cut, build_history(cut))}


def from_both(known, build):
    then, sides = known
    return [build(tables, history, then) for tables, history in sides.values()]


@pytest.mark.parametrize("fit", [fit_amount, fit_creation])
def test_a_fit_knows_nothing_later(known, fit):
    later, then = from_both(known, fit)
    assert later == then


def test_a_forecast_knows_nothing_later(known):
    def forecast(tables, history, then):
        spine = open_deals(history, then)
        amount = fit_amount(tables, history, then)
        fitted = SimpleNamespace(
            amount=amount,
            creation=fit_creation(tables, history, then),
            revenue=fit_revenue(),
            manifest={"model_version": "m"},
        )
        scores = spine.assign(
            period_win_probability=0.2,
            next_period_win_probability=0.1,
            expected_amount=amount.expected(shown_deals(tables, history, spine)).to_numpy(),
        )
        period = tables.calendar.period_of(then)
        return forecast_nodes(fitted, tables, history, scores, as_of=then, period=period, by="segment")

    later, then = from_both(known, forecast)
    pd.testing.assert_frame_equal(later, then)
    company = later[(later["node_type"] == "company") & (later["scope"] == "all")].iloc[0]
    assert (company[["won_to_date", "open_pipeline", "not_yet_created"]] > 0).all()
    assert later["call_commit"].notna().any()


def test_baselines_and_bookings_know_nothing_later(known):
    def look(tables, history, then):
        period = tables.calendar.period_of(then)
        return revenue_baselines(tables, history, then, period), bookings_by_node(tables, history, then, period)

    for later, then in zip(*from_both(known, look), strict=True):
        pd.testing.assert_frame_equal(later, then)
