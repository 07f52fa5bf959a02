"""Bookings from deals that do not exist yet."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from forecast_company import EURO_QUARTERS, at, company, won

from crm.history import build_history
from models.creation import CreationModel, CreationStream, fit_creation

MONTHS = replace(EURO_QUARTERS, period="month")
BINS = 15


def stream(**fields) -> CreationStream:
    never = {"per_day": 2.0, "won_in": (0.0,) * BINS, "amount_in": (100.0,) * BINS, "amount_cv": 1.0}
    return CreationStream(**{**never, "end_factor": (1.0,) * 7, "owners": {}, "mixes": {}, **fields})


def arrivals(model, as_of, period=None):
    period = period or EURO_QUARTERS.period_of(at(as_of))
    return model.arrivals(period, at(as_of)).iloc[0]


def test_deals_won_in_their_first_day_bring_the_days_left_times_the_rate():
    model = CreationModel({"new": stream(won_in=(0.5, *[0.0] * (BINS - 1)))}, 0.25)
    # Ten days before the end of the quarter: two deals a day, half of them won half a day later on average.
    coming = arrivals(model, "2026-06-21")
    assert coming["wins"] == pytest.approx(2 * 0.5 * (10 - 0.5))
    assert coming["amount"] == 100.0


def test_deals_that_take_longer_than_what_is_left_bring_nothing():
    model = CreationModel({"new": stream(won_in=(*[0.0] * (BINS - 1), 0.5))}, 0.25)
    assert arrivals(model, "2026-06-21")["wins"] == 0.0


def test_a_later_period_holds_what_is_created_before_it_too_and_a_period_that_is_over_nothing():
    model = CreationModel({"new": stream(won_in=(*[0.0] * 8, 0.5, *[0.0] * (BINS - 9)))}, 0.25)
    as_of = at("2026-06-30")
    current, following = EURO_QUARTERS.period_of(as_of), EURO_QUARTERS.next_period(EURO_QUARTERS.period_of(as_of))
    # Won 60 to 90 days after creation: nothing in one day, and of the quarter after it the days with time enough.
    assert model.arrivals(current, as_of)["wins"].iloc[0] == 0.0
    assert model.arrivals(following, as_of)["wins"].iloc[0] == pytest.approx(2 * 0.5 * (93 - 75), rel=0.01)
    assert model.arrivals(current, at("2026-08-01"))["wins"].iloc[0] == 0.0


def steady(days: int, *, cycle_days: int, calendar=EURO_QUARTERS):
    """One deal a day at noon, every second one won after its cycle for 100; as of the end of the days."""
    deals = []
    for day in range(days):
        created = pd.Timestamp("2025-01-01 12:00") + pd.Timedelta(days=day)
        closes = created + pd.Timedelta(days=cycle_days)
        deal = {"created_at": f"{created.isoformat()}Z", "deal_type": "new"}
        if closes < pd.Timestamp("2025-01-01") + pd.Timedelta(days=days):
            closed = f"{closes.isoformat()}Z"
            deal |= {"stage": "Won" if day % 2 else "Lost", "closed_at": closed}
        deals.append(deal)
    as_of = pd.Timestamp("2025-01-01") + pd.Timedelta(days=days)
    return company(*deals, as_of=as_of.isoformat(), calendar=calendar)


def expected_wins(days: int, *, cycle_days: int, days_left: float, calendar=EURO_QUARTERS) -> float:
    tables = steady(days, cycle_days=cycle_days, calendar=calendar)
    model = fit_creation(tables, build_history(tables), tables.as_of)
    end_at = calendar.period_of(tables.as_of).end_at
    return float(model.arrivals(calendar.period_of(tables.as_of), end_at - pd.Timedelta(days=days_left))["wins"].sum())


def test_a_steady_company_brings_what_it_always_brought():
    # 60 days left, deals won after 10: one deal a day, half of them, created in the first 50 days.
    assert expected_wins(500, cycle_days=10, days_left=60) == pytest.approx(25, rel=0.12)


def test_two_months_of_history_serve_monthly_periods():
    assert expected_wins(60, cycle_days=5, days_left=20, calendar=MONTHS) == pytest.approx(7.5, rel=0.35)


def test_half_a_first_period_serves_too():
    assert expected_wins(40, cycle_days=5, days_left=45) == pytest.approx(20, rel=0.35)


def test_renewals_created_on_a_periods_first_day_bring_nothing_more_late_in_it():
    deals = []
    for quarter in ("2025-01-01", "2025-04-01", "2025-07-01", "2025-10-01"):
        for place in range(30):
            closed = pd.Timestamp(quarter) + pd.Timedelta(days=20 + 2 * place)
            deals.append(won(str(closed.date()), created_at=f"{quarter}T01:00:00Z", deal_type="renewal"))
    tables = company(*deals, as_of="2026-01-15")
    model = fit_creation(tables, build_history(tables), tables.as_of)
    late = EURO_QUARTERS.midnight(pd.Timestamp("2026-02-15").date())
    # 30 won a quarter; a steady stream of them would bring another 8 or so in the quarter's second half.
    assert model.arrivals(EURO_QUARTERS.period_of(tables.as_of), late)["wins"].sum() < 1.5


def test_deals_to_come_are_won_as_fast_as_deals_are_won_now():
    tables = steady(500, cycle_days=10)
    usual, slow = (fit_creation(tables, build_history(tables), tables.as_of, wins_now=now) for now in (1.0, 0.8))
    told = [arrivals(model, "2026-05-01") for model in (usual, slow)]
    assert told[1]["wins"] == pytest.approx(0.8 * told[0]["wins"])
    assert told[1]["amount"] == told[0]["amount"]


def test_late_in_a_period_the_latest_periods_count_most():
    # A deal a day: in the quarters of 2025 it was won after twelve days, in the first of 2026 every fourth one was.
    deals = []
    for day in range(455):
        created = pd.Timestamp("2025-01-01 12:00") + pd.Timedelta(days=day)
        is_won = created.year == 2025 or day % 4 == 0
        stage, closed = "Won" if is_won else "Lost", created + pd.Timedelta(days=12)
        deals.append({"created_at": f"{created.isoformat()}Z", "stage": stage, "closed_at": f"{closed.isoformat()}Z"})
    tables = company(*[deal for deal in deals if deal["closed_at"] < "2026-04-01"], as_of="2026-04-01")
    model = fit_creation(tables, build_history(tables), tables.as_of)
    # About 78 wins a quarter of 2025 and 20 of 2026, 67 expected of each. The quarters weigh .25, .35, .5, .71 and 1:
    # (142 + 20) of 190; were all alike, it would be 332 of 338.
    assert model.streams["(none)"].end_factor[-1] == pytest.approx(162 / 190, abs=0.03)


def test_what_happens_after_the_training_moment_teaches_nothing():
    tables = steady(300, cycle_days=10)
    later = company(
        *[{"created_at": "2025-10-28T01:00:00Z", **deal} for deal in [won("2025-10-29", amount=9)] * 50],
        as_of="2025-11-15",
    )
    both = tables.with_tables(
        deals=pd.concat([tables.get("deals"), later.get("deals").assign(deal_id=[f"x{n}" for n in range(50)])])
    )
    known_at = tables.as_of
    grown = replace(both, as_of=later.as_of)
    assert fit_creation(grown, build_history(grown), known_at) == fit_creation(tables, build_history(tables), known_at)


def test_deals_of_which_none_is_won_yet_bring_next_to_nothing():
    tables = company(*[{"created_at": f"2026-05-{day:02d}"} for day in range(1, 15)])
    model = fit_creation(tables, build_history(tables), tables.as_of)
    assert arrivals(model, "2026-05-15")["wins"] * arrivals(model, "2026-05-15")["amount"] == 0.0


def test_no_deals_at_all_give_no_arrivals_and_json_gives_the_model_back():
    tables = company({"created_at": "2026-05-14"})
    # Its only deal did not exist yet.
    none = fit_creation(tables, build_history(tables), at("2026-01-01"))
    assert none.streams == {}
    assert none.arrivals(EURO_QUARTERS.period_of(tables.as_of), tables.as_of).empty
    tables = steady(100, cycle_days=5)
    model = fit_creation(tables, build_history(tables), tables.as_of)
    assert CreationModel.from_dict(json.loads(json.dumps(model.to_dict()))) == model
