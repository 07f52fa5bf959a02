"""Forecast rows of a company of ten people."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from forecast_company import EURO_QUARTERS, at, company, won

from crm.errors import UsageError
from crm.history import build_history, open_deals
from crm.truncation import truncate_export
from models.amount import AmountModel, fit_amount
from models.creation import CreationModel, CreationStream
from models.forecaster import FORECAST_COLUMNS, QUANTILES, forecast_nodes, forecast_spread
from models.revenue import fit_revenue

NOW = at("2026-05-15")
QUARTER = EURO_QUARTERS.period_of(NOW)
AS_SHOWN = AmountModel(1.0, {}, {}, 0.0, {}, {}, 0.0, spread_known=0.2, spread_unknown=1.0, wins=0)
DAILY = CreationStream(
    per_day=1.0,
    won_in=(0.5, *[0.0] * 14),
    amount_in=(10.0,) * 15,
    amount_cv=1.0,
    end_factor=(1.0,) * 7,
    owners={"a": 3.0, "d": 1.0},
    mixes={"pipeline": {}, "segment": {}, "currency": {"EUR": 0.75, "USD": 0.25}},
)
RATES = [{"currency": "USD", "valid_from": "2026-01-01", "rate_to_base": 0.5}]


def bundle(*, creation=None, amount=AS_SHOWN):
    creation = CreationModel({}, 0.2) if creation is None else CreationModel({"new": creation}, 0.2)
    return SimpleNamespace(amount=amount, creation=creation, revenue=fit_revenue(), manifest={"model_version": "m1"})


def forecast(*deals, as_of=NOW, period=QUARTER, creation=None, chance=0.5, by=None, given=None, **others):
    tables = company(*deals, **others)
    history = build_history(tables)
    spine = open_deals(history, as_of)
    amounts = tables.get("deals").set_index("deal_id")["amount"]
    scores = spine.assign(
        period_win_probability=chance,
        next_period_win_probability=0.1,
        expected_amount=spine["deal_id"].map(amounts).astype("float64").fillna(0.0),
    )
    return forecast_nodes(
        bundle(creation=creation), tables, history, scores, as_of=as_of, period=period, by=by, win_probability=given
    )


def row(rows, node_type="company", node_id="company", scope="all"):
    found = rows[(rows["node_type"] == node_type) & (rows["node_id"] == node_id) & (rows["scope"] == scope)]
    assert len(found) == 1
    return found.iloc[0]


def test_the_rows_have_the_columns_of_the_contract_in_its_order():
    rows = forecast({})
    assert tuple(rows.columns) == FORECAST_COLUMNS
    assert row(rows)["period_start"] == pd.Timestamp("2026-04-01")
    assert row(rows)["period_end"] == pd.Timestamp("2026-07-01")
    assert (row(rows)["model_version"], row(rows)["data_version"]) == ("m1", "000001")


def test_the_mean_is_what_is_won_plus_what_open_deals_and_deals_to_come_bring():
    rows = forecast(won("2026-04-20", amount=300), {}, {"owner_id": "d", "amount": 40}, creation=DAILY)
    company_row = row(rows)
    assert company_row["won_to_date"] == 300.0
    assert company_row["open_pipeline"] == pytest.approx(0.5 * 100 + 0.5 * 40)
    # 47 days are left; half of the day's deal is won, for 10, half a day later on average.
    assert company_row["not_yet_created"] == pytest.approx(0.5 * 10 * (47 - 0.5))
    assert company_row["mean"] == pytest.approx(300 + 70 + 232.5)


def test_money_lands_with_its_owner_team_region_and_managers():
    rows = forecast({}, {"owner_id": "e", "amount": 40}, {"owner_id": None, "amount": 8}, creation=DAILY)
    assert row(rows, "rep", "a")["open_pipeline"] == pytest.approx(50.0)
    assert row(rows, "manager", "west-head")["open_pipeline"] == pytest.approx(50.0)
    assert row(rows, "region", "East")["open_pipeline"] == pytest.approx(20.0)
    assert row(rows, "team", "(none)")["open_pipeline"] == pytest.approx(4.0)
    # Ana created three of four lately, Dara one; Emil has open deals and counts as half a one.
    assert row(rows, "rep", "a")["not_yet_created"] == pytest.approx(232.5 * 3 / 4.5)
    assert row(rows, "rep", "e")["not_yet_created"] == pytest.approx(232.5 * 0.5 / 4.5)


def test_who_has_left_brings_nothing_new_but_keeps_what_was_won():
    users = [{"user_id": "a", "team": "T1", "left_at": "2026-05-01"}, {"user_id": "d", "team": "T2"}]
    rows = forecast(won("2026-04-20"), creation=DAILY, users=users)
    assert row(rows, "rep", "a")["not_yet_created"] == 0.0
    assert row(rows, "rep", "a")["won_to_date"] == 100.0
    assert row(rows, "rep", "d")["not_yet_created"] == pytest.approx(232.5)


@pytest.mark.parametrize("by", [None, "deal_type", "currency"])
def test_means_add_up_over_reps_teams_and_regions_in_every_scope(by):
    deals = [
        {"owner_id": owner, "amount": 10.0 + place, "deal_type": "new" if place % 2 else None}
        for place, owner in enumerate(["a", "b", "c", "d", "e", None, "unheard-of", "m1"] * 5)
    ]
    rows = forecast(won("2026-04-20", owner_id="b"), *deals, creation=DAILY, by=by)
    sums = rows.groupby(["scope", "node_type"])["mean"].sum().unstack()
    for level in ("rep", "team", "region"):
        np.testing.assert_allclose(sums[level], sums["company"], rtol=1e-12)


def test_a_breakdown_adds_up_to_the_whole_and_leaves_it_unchanged():
    deals = [{"currency": "USD"}, {"currency": "EUR", "amount": 30}, won("2026-04-20", currency="USD")]
    rows = forecast(*deals, creation=DAILY, by="currency", exchange_rates=RATES)
    assert sorted(rows["scope"].unique()) == ["all", "currency=EUR", "currency=USD"]
    companies = rows[rows["node_type"] == "company"].set_index("scope")["mean"]
    assert companies["currency=EUR"] + companies["currency=USD"] == pytest.approx(companies["all"])
    assert row(rows, scope="currency=USD")["won_to_date"] == 50.0
    plain = forecast(*deals, creation=DAILY, exchange_rates=RATES)
    pd.testing.assert_frame_equal(rows[rows["scope"] == "all"], plain)


def test_an_unknown_breakdown_value_is_none_and_an_unknown_breakdown_is_refused():
    assert "deal_type=(none)" in set(forecast({}, by="deal_type")["scope"])
    with pytest.raises(UsageError, match="broken down by owner"):
        forecast({}, by="owner")


def test_quantiles_do_not_cross_nor_fall_below_what_is_won():
    deals = [{"owner_id": owner, "amount": 50} for owner in ["a", "b", "d", "e"] * 10]
    rows = forecast(won("2026-04-20"), *deals, creation=DAILY)
    quantiles = rows[list(QUANTILES)].to_numpy()
    assert (np.diff(quantiles, axis=1) >= 0).all()
    assert (quantiles[:, 0] >= rows["won_to_date"]).all()
    assert row(rows)["p10"] < row(rows)["mean"] < row(rows)["p90"]


def test_a_win_booked_later_in_the_period_counts_in_it_and_one_booked_in_the_next_does_not():
    inside = won("2026-05-10", booked_on="2026-06-20")
    outside = won("2026-05-10", booked_on="2026-07-02", amount=7)
    assert row(forecast(inside, outside))["won_to_date"] == 100.0


def test_the_next_period_takes_its_own_chances_and_one_further_ahead_is_refused_without_them():
    following = EURO_QUARTERS.next_period(QUARTER)
    assert row(forecast({}, period=following))["mean"] == pytest.approx(10.0)
    later = EURO_QUARTERS.next_period(following)
    with pytest.raises(UsageError, match="too far ahead"):
        forecast({}, period=later)
    assert row(forecast({}, period=later, given=pd.Series({"deal-0": 0.05})))["mean"] == pytest.approx(5.0)


def test_the_further_ahead_a_period_the_wider_its_range_for_what_it_brings():
    quarter, widths, means = QUARTER, [], []
    for _ in range(6):
        quarter = EURO_QUARTERS.next_period(quarter)
        ahead = row(forecast({}, period=quarter, given=pd.Series({"deal-0": 0.0}), creation=DAILY))
        widths.append((ahead["p90"] - ahead["p10"]) / ahead["mean"])
        means.append(ahead["mean"] / (quarter.end - quarter.start).days)
    assert means == pytest.approx([means[0]] * 6, rel=0.01)
    # The next quarter's, and that of six quarters ahead: a range of nothing to twice the mean would be as good as none.
    assert np.all(np.diff(widths) > 0) and widths[0] > 0.5 and widths[5] - widths[0] > 0.1 and widths[5] < 2.0


def test_a_period_that_is_over_is_what_was_won_in_it():
    rows = forecast(won("2026-03-20"), {}, period=EURO_QUARTERS.previous_period(QUARTER), creation=DAILY)
    assert row(rows)[["won_to_date", "mean", "p05", "p95"]].tolist() == [100.0] * 4


def test_a_quota_is_the_heads_own_and_its_probability_the_share_of_draws_that_reach_it():
    quotas = [
        {"user_id": "m1", "period_start": "2026-04-01", "amount": 150},
        {"user_id": "chief", "period_start": "2026-04-01", "amount": 1_000_000},
        {"user_id": "a", "period_start": "2026-04-01", "amount": 90},
    ]
    rows = forecast(won("2026-04-20"), {"owner_id": "b"}, quotas=quotas)
    assert row(rows, "rep", "a")["probability_of_quota"] == 1.0
    assert row(rows)["probability_of_quota"] == 0.0
    assert row(rows, "team", "T1")["quota"] == 150.0
    assert 0.4 < row(rows, "team", "T1")["probability_of_quota"] < 0.6
    assert pd.isna(row(rows, "team", "T2")["quota"])
    assert pd.isna(row(rows, "team", "T2")["probability_of_quota"])


def test_a_node_shows_its_heads_call_and_the_sum_of_the_direct_reports():
    call = {"period_start": "2026-04-01", "submitted_at": "2026-05-10", "category": "commit"}
    calls = [
        {**call, "user_id": user, "amount": amount} for user, amount in [("m1", 500), ("a", 100), ("b", 200), ("d", 9)]
    ]
    rows = forecast({}, forecast_calls=calls)
    team = row(rows, "team", "T1")
    assert (team["call_commit"], team["call_rolled_up"], team["call_user_id"]) == (500.0, 300.0, "m1")
    assert team["call_submitted_at"] == at("2026-05-10")
    assert row(rows, "rep", "a")["call_commit"] == 100.0
    assert row(rows, "region", "West")["call_rolled_up"] == 500.0
    nobody = row(rows, "region", "East")
    assert nobody[["call_commit", "call_user_id", "call_submitted_at", "call_rolled_up"]].isna().all()


def test_the_forecast_of_a_past_moment_is_that_of_an_export_taken_then():
    then = at("2026-04-25")
    deals = [
        won("2026-04-20"),
        won("2026-05-05", owner_id="d"),
        {"owner_id": "e", "amount": 70},
        {"created_at": "2026-05-01", "amount": 5},
    ]
    others = {
        "deal_history": [
            {"deal_id": "deal-2", "changed_at": "2026-05-02", "field": "amount", "old_value": "30", "new_value": "70"}
        ],
        "user_history": [
            {"user_id": "d", "changed_at": "2026-05-01", "field": "team", "old_value": "T1", "new_value": "T2"}
        ],
        "quotas": [{"user_id": "a", "period_start": "2026-04-01", "amount": 9, "valid_from": "2026-05-10"}],
        "forecast_calls": [
            {
                "user_id": "a",
                "period_start": "2026-04-01",
                "submitted_at": "2026-05-10",
                "category": "commit",
                "amount": 1,
            }
        ],
    }
    tables = company(*deals, **others)
    cut = truncate_export(tables, then)

    def rows_of(each):
        history = build_history(each)
        spine = open_deals(history, then)
        scores = spine.assign(period_win_probability=0.5, next_period_win_probability=0.1, expected_amount=50.0)
        fitted = bundle(creation=DAILY, amount=fit_amount(each, history, then))
        return forecast_nodes(fitted, each, history, scores, as_of=then, period=QUARTER)

    full, truncated = rows_of(tables), rows_of(cut)
    pd.testing.assert_frame_equal(full, truncated)
    assert row(full, "team", "T1")["open_pipeline"] == 25.0
    assert row(full)["open_pipeline"] == 50.0


def test_what_a_forecast_may_stray_by_is_told_for_every_node():
    tables = company({}, {"owner_id": "e"})
    history = build_history(tables)
    spine = open_deals(history, NOW)
    scores = spine.assign(period_win_probability=0.5, next_period_win_probability=0.1, expected_amount=100.0)
    spread = forecast_spread(bundle(), tables, history, scores, as_of=NOW, period=QUARTER)
    company_row = spread[spread["node_type"] == "company"].iloc[0]
    assert company_row["mean"] == 100.0
    assert company_row["sensitivity"] == 50.0
    assert company_row["variance_independent"] == pytest.approx(2 * (0.5 * 10_000 * np.exp(0.04) - 2500))
