"""The synthetic company: reproducible, exports that agree, switches of how its CRM is kept that do what they say."""

from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from synthetic_companies import EARLIER, EVERYTHING, SMALL, assert_same_tables, company, exported, history_of, lived

from crm.contract import DTYPES, TABLES, empty_frame
from crm.synthetic import CompanyConfig, export, run_forward, simulate
from crm.synthetic.config import day_number, day_start

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
