"""The synthetic company: reproducible, exports that agree, switches that do what they say, a truth that is true."""

from dataclasses import replace
from datetime import date
from functools import cache

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from crm.contract import DTYPES, TABLES, empty_frame
from crm.synthetic import CompanyConfig, CompanyState, export, run_forward, simulate, true_bookings, true_outcomes
from crm.synthetic.company import Company
from crm.synthetic.config import calendar_day, day_number, day_start
from crm.synthetic.deals import OPEN, WON
from crm.synthetic.truth import won_to_date
from crm.tables import CrmTables

SMALL = CompanyConfig(seed=7, n_reps=6, deals_per_week=10, days=550)
EVERYTHING = replace(
    SMALL,
    time_zone="Europe/Amsterdam",
    fiscal_year_start_month=2,
    currencies=("EUR", "USD"),
    team_moves=True,
    renewals=True,
    reopened_wins=True,
    regime_shift_on=date(2024, 1, 15),
)
EARLIER, LATER = date(2024, 2, 14), SMALL.end
LOGGED_AT = {
    "deal_history": "changed_at",
    "activities": "logged_at",
    "deal_contacts": "added_at",
    "accounts": "created_at",
    "user_history": "changed_at",
    "forecast_calls": "submitted_at",
    "quotas": "valid_from",
    "exchange_rates": "valid_from",
    "users": "hired_at",
}
LASTING = ["deal_id", "created_at", "account_id", "name", "pipeline", "deal_type", "lead_source", "currency"]


@cache
def company(config: CompanyConfig = SMALL, until: date | None = None) -> CompanyState:
    return simulate(config, until)


@cache
def exported(config: CompanyConfig = SMALL) -> CrmTables:
    """The export of a company; switches of recording alone share one life."""
    return export(replace(company(lived(config)), config=config))


def lived(config: CompanyConfig) -> CompanyConfig:
    """The configuration with the switches of recording at their defaults."""
    kept = ("log_closings", "initial_rows", "tracked_from", "migration_on", "late_logging")
    return replace(config, **{name: getattr(CompanyConfig(), name) for name in kept})


def assert_same_tables(left: CrmTables, right: CrmTables) -> None:
    assert list(left.tables) == list(right.tables)
    for name in left.tables:
        assert_frame_equal(left.tables[name], right.tables[name], obj=name)


def history_of(tables: CrmTables, field: str) -> pd.DataFrame:
    history = tables.tables["deal_history"]
    return history[history["field"] == field]


# -- one company ---------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_company_and_another_seed_another():
    autumn = date(2023, 9, 1)
    moment = company().company.calendar.midnight(autumn)
    assert_same_tables(export(simulate(SMALL, autumn)), export(company(), moment))
    other = export(simulate(replace(SMALL, seed=8), autumn)).tables["deals"]
    assert not other["amount"].head(50).equals(exported().tables["deals"]["amount"].head(50))


def test_every_table_has_the_columns_and_dtypes_of_the_contract():
    for name, frame in exported(EVERYTHING).tables.items():
        declared = empty_frame(name)
        assert len(frame) > 0, name
        assert list(frame.columns[: len(declared.columns)]) == list(declared.columns)
        assert frame[list(declared.columns)].dtypes.equals(declared.dtypes), name
        required = list(TABLES[name].required)
        assert frame[required].notna().all(axis=None), name
        if TABLES[name].key:
            assert not frame.duplicated(list(TABLES[name].key)).any(), name
    assert exported().tables["deals"]["competitor"].dtype == DTYPES["text"]


def test_business_is_done_on_weekdays_between_eight_and_seven_local():
    tables = exported(EVERYTHING)
    for name, at in (("deal_history", "changed_at"), ("activities", "occurred_at"), ("deals", "closed_at")):
        local = tables.tables[name][at].dropna().dt.tz_convert(EVERYTHING.time_zone)
        assert local.dt.day_of_week.max() <= 4
        assert local.dt.hour.min() >= 8 and local.dt.hour.max() <= 18


def test_the_hours_of_a_day_are_right_on_both_sides_of_a_change_of_clocks():
    before, after = (day_start(day_number(date(2024, 3, d)), "Europe/Amsterdam") for d in (29, 31))
    assert pd.Timestamp(before, unit="us", tz="UTC") == pd.Timestamp("2024-03-29", tz="Europe/Amsterdam")
    noon = pd.Timestamp(after, unit="us", tz="UTC") + pd.Timedelta(hours=12)
    assert noon == pd.Timestamp("2024-03-31 12:00", tz="Europe/Amsterdam")


def test_a_deal_is_created_changed_and_closed_in_that_order():
    tables = exported()
    deals = tables.tables["deals"].set_index("deal_id")
    history = tables.tables["deal_history"]
    assert history["changed_at"].is_monotonic_increasing
    span = history.groupby("deal_id")["changed_at"].agg(["min", "max"]).join(deals)
    assert (span["min"] == span["created_at"]).all()
    closed = span[span["is_closed"]]
    assert (closed["max"] == closed["closed_at"]).all()
    assert deals["closed_at"].notna().equals(deals["is_closed"].astype(bool))


def test_the_history_chains_and_ends_at_the_current_value_of_open_deals():
    history = exported().tables["deal_history"]
    follows = history.groupby(["deal_id", "field"])["new_value"].shift()
    assert history["old_value"].fillna("").equals(follows.fillna(""))
    deals = exported().tables["deals"]
    is_open = deals[~deals["is_closed"]].set_index("deal_id")
    last = history.drop_duplicates(["deal_id", "field"], keep="last").set_index("deal_id")
    for field in ("stage", "forecast_category", "owner_id"):
        shown = last.loc[last["field"] == field, "new_value"].reindex(is_open.index)
        assert shown.equals(is_open[field].rename("new_value")), field


def test_calls_are_cumulative_and_every_week_heard_from_reps_up_to_the_executive():
    calls = exported().tables["forecast_calls"]
    one = calls.pivot(index=["user_id", "submitted_at"], columns="category", values="amount")
    assert (one["commit"] <= one["most_likely"]).all() and (one["most_likely"] <= one["best_case"]).all()
    users = exported().tables["users"]
    executive = users.loc[users["role"] == "executive", "user_id"].item()
    at = calls.loc[calls["user_id"] == executive, "submitted_at"].drop_duplicates()
    assert (at.dt.day_of_week == 0).all() and (at.dt.hour < 9).all() and len(at) == SMALL.days // 7 + 1


def test_the_tree_of_people_has_one_head_and_every_quota_belongs_to_a_user():
    users, quotas = exported().tables["users"], exported().tables["quotas"]
    assert users["manager_id"].isna().sum() == 1
    assert set(users["manager_id"].dropna()) <= set(users["user_id"])
    assert set(quotas["user_id"]) <= set(company().company.user_ids)


def test_a_company_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="region"):
        CompanyConfig(n_teams=1, n_regions=2)


# -- time ----------------------------------------------------------------------------------------------------------


def test_the_company_on_a_day_does_not_depend_on_how_much_further_it_is_simulated():
    state = company(EVERYTHING)
    moment = state.company.calendar.midnight(EARLIER)
    assert_same_tables(export(state, moment), export(simulate(EVERYTHING, EARLIER)))


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, late_logging=False), EVERYTHING])
def test_two_exports_agree_on_everything_before_the_earlier_one(config):
    state = company(lived(config))
    first, second = replace(state, config=config), replace(state, config=config)
    moment = state.company.calendar.midnight(EARLIER)
    earlier, later = export(first, moment), export(second)
    for name, at in LOGGED_AT.items():
        rows = later.tables[name]
        rows = rows[rows[at] <= moment].reset_index(drop=True)
        changing = ["team", "region", "manager_id", "activity_from"] if name == "users" else []
        assert_frame_equal(rows.drop(columns=changing), earlier.tables[name].drop(columns=changing), obj=name)
    deals = later.tables["deals"]
    known = deals[deals["created_at"] <= moment].reset_index(drop=True)
    assert_frame_equal(known[LASTING], earlier.tables["deals"][LASTING])
    # What was closed by then and never touched again shows what it showed then.
    untouched = ~known["deal_id"].isin(later.tables["deal_history"].query("changed_at > @moment")["deal_id"])
    assert_frame_equal(known[untouched], earlier.tables["deals"][untouched])


def test_an_export_cannot_show_days_that_were_not_simulated():
    with pytest.raises(ValueError, match="simulated until"):
        export(company(), company().company.calendar.midnight(SMALL.end) + pd.Timedelta(1, "us"))


def test_forks_share_the_past_and_not_the_future_and_leave_the_state_alone():
    state = company(SMALL, EARLIER)
    before = {name: values.copy() for name, values in state.world.rows.items()}
    one, other, same = (state.fork(seed).advance(date(2024, 6, 1)) for seed in (1, 2, 1))
    run_forward(state, days=60, seed=1, k=3)
    moment = state.company.calendar.midnight(EARLIER)
    assert_same_tables(export(one, moment), export(state))
    assert_same_tables(export(one), export(same))
    assert not export(one).tables["deals"].equals(export(other).tables["deals"])
    assert all(np.array_equal(before[name], values, equal_nan=True) for name, values in state.world.rows.items())
    assert state.on == EARLIER


# -- how the CRM is kept -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log_closings", "stage_rows", "overwriting_rows"),
    [("all", True, True), ("stage_only", True, False), ("silent", False, False)],
)
def test_closings_are_logged_or_silently_overwrite(log_closings, stage_rows, overwriting_rows):
    tables = exported(replace(SMALL, log_closings=log_closings))
    closed = tables.tables["deals"].query("is_closed").set_index("deal_id")
    history = tables.tables["deal_history"]
    on_closing = history[history["changed_at"] == history["deal_id"].map(closed["closed_at"])]
    assert set(on_closing.loc[on_closing["field"] == "stage", "deal_id"]) == (
        set(closed.index) if stage_rows else set()
    )
    for field in ("close_date", "forecast_category"):
        assert set(on_closing.loc[on_closing["field"] == field, "deal_id"]) == (
            set(closed.index) if overwriting_rows else set()
        )
    assert (closed["close_date"] == closed["closed_at"].dt.tz_localize(None).dt.normalize()).all()
    assert set(closed["forecast_category"]) == {"closed", "omitted"}
    assert_frame_equal(tables.tables["deals"], exported().tables["deals"])


def test_a_won_deal_shows_the_invoiced_amount_which_is_mostly_below_the_offer():
    won = exported().tables["deals"].query("is_won").set_index("deal_id")
    offers = history_of(exported(), "amount").drop_duplicates("deal_id", keep="last").set_index("deal_id")["new_value"]
    cut = won["amount"] / offers.astype(float).reindex(won.index)
    assert 0.85 < cut.mean() < 0.97 and (cut == 1).mean() > 0.25


def test_without_initial_rows_history_holds_changes_only():
    history = exported(replace(SMALL, initial_rows=False)).tables["deal_history"]
    created = exported().tables["deals"].set_index("deal_id")["created_at"]
    assert (history["changed_at"] > history["deal_id"].map(created)).all()
    assert len(history) > 1_000


def test_tracking_from_a_late_day_leaves_no_earlier_history():
    config = replace(SMALL, tracked_from=date(2023, 9, 1))
    history = exported(config).tables["deal_history"]
    assert history["changed_at"].min() >= pd.Timestamp("2023-09-01", tz="UTC")
    assert len(history) < len(exported().tables["deal_history"])
    assert_frame_equal(exported(config).tables["deals"], exported().tables["deals"])


def test_a_migration_gives_older_deals_a_false_birthday_and_no_past():
    config = replace(SMALL, migration_on=date(2023, 9, 1))
    night = pd.Timestamp("2023-09-01", tz="UTC")
    true, shown = exported().tables["deals"], exported(config).tables["deals"]
    older = true["created_at"] < night
    assert (shown.loc[older, "created_at"].dt.floor("D") == night).all()
    assert shown.loc[~older, "created_at"].equals(true.loc[~older, "created_at"])
    history = exported(config).tables["deal_history"].merge(shown[["deal_id", "created_at"]])
    assert (history["changed_at"] >= history["created_at"]).all()
    was_open = older & ~(true["closed_at"] < night)
    begun = history[history["changed_at"] == history["created_at"]]
    assert set(true.loc[was_open, "deal_id"]) <= set(begun.loc[begun["field"] == "stage", "deal_id"])
    assert begun["old_value"].isna().all()
    assert not set(true.loc[older & ~was_open, "deal_id"]) & set(history["deal_id"])
    earlier = company().company.calendar.midnight(date(2023, 8, 1))
    assert_same_tables(export(replace(company(), config=config), earlier), export(company(), earlier))


def test_some_activities_are_logged_late_unless_switched_off():
    late = exported().tables["activities"]
    delay = late["logged_at"] - late["occurred_at"]
    assert 0.05 < (delay > pd.Timedelta(0)).mean() < 0.15 and delay.max() < pd.Timedelta(days=10)
    prompt = exported(replace(SMALL, late_logging=False)).tables["activities"]
    assert prompt["logged_at"].equals(prompt["occurred_at"])


def test_what_a_rep_did_before_the_mailbox_was_connected_is_unknown():
    users = exported().tables["users"].set_index("user_id")
    activities = exported().tables["activities"]
    assert (activities["occurred_at"] >= activities["user_id"].map(users["activity_from"])).all()
    assert (users["activity_from"] > pd.Timestamp(SMALL.start, tz="UTC")).any()


def test_missing_amounts_are_missing_until_the_deal_is_won():
    deals = export(simulate(replace(SMALL, missing_amounts=0.4), date(2023, 9, 1))).tables["deals"]
    assert 0.3 < deals.loc[~deals["is_won"], "amount"].isna().mean() < 0.5
    assert deals.loc[deals["is_won"], "amount"].notna().all()
    assert 0 < exported().tables["deals"]["amount"].isna().mean() < 0.1


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
