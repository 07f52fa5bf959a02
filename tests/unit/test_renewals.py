"""Deals that follow a win: found, and told before they exist."""

import json

import numpy as np
import pandas as pd
import pytest
from forecast_company import EURO_QUARTERS, at, company
from hypothesis import given, settings
from hypothesis import strategies as st

from crm.history import build_history
from models.creation import CreationModel, fit_creation
from models.renewals import WEEKS_AHEAD, Renewals, foresee_renewals

NOW = at("2026-04-01")
NOTICE = 270


def rows(days_ago: list[float], accounts: list[str], amounts: list[float], named: str) -> pd.DataFrame:
    when = NOW - pd.to_timedelta(days_ago, unit="D")
    account = pd.Series(accounts, dtype="str")
    return pd.DataFrame({"account_id": account, "deal_type": "any", named: when, "amount_base": amounts})


def contracts(days_ago: list[int], amounts: list[float] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Wins of as many accounts, and their renewals, created `NOTICE` days after each and won for as much."""
    amounts = amounts or [100.0] * len(days_ago)
    accounts = [f"account-{place}" for place in range(len(days_ago))]
    renewed = [place for place, ago in enumerate(days_ago) if ago >= NOTICE]
    created = [days_ago[place] - NOTICE for place in renewed]
    of = ([each[place] for place in renewed] for each in (accounts, amounts))
    return rows(created, *of, "created_at"), rows(days_ago, accounts, amounts, "won_at")


def test_as_many_come_as_were_won_when_the_notice_began():
    # One win a day for three years, but three a day from 250 to 230 days ago: their renewals come in 20 to 40 days.
    days_ago = [*range(1, 1000), *(ago for ago in range(230, 250) for _ in range(2))]
    found = foresee_renewals(*contracts(days_ago), NOW)
    assert found is not None
    per_day = np.array(found.per_day)
    assert len(per_day) == WEEKS_AHEAD
    assert per_day[:35].sum() * 7 == pytest.approx(245 + 40, rel=0.03)
    assert per_day[3:6].min() > 2.2
    assert per_day[8:34] == pytest.approx(1.0, abs=0.15)
    # Later ones follow wins that are still to come, at the pace of the last year.
    assert per_day[45:] == pytest.approx(1.1, abs=0.2)


def test_what_has_been_renewed_is_not_expected_again():
    # Who bought in the ten weeks before the notice has renewed early; nobody else has bought lately.
    days_ago = [*range(200, 1000)]
    created, wins = contracts(days_ago)
    early = rows([1.0] * 70, [f"account-{place}" for place in range(70)], [np.nan] * 70, "created_at")
    usual = foresee_renewals(created, wins, NOW)
    told = foresee_renewals(pd.concat([created, early], ignore_index=True), wins, NOW)
    assert usual is not None and told is not None
    assert np.sum(usual.per_day[:12]) * 7 == pytest.approx(70, rel=0.1)
    assert np.sum(told.per_day[:12]) * 7 < 10


def test_large_contracts_that_end_are_worth_more():
    # Whoever bought 250 to 230 days ago bought for ten times as much as all others.
    days_ago = list(range(1, 1000))
    amounts = [1000.0 if 230 <= ago < 250 else 100.0 for ago in days_ago]
    found = foresee_renewals(*contracts(days_ago, amounts), NOW)
    assert found is not None
    assert found.worth[4] > 5
    assert np.array(found.worth[10:34]) == pytest.approx(1.0, abs=0.3)


def test_where_amounts_do_not_go_with_those_before_every_week_is_worth_the_same():
    random = np.random.default_rng(3)
    created, wins = contracts(list(range(1, 1000)), np.exp(random.normal(5, 1, 999)).tolist())
    created["amount_base"] = random.permutation(created["amount_base"])
    found = foresee_renewals(created, wins, NOW)
    assert found is not None
    assert np.ptp(np.log(found.worth)) < 0.15


def test_deals_that_come_at_any_time_after_a_win_are_left_to_a_rate():
    random = np.random.default_rng(5)
    created, wins = contracts(list(range(1, 1000)))
    created["created_at"] = wins["won_at"].iloc[NOTICE - 1 :].reset_index(drop=True)
    created["created_at"] += pd.to_timedelta(random.uniform(1, NOTICE, len(created)), unit="D")
    few = created.sample(6, random_state=1)
    assert foresee_renewals(created, wins, NOW) is None
    assert foresee_renewals(few.reset_index(drop=True), wins, NOW) is None


def test_new_customers_follow_no_win():
    created, wins = contracts(list(range(1, 1000)))
    assert foresee_renewals(created.assign(account_id="x" + created["account_id"]), wins, NOW) is None
    assert foresee_renewals(created.assign(account_id=None), wins, NOW) is None
    assert foresee_renewals(created[:0], wins, NOW) is None
    assert foresee_renewals(created, wins[:0], NOW) is None


def test_an_account_that_holds_everybody_tells_nothing():
    created, wins = contracts(list(range(1, 1000)))
    everybody = (part.assign(account_id="misc") for part in (created, wins))
    assert foresee_renewals(*everybody, NOW) is None


def test_renewals_without_a_known_win_go_on_at_their_rate():
    # The CRM is younger than the contracts: every third renewal follows a win that it never saw.
    days_ago = list(range(1, 1000))
    created, wins = contracts(days_ago)
    unseen = (created["account_id"].str.extract(r"(\d+)")[0].astype(int) % 3 == 0).to_numpy()
    found = foresee_renewals(created, wins[~wins["account_id"].isin(created["account_id"][unseen])], NOW)
    assert found is not None
    assert np.array(found.per_day[5:34]) == pytest.approx(1 + 1 / 3, abs=0.2)


@given(
    wins=st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 5), st.floats(1, 1e6) | st.none()), max_size=40),
    deals=st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 5), st.floats(1, 1e6) | st.none()), max_size=40),
)
@settings(max_examples=60, deadline=None)
def test_whatever_was_won_and_created_rates_and_worths_are_numbers(wins, deals):
    parts = []
    for found, named in ((deals, "created_at"), (wins, "won_at")):
        days, accounts, amounts = (list(each) for each in zip(*found, strict=True)) if found else ([], [], [])
        of = ([float(day) for day in days], [f"a{n}" for n in accounts])
        parts.append(rows(*of, [np.nan if a is None else a for a in amounts], named))
    found = foresee_renewals(*parts, NOW)
    if found is not None:
        assert np.isfinite(found.per_day).all() and min(found.per_day) >= 0
        assert np.isfinite(found.worth).all() and min(found.worth) > 0


def yearly_company(*, later: bool = False):
    """Wins of new business, five a day in a fortnight every year and none else, and what they were renewed for."""
    deals = []
    for year in (2023, 2024, 2025):
        for place in range(70):
            account, sold = f"{year}-{place}", pd.Timestamp(f"{year}-07-01 12:00") + pd.Timedelta(hours=4.8 * place)
            deals.append(deal_of(account, "new", sold - pd.Timedelta(days=30), sold, 200))
            asked = sold + pd.Timedelta(days=NOTICE)
            if asked < pd.Timestamp("2026-03-20"):
                deals.append(deal_of(account, "renewal", asked, asked + pd.Timedelta(days=20), 300))
    if later:
        deals += [deal_of(f"{2025}-{n}", "renewal", at("2026-03-22"), at("2026-03-23"), 9) for n in range(70)]
    return company(*deals, as_of="2026-04-15" if later else "2026-03-20")


def deal_of(account: str, kind: str, created: pd.Timestamp, closed: pd.Timestamp, amount: float) -> dict:
    times = {"created_at": f"{created:%Y-%m-%dT%H:%M:%S}Z", "closed_at": f"{closed:%Y-%m-%dT%H:%M:%S}Z"}
    return {**times, "account_id": account, "deal_type": kind, "stage": "Won", "amount": amount}


def test_a_company_is_told_the_renewals_of_its_one_fortnight():
    # None was created for half a year, so a rate says next to nothing; but 70 contracts are due from 28 March on.
    tables = yearly_company()
    model = fit_creation(tables, build_history(tables), tables.as_of)
    quarter = EURO_QUARTERS.next_period(EURO_QUARTERS.period_of(tables.as_of))
    coming = model.arrivals(quarter, tables.as_of).set_index("deal_type")
    assert coming.loc["renewal", "wins"] == pytest.approx(70, rel=0.2)
    assert coming.loc["renewal", "amount"] == pytest.approx(300, rel=0.05)
    assert model.streams["new"].renewals is None
    assert CreationModel.from_dict(json.loads(json.dumps(model.to_dict()))) == model


def test_a_bundle_asked_weeks_later_still_knows_which_week_it_is():
    tables = yearly_company()
    model = fit_creation(tables, build_history(tables), tables.as_of)
    quarter = EURO_QUARTERS.next_period(EURO_QUARTERS.period_of(tables.as_of))
    when = [tables.as_of, at("2026-04-05"), at("2026-04-20")]
    wins = [model.arrivals(quarter, each).set_index("deal_type").loc["renewal", "wins"] for each in when]
    # Half of the 70 have come by 5 April, all of them by 20 April.
    assert wins[1] == pytest.approx(wins[0] / 2, rel=0.25)
    assert wins[2] < 6


def test_what_happens_later_tells_nothing():
    tables, grown = yearly_company(), yearly_company(later=True)
    then = tables.as_of
    told = (fit_creation(each, build_history(each), then).streams["renewal"].renewals for each in (tables, grown))
    first, second = told
    assert isinstance(first, Renewals) and first == second
