"""Open deals and deals yet to come, drawn together under shared shocks."""

import json

import numpy as np
import pandas as pd
import pytest

from models.revenue import RevenueModel, expected_money, fit_revenue, fit_shocks, simulate_money

PRIOR = fit_revenue()
CALM = RevenueModel({"company": 1e-6, "region": 1e-6, "team": 1e-6})


def open_deals(count: int, *, win_probability=0.3, amount=100.0, log_spread=0.0, teams=1) -> pd.DataFrame:
    team = [f"T{place % teams}" for place in range(count)]
    ids = [f"deal-{place}" for place in range(count)]
    money = {"win_probability": win_probability, "amount": amount, "log_spread": log_spread}
    return pd.DataFrame(
        {"deal_id": ids, "place": [int(name[1:]) for name in team], "team": team, "region": "R", **money}
    )


def coming(**stream) -> pd.DataFrame:
    row = {"place": 0, "team": "T0", "region": "R", "wins": 5.0, "amount": 100.0, "amount_cv": 1.0, "rate_spread": 0.2}
    return pd.DataFrame([{**row, **stream}])


NOTHING = coming().iloc[:0]


def draw(model, deals, arrivals=NOTHING, places=1, samples=20_000):
    return simulate_money(model, deals, arrivals, places=places, samples=samples)


def test_the_mean_of_a_deal_is_its_chance_times_its_amount():
    money, _ = expected_money(open_deals(1, win_probability=0.25, amount=80.0), NOTHING)
    assert money.iloc[0].tolist() == [20.0, 0.25 * 6400 - 400, 15.0]


def test_the_mean_and_variance_of_arrivals_are_those_of_a_compound_poisson():
    _, money = expected_money(open_deals(0), coming(wins=4.0, amount=10.0, amount_cv=2.0))
    assert money.iloc[0].tolist() == [40.0, 4 * 100 * 5, 40.0]


@pytest.mark.parametrize("model", [CALM, PRIOR, RevenueModel({"company": 0.6, "region": 0.4, "team": 0.4})])
def test_shocks_widen_and_leave_the_mean_alone(model):
    deals, arrivals = open_deals(300, win_probability=0.2, log_spread=0.3), coming(wins=20.0)
    total = draw(model, deals, arrivals)[0]
    exact = sum(part["mean"].sum() for part in expected_money(deals, arrivals))
    assert total.mean() == pytest.approx(exact, rel=0.015)


def test_without_shocks_the_draws_have_the_variance_of_independent_deals():
    deals, arrivals = open_deals(200, log_spread=0.5), coming(wins=10.0, rate_spread=0.0)
    exact = sum(part["variance"].sum() for part in expected_money(deals, arrivals))
    assert draw(CALM, deals, arrivals)[0].var() == pytest.approx(exact, rel=0.05)


def test_shared_shocks_make_teams_rise_and_fall_together():
    deals = open_deals(400, teams=2)
    assert abs(np.corrcoef(draw(CALM, deals, places=2))[0, 1]) < 0.03
    assert np.corrcoef(draw(PRIOR, deals, places=2))[0, 1] > 0.2


def test_sure_deals_are_always_won_and_hopeless_ones_never():
    deals = open_deals(2)
    deals["win_probability"], deals["amount"] = [1.0, 0.0], [100.0, 7.0]
    assert set(draw(PRIOR, deals).round(6)[0]) == {100.0}


def test_negative_amounts_take_away():
    assert draw(CALM, open_deals(1, win_probability=1.0, amount=-10.0)).max() == pytest.approx(-10.0)


def test_the_same_deals_give_the_same_draws():
    deals, arrivals = open_deals(600, teams=3), coming()
    first, second = (draw(PRIOR, deals, arrivals, places=3, samples=50) for _ in range(2))
    assert (first == second).all()


def test_what_a_deal_brings_in_a_draw_is_the_same_whoever_else_is_there():
    deals, arrivals = open_deals(300, log_spread=0.3, teams=3), coming()
    everything = draw(PRIOR, deals, arrivals, places=3, samples=500)
    some = deals.iloc[[7, 250]]
    without = draw(PRIOR, deals.drop(index=some.index), arrivals, places=3, samples=500)
    alone = draw(PRIOR, some, places=3, samples=500)
    np.testing.assert_allclose(everything - without, alone, atol=1e-9)
    assert alone.any()


def test_nothing_open_and_nothing_coming_is_nothing():
    assert draw(PRIOR, open_deals(0)).tolist() == [[0.0] * 20_000]


def past_errors(spread: float, periods: int) -> pd.DataFrame:
    """Company forecasts of 1000 that missed by a common shock and by independent noise of 30."""
    random = np.random.default_rng(5)
    actual = 1000 + 1000 * spread * random.standard_normal(periods) + 30 * random.standard_normal(periods)
    start = pd.date_range("2020-01-01", periods=periods, freq="QS")
    known = {"node_type": "company", "node_id": "company", "week": 1, "mean": 1000.0, "variance_independent": 900.0}
    return pd.DataFrame({"period_start": start, "actual": actual, **known})


def test_shocks_are_as_large_as_past_forecasts_missed_beyond_chance():
    assert fit_shocks(past_errors(0.4, 200)).spread["company"] == pytest.approx(0.4, rel=0.1)
    assert fit_shocks(past_errors(0.0, 200)).spread["company"] == pytest.approx(0.05, abs=0.02)


def test_few_periods_move_the_prior_only_a_little():
    few = fit_shocks(past_errors(0.4, 2))
    assert 0.1 < few.spread["company"] < 0.35
    assert few.periods == 2
    assert few.spread["team"] == PRIOR.spread["team"]


def test_a_range_that_rests_on_few_periods_says_so():
    assert "rests on no past period" in PRIOR.limits()[0]
    assert "rests on 2 past periods" in fit_shocks(past_errors(0.4, 2)).limits()[0]
    assert fit_shocks(past_errors(0.4, 4)).limits() == []


def test_many_weeks_of_one_period_tell_of_one_period():
    once = past_errors(0.4, 1)
    often = pd.concat([once.assign(week=week) for week in range(1, 14)], ignore_index=True)
    assert fit_shocks(often).spread == pytest.approx(fit_shocks(once).spread)
    assert fit_shocks(often).periods == 1


def test_a_teams_surplus_that_the_company_shares_is_not_counted_twice():
    both = pd.concat([past_errors(0.4, 100), past_errors(0.4, 100).assign(node_type="team", node_id="T1")])
    spread = fit_shocks(both).spread
    assert spread["company"] == pytest.approx(0.4, rel=0.15)
    assert spread["team"] < 0.1


def test_a_model_comes_back_from_json_as_it_was():
    assert RevenueModel.from_dict(json.loads(json.dumps(PRIOR.to_dict()))) == PRIOR
