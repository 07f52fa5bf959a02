"""Companies that are not as a forecast would like them: the answer is sane, wide, and says what it rests on."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from crm.bookings import bookings
from crm.checks import run_checks
from crm.history import build_history, classify_fields, open_deals
from crm.synthetic import CompanyConfig, export, simulate
from crm.tables import CrmTables
from crm.truncation import truncate_export
from models.forecaster import QUANTILES, forecast_nodes
from models.review import called_nodes, caller_record, review_cuts, review_rows
from models.scorer import score_deals
from training.fit import fit_bundle

pytestmark = pytest.mark.slow

HALF_A_YEAR = CompanyConfig(seed=8, days=200, n_reps=4, n_teams=2, n_regions=1, deals_per_week=8.0)


@pytest.fixture(scope="module")
def lived() -> CrmTables:
    """A company that has just begun its third quarter."""
    return export(simulate(HALF_A_YEAR))


@pytest.fixture(scope="module")
def young(lived) -> CrmTables:
    """The same company with two quarters of history, the second not over."""
    return truncate_export(lived, lived.calendar.midnight(date(2023, 5, 29)))


def fitted(tables: CrmTables):
    """A bundle fitted at the data's moment, named as if it had been written."""
    bundle = fit_bundle(tables, tables.as_of).bundle
    return replace(bundle, manifest={**bundle.manifest, "model_version": "here"})


@pytest.fixture(scope="module")
def young_model(young):
    return fitted(young)


def forecast(bundle, tables: CrmTables) -> pd.DataFrame:
    """The forecast of the present period, checked for what must hold whatever the company is like."""
    tables, history = bundle.read_history(tables)
    scores = score_deals(bundle, tables, history, open_deals(history, tables.as_of), explain=False)
    period = tables.calendar.period_of(tables.as_of)
    nodes = forecast_nodes(bundle, tables, history, scores, as_of=tables.as_of, period=period)
    quantiles = nodes[list(QUANTILES)].to_numpy()
    assert np.isfinite(quantiles).all() and (np.diff(quantiles, axis=1) >= 0).all()
    assert (quantiles[:, 0] >= nodes["won_to_date"] - 1e-6).all()
    sums = nodes.groupby("node_type")["mean"].sum()
    for level in ("rep", "team", "region"):
        assert sums[level] == pytest.approx(sums["company"])
    return nodes.set_index(["node_type", "node_id"])


def width(node: pd.Series) -> float:
    """The 80 % range over what is still expected."""
    return float((node["p90"] - node["p10"]) / (node["mean"] - node["won_to_date"]))


def bookings_of_a_quarter(tables: CrmTables) -> float:
    history = build_history(tables)
    period = tables.calendar.previous_period(tables.calendar.period_of(tables.as_of))
    return float(bookings(tables, history, tables.as_of, period)["amount_base"].sum())


def test_four_quarters_of_history_give_a_forecast_that_says_what_its_range_rests_on(view):
    tables, _, bundle, _ = view
    company = forecast(bundle, tables).loc[("company", "company")]
    usual = bookings_of_a_quarter(tables)
    assert 0.3 * usual < company["mean"] < 3 * usual and width(company) > 0.5
    assert any("forecast's range rests on" in limit for limit in bundle.manifest["limits"])


def test_two_quarters_are_told_apart_by_pooled_rates_and_the_range_is_a_prior(lived, young, young_model):
    company = forecast(young_model, young).loc[("company", "company")]
    came = bookings_of_a_quarter(lived)
    assert company["p05"] < came < company["p95"] and 0.5 * came < company["mean"] < 2 * came
    assert width(company) > 0.5
    limits = " ".join(young_model.manifest["limits"])
    assert "Not judged" in limits and "rests on no past period" in limits


def test_without_calls_there_is_no_call_and_the_rest_is_as_it_was(view):
    tables, _, bundle, _ = view
    silent = tables.with_tables(forecast_calls=tables.get("forecast_calls").iloc[:0])
    nodes, called = forecast(bundle, silent), forecast(bundle, tables)
    assert nodes[["call_commit", "call_rolled_up", "call_user_id"]].isna().all(axis=None)
    assert called["call_commit"].notna().any()
    pd.testing.assert_series_equal(nodes["mean"], called["mean"])
    history, period = build_history(silent), silent.calendar.period_of(silent.as_of)
    cut = review_cuts(silent.calendar, period, silent.as_of)[-1]
    rows = review_rows(
        silent,
        history,
        called_nodes(silent, history, cut, period),
        caller_record(silent, history, silent.as_of),
        cut=cut,
        period=period,
        basis="replayed",
    )
    assert len(rows) and not rows["forecaster"].str.contains("call").any()


def test_a_team_that_has_won_nothing_is_expected_to_win_less_and_still_something(young):
    deals, users = young.get("deals"), young.get("users")
    team = users["team"].dropna().iloc[-1]
    losing = deals["owner_id"].isin(users.loc[users["team"] == team, "user_id"]) & deals["is_won"].eq(True)
    history = young.get("deal_history")
    theirs = history["deal_id"].isin(deals.loc[losing, "deal_id"])
    lost = deals["stage"][deals["is_closed"].eq(True) & deals["is_won"].eq(False)].iloc[0]
    won_stages = set(deals.loc[losing, "stage"])
    losers = young.with_tables(
        deals=deals.assign(stage=deals["stage"].mask(losing, lost), is_won=deals["is_won"].mask(losing, False)),
        deal_history=history.assign(
            new_value=history["new_value"].mask(theirs & history["new_value"].isin(won_stages), lost)
        ),
    )
    nodes = forecast(fitted(losers), losers)
    theirs, others = nodes.loc[("team", team)], nodes.drop(("team", team)).xs("team").iloc[0]
    assert theirs["won_to_date"] == 0.0 and 0 < theirs["mean"] < others["mean"]
    assert theirs["p90"] > theirs["mean"] and width(theirs) > width(others)


def test_a_period_without_an_open_deal_brings_what_is_won_and_what_is_yet_to_come(view):
    tables, _, bundle, _ = view
    history = build_history(tables)
    still_open = set(open_deals(history, tables.as_of)["deal_id"])
    gone = {
        name: rows[~rows["deal_id"].isin(still_open)] if "deal_id" in rows else rows
        for name, rows in tables.tables.items()
    }
    company = forecast(bundle, replace(tables, tables=gone)).loc[("company", "company")]
    assert company["open_pipeline"] == 0.0 and company["not_yet_created"] > 0
    assert company["mean"] == pytest.approx(company["won_to_date"] + company["not_yet_created"])
    assert company["p90"] > company["mean"] > company["p10"]


def test_a_deal_ten_times_a_usual_quarter_is_found_and_makes_the_range_as_wide_as_it_is(view):
    tables, history, bundle, _ = view
    size = 10 * bookings_of_a_quarter(tables)
    scores = score_deals(bundle, tables, history, open_deals(history, tables.as_of), explain=False)
    likely = scores.sort_values("period_win_probability")["deal_id"].iloc[-1]
    deals = tables.get("deals")
    mega = tables.with_tables(deals=deals.assign(amount=deals["amount"].mask(deals["deal_id"] == likely, size)))
    before, after = (forecast(bundle, each).loc[("company", "company")] for each in (tables, mega))
    assert after["mean"] > before["mean"]
    # Won, it alone brings ten quarters; not won, the quarter is as it was: the range holds both.
    assert after["p95"] > 0.3 * size or scores["period_win_probability"].max() < 0.05
    assert after["p10"] < before["p90"]
    found = {each.code: each for each in run_checks(mega, build_history(mega))}
    assert found["D17"].examples == (likely,) and "D17" not in {each.code for each in run_checks(tables, history)}


def test_a_calendar_of_four_four_and_five_weeks_is_forecast_by_its_own_periods(young):
    starts = [date(2023, 1, 1) + timedelta(weeks=sum(((4, 4, 5) * 6)[:place])) for place in range(13)]
    periods = tuple(
        (start, end, f"P{place}") for place, (start, end) in enumerate(zip(starts, starts[1:], strict=False))
    )
    moved = replace(young, calendar=replace(young.calendar, listed_periods=periods))
    weekly = replace(moved, field_classes=classify_fields(moved))
    bundle = fitted(weekly)
    nodes = forecast(bundle, weekly)
    company = nodes.loc[("company", "company")]
    days = (company["period_end"] - company["period_start"]).days
    assert days in (28, 35) and company["period_start"] <= young.as_of.tz_localize(None) < company["period_end"]
    usual = bookings_of_a_quarter(weekly)
    assert usual / 10 < company["mean"] < 10 * usual and width(company) > 0.5
    assert any("rests on" in limit for limit in bundle.manifest["limits"])
    earlier = truncate_export(weekly, weekly.calendar.midnight(periods[4][0]))
    assert earlier.calendar.period_of(earlier.as_of).label == "P4"
