"""What happens to the synthetic company, and a truth about it that is true."""

from dataclasses import replace
from datetime import date

import numpy as np
from synthetic_companies import EARLIER, EVERYTHING, SMALL, assert_same_tables, company, exported, history_of

from crm.synthetic import CompanyConfig, export, run_forward, simulate, true_bookings, true_outcomes
from crm.synthetic.company import Company
from crm.synthetic.config import calendar_day, day_number
from crm.synthetic.deals import OPEN, WON
from crm.synthetic.truth import won_to_date

# -- what happens to the company -----------------------------------------------------------------------------------


def test_after_a_regime_shift_fewer_deals_are_won_and_not_before():
    day = date(2023, 9, 1)
    steady, shifted = (company(replace(SMALL, regime_shift_on=shift), day) for shift in (None, day))
    assert_same_tables(export(shifted), export(steady))
    expected = [true_outcomes(state, k=20, seed=1).won_365.sum() for state in (steady, shifted)]
    assert 0.3 < expected[1] / expected[0] < 0.8


def test_several_currencies_move_and_belong_to_regions():
    tables = exported(EVERYTHING).tables
    rates = tables["exchange_rates"]
    assert (rates.loc[rates["currency"] == "EUR", "rate_to_base"] == 1).all()
    assert rates.loc[rates["currency"] == "USD", "rate_to_base"].nunique() > 12
    assert set(tables["deals"]["currency"]) == {"EUR", "USD"}
    assert set(exported().tables["deals"]["currency"]) == {"USD"}


def test_people_who_move_teams_leave_a_history_and_some_of_their_deals():
    tables = exported(EVERYTHING).tables
    moves = tables["user_history"].dropna(subset="old_value")
    assert set(moves["field"]) >= {"team", "manager_id"}
    last = tables["user_history"].query("field == 'team'").drop_duplicates("user_id", keep="last").set_index("user_id")
    users = tables["users"].set_index("user_id")
    assert users.loc[last.index, "team"].equals(last["new_value"].rename("team"))
    handed_over = history_of(exported(EVERYTHING), "owner_id").dropna(subset="old_value")
    assert len(handed_over) > 0
    assert set(handed_over["changed_at"].dt.date) <= set(moves["changed_at"].dt.date)
    assert exported().tables["user_history"]["old_value"].isna().all()


def test_won_deals_come_up_for_renewal_in_their_own_pipeline():
    deals = exported(EVERYTHING).tables["deals"]
    renewals = deals.query("deal_type == 'renewal'")
    assert len(renewals) > 20 and set(renewals["pipeline"]) == {"renewals"}
    first_win = deals.query("is_won").groupby("account_id")["closed_at"].min()
    waited = (renewals["created_at"] - renewals["account_id"].map(first_win)).dt.days
    assert waited.min() >= 250
    closed = renewals[renewals["is_closed"]]
    assert closed["is_won"].mean() > 0.6
    stages = exported(EVERYTHING).tables["stages"]
    assert set(renewals["stage"]) <= set(stages.loc[stages["pipeline"] == "renewals", "stage"])


def test_a_few_wins_are_reopened_within_sixty_days():
    stages = history_of(exported(EVERYTHING), "stage")
    reopened = stages[stages["old_value"] == "Closed Won"]
    won = stages[stages["new_value"] == "Closed Won"]
    assert 0.005 < len(reopened) / len(won) < 0.1
    both = reopened.merge(won, on="deal_id", suffixes=("", "_won")).query("changed_at_won < changed_at")
    assert ((both["changed_at"] - both["changed_at_won"]).dt.days <= 60).all()
    assert not (history_of(exported(), "stage")["old_value"] == "Closed Won").any()


def test_the_default_company_is_a_plausible_one():
    state = company(CompanyConfig(days=730))
    rows = state.world.rows
    mature = rows["created_day"] < state.day - 300
    cycle = (rows["closed_day"] - rows["created_day"])[mature & (rows["status"] != OPEN)]
    assert 0.22 < (rows["status"][mature] == WON).mean() < 0.35
    assert 60 < np.median(cycle) < 95
    assert 300 < len(state.open_deals) < 600
    assert 0.05 < rows["dead"][state.open_deals].mean() < 0.25


# -- the truth -----------------------------------------------------------------------------------------------------


def test_the_counts_of_the_truth_add_up():
    state = company(EVERYTHING, EARLIER)
    truth = true_outcomes(state, k=8, seed=1)
    assert (truth.period_won + truth.period_lost + truth.period_slipped == truth.k).all()
    assert (truth.won_365 >= truth.period_won + truth.next_period_won).all()
    deals = export(state).tables["deals"]
    assert list(truth.deal_id) == list(deals.loc[~deals["is_closed"], "deal_id"])
    assert truth.bookings.shape == (8, EVERYTHING.n_reps)
    assert np.allclose(truth.company_bookings, truth.bookings.sum(axis=1))
    again = true_outcomes(state, k=8, seed=1)
    assert np.array_equal(truth.won_365, again.won_365) and np.array_equal(truth.bookings, again.bookings)
    assert not np.array_equal(truth.bookings, true_outcomes(state, k=8, seed=2).bookings)


def test_bookings_alone_are_those_of_the_whole_truth_but_for_wins_cancelled_when_the_period_is_over():
    steady, reopening = company(SMALL, EARLIER), company(EVERYTHING, EARLIER)
    assert np.allclose(true_bookings(steady, k=3, seed=1), true_outcomes(steady, k=3, seed=1).bookings)
    later = true_outcomes(reopening, k=8, seed=1).bookings
    assert (true_bookings(reopening, k=8, seed=1) >= later - 0.01).all()


def test_won_to_date_is_what_the_export_shows_at_the_rate_of_the_period_start():
    state = company(EVERYTHING, EARLIER)
    tables = export(state)
    period = tables.calendar.period_of(tables.as_of)
    deals = tables.tables["deals"]
    won = deals[deals["is_won"] & (deals["closed_at"] >= period.start_at)]
    rates = tables.tables["exchange_rates"].query("valid_from <= @period.start_at")
    rates = rates.drop_duplicates("currency", keep="last").set_index("currency")["rate_to_base"]
    base = (won["amount"] * won["currency"].map(rates)).groupby(won["owner_id"]).sum()
    truth = true_outcomes(state, k=2, seed=1)
    assert np.allclose(truth.won_to_date, base.reindex(truth.rep_id).fillna(0.0))
    assert truth.won_to_date.sum() > 0


def test_the_truth_is_calibrated_against_what_then_happened():
    """Over six dates the deals won by the period's end, and the money, lie where the futures say."""
    whole = company(replace(SMALL, deals_per_week=20.0, days=730))
    rows, company_then = whole.world.rows, simulate(whole.config, whole.config.start)
    said, happened, ranks = [], [], []
    for month in (7, 9, 11, 13, 15, 17):
        company_then = company_then.advance(date(2023 + (month - 1) // 12, (month - 1) % 12 + 1, 10))
        end = whole.company.quarter(company_then.day)[1]
        futures = run_forward(company_then, days=end - company_then.day, seed=3, k=100)
        won = (rows["status"] == WON) & (rows["closed_day"] >= company_then.day) & (rows["closed_day"] < end)
        said.append((futures.outcome == WON).mean(axis=0))
        happened.append(won[futures.deal])
        booked = np.bincount(futures.bookings["future"], futures.bookings["amount"], futures.k)
        ranks.append((booked < rows["amount"][won].sum()).mean())
    p, wins = np.concatenate(said), np.concatenate(happened)
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 1.0)):
        band = (p >= low) & (p < high)
        # Deals share shocks, so that their sum strays about twice as far as that of independent ones.
        assert abs(wins[band].sum() - p[band].sum()) < 4 * np.sqrt((p * (1 - p))[band].sum()), (low, high)
    assert 0.15 < np.mean(ranks) < 0.85 and np.ptp(ranks) > 0.3


def test_forks_lived_in_full_and_futures_side_by_side_follow_one_law():
    state, forks = company(EVERYTHING, EARLIER), 10
    end = state.company.quarter(state.day)[1]
    futures = run_forward(state, days=end - 1 - state.day, seed=5, k=200)
    expected, spread = (futures.outcome == WON).sum(axis=1).mean(), (futures.outcome == WON).sum(axis=1).std()
    start = state.company.quarter(state.day)[0]
    counts = futures.bookings["day"] >= start  # a cancelled win is taken from the period it was booked in
    money = np.bincount(futures.bookings["future"][counts], futures.bookings["amount"][counts], futures.k)
    wins, booked = [], []
    for seed in range(forks):
        fork = state.fork(seed).advance(calendar_day(end - 1))
        wins.append(((fork.world.rows["status"] == WON)[state.open_deals]).sum())
        booked.append(won_to_date(fork).sum() - won_to_date(state).sum())
    assert abs(np.mean(wins) - expected) < 4 * spread / np.sqrt(forks)
    assert abs(np.mean(booked) - money.mean()) < 4 * money.std() / np.sqrt(forks)


def test_a_rate_before_the_first_month_is_the_first_rate():
    people = Company(EVERYTHING)
    assert np.array_equal(people.rate(day_number(date(2022, 12, 1))), people.rate(day_number(date(2023, 1, 1))))
