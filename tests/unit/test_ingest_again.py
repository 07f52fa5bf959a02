"""Importing a folder again: what an upsert keeps, and what is noticed between imports."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from importing_company import DEALS, Company

from crm.store import read_tables


@pytest.fixture
def company(tmp_path: Path) -> Company:
    return Company(tmp_path)


# -- upsert ----------------------------------------------------------------------------------------------------------


def test_the_same_import_twice_makes_no_new_version(company: Company):
    company.write(
        deals=DEALS,
        deal_history="deal_id,changed_at,field,old_value,new_value\nB,2026-01-05,stage,Open,Demo\nB,2026-01-05,stage,Open,Demo\n",
        deal_contacts="deal_id,contact_id,added_at\nA,c,\n",
    )
    first = company.run()
    assert first.changed and first.tables["deal_history"]["new"] == 1
    again = company.run("2026-03-02", full=True)
    assert (again.changed, again.data_version) == (False, first.data_version)
    assert {name: counts["unchanged"] for name, counts in again.tables.items()} == {
        "deals": 2, "deal_history": 2, "stages": 4, "deal_contacts": 1
    }  # fmt: skip


def test_history_told_with_more_columns_than_before_is_not_told_twice(company: Company):
    company.write(
        deals=DEALS,
        deal_history="deal_id,changed_at,field,old_value,new_value\nB,2026-01-05,stage,Open,Demo\n",
    ).run()
    company.write(deals=DEALS.replace("Open,10", "Open,11")).run("2026-03-02")
    company.write(
        deal_history="deal_id,changed_at,field,old_value,new_value,changed_by\nB,2026-01-05,stage,Open,Demo,U\n"
        "B,2026-01-06,amount,19,20,U\n",
    )
    assert company.run("2026-03-03").tables["deal_history"]["new"] == 1
    assert company.history("deal_id", "field", "changed_by") == [
        ("A", "amount", "sync"), ("B", "stage", np.nan), ("B", "amount", "U")
    ]  # fmt: skip


def test_the_same_rows_at_a_later_as_of_are_a_new_version(company: Company):
    company.write(deals=DEALS).calendar(as_of="2026-02-01").run()
    report = company.calendar(as_of="2026-02-02").run()
    assert (report.changed, report.data_version) == (True, "000002")


def test_absent_rows_and_columns_stay_and_empty_values_are_values(company: Company):
    company.write(deals=DEALS).run()
    company.write(deals="deal_id,created_at,stage,name\nB,2026-01-02,Demo,Bee\n").run("2026-03-02")
    assert company.deal("A")["amount"] == 10.0
    assert (company.deal("B")["amount"], company.deal("B")["name"]) == (20.0, "Bee")
    company.write(deals="deal_id,created_at,stage,amount\nB,2026-01-02,Demo,\n")
    report = company.run("2026-03-03")
    assert np.isnan(company.deal("B")["amount"])  # type: ignore[call-overload]
    assert (report.tables["deals"]["changed"], report.tables["deals"]["unchanged"]) == (1, 0)


def test_rows_are_told_apart_by_the_tables_key(company: Company):
    company.write(
        deals=DEALS,
        quotas="user_id,period_start,amount,valid_from\nU,2026-01-01,100,\nU,2026-01-01,120,2026-02-01\n",
        exchange_rates="currency,valid_from,rate_to_base\nUSD,2026-01-01,0.9\n",
    )
    company.run()
    company.write(
        quotas="user_id,period_start,amount,valid_from\nU,2026-01-01,110,\n",
        exchange_rates="currency,valid_from,rate_to_base\nUSD,2026-01-01,0.8\nUSD,2026-02-01,0\n",
    )
    report = company.run("2026-03-02")
    assert sorted(company.table("quotas")["amount"]) == [110.0, 120.0]
    assert company.table("exchange_rates")["rate_to_base"].tolist() == [0.8]
    assert company.quarantine(report, "exchange_rates")[0]["rule"] == "a rate is above 0"


def test_a_later_import_may_bring_one_table_alone(company: Company):
    company.write(deals=DEALS).run()
    company.without("deals", "stages").write(users="user_id\nU\n")
    assert company.run("2026-03-02").tables["users"]["new"] == 1
    assert len(company.table("deals")) == 2


def test_a_full_import_deletes_absent_deals_and_removes_other_absent_rows_but_no_history(company: Company):
    company.write(
        deals=DEALS,
        users="user_id\nU\nV\n",
        deal_history="deal_id,changed_at,field,old_value,new_value\nA,2026-01-05,stage,,Open\nB,2026-01-05,stage,Open,Demo\n",
    )
    company.run()
    company.write(
        deals=DEALS.replace("A,2026-01-01,Open,10\n", ""),
        users="user_id\nV\n",
        deal_history="deal_id,changed_at,field,old_value,new_value\nB,2026-01-05,stage,Open,Demo\n",
    )
    report = company.run("2026-03-02", full=True)
    assert company.deal("A")["deleted_at"] == pd.Timestamp("2026-03-02", tz="UTC")
    assert pd.isna(company.deal("B")["deleted_at"])  # type: ignore[call-overload]
    assert company.table("users")["user_id"].tolist() == ["V"]
    assert len(company.table("deal_history")) == 2
    assert (report.tables["deals"]["removed"], report.tables["users"]["removed"]) == (1, 1)
    assert company.run("2026-03-03", full=True).changed is False

    company.write(deals=DEALS).run("2026-03-04")
    assert pd.isna(company.deal("A")["deleted_at"])  # type: ignore[call-overload]


def test_a_deal_merged_away_went_at_the_import_that_first_showed_it(company: Company):
    company.write(deals=DEALS).run("2026-03-01")
    company.write(deals="deal_id,created_at,stage,merged_into\nA,2026-01-01,Open,B\n").run("2026-03-02")
    assert company.deal("A")["deleted_at"] == pd.Timestamp("2026-03-02", tz="UTC")
    assert company.run("2026-03-03").changed is False
    assert company.deal("A")["deleted_at"] == pd.Timestamp("2026-03-02", tz="UTC")


def test_a_deal_found_by_a_later_import_is_known_from_then_on(company: Company):
    company.write(deals=DEALS).run("2026-03-01")
    company.write(deals=DEALS + "C,2026-01-03,Open,30\n").run("2026-03-02")
    first_seen = company.table("deals").set_index("deal_id")["_first_seen_at"]
    assert first_seen.isna().tolist() == [True, True, False]
    assert first_seen["C"] == pd.Timestamp("2026-03-02", tz="UTC")
    assert read_tables(company.workspace).first_import_at == pd.Timestamp("2026-03-01", tz="UTC")


def test_a_closing_given_as_a_day_is_booked_on_that_day(company: Company):
    company.calendar(time_zone="America/New_York").write(
        deals="deal_id,created_at,stage,closed_at,booked_on\nA,2026-01-01,Won,2026-01-31,\nB,2026-01-01,Won,2026-01-31,2026-02-01\n"
        "C,2026-01-01,Won,2026-02-01T03:00:00Z,\n"
    )
    company.run()
    assert company.table("deals")["booked_on"].dt.strftime("%m-%d").fillna("?").tolist() == ["01-31", "02-01", "?"]
    assert company.deal("A")["closed_at"] == pd.Timestamp("2026-01-31T05:00Z")


# -- what changed without a word -------------------------------------------------------------------------------------


def test_a_change_without_a_history_row_is_noted_at_the_import(company: Company):
    company.write(deals=DEALS).run("2026-03-01")
    company.write(deals=DEALS.replace("Open,10", "Won,12.5")).run("2026-03-02")
    assert company.history("deal_id", "field", "old_value", "new_value", "changed_by") == [
        ("A", "amount", "10", "12.5", "sync"),
        ("A", "stage", "Open", "Won", "sync"),
    ]
    assert set(company.table("deal_history")["changed_at"]) == {pd.Timestamp("2026-03-02", tz="UTC")}
    assert company.run("2026-03-03").changed is False


def test_a_change_that_delivered_history_explains_is_not_noted_again(company: Company):
    company.write(deals=DEALS).run("2026-03-01")
    company.write(
        deals=DEALS.replace("Open,10", "Demo,12"),
        deal_history="deal_id,changed_at,field,old_value,new_value\nA,2026-03-01T10:00:00Z,stage,Open,Demo\n"
        "A,2026-03-01T10:00:00Z,amount,10,11.0\n",
    ).run("2026-03-02")
    assert company.history("field", "old_value", "new_value", "changed_by") == [
        ("stage", "Open", "Demo", np.nan),
        ("amount", "10", "11.0", np.nan),
        ("amount", "11", "12", "sync"),
    ]


def test_history_that_comes_late_replaces_what_was_noted(company: Company):
    company.write(deals=DEALS).run("2026-03-01")
    company.write(deals=DEALS.replace("Open,10", "Demo,12")).run("2026-03-03")
    company.write(
        deal_history="deal_id,changed_at,field,old_value,new_value\nA,2026-03-02T10:00:00Z,amount,10.0,12.0\n"
    ).run("2026-03-04")
    assert company.history("field", "new_value", "changed_by") == [
        ("stage", "Demo", "sync"),
        ("amount", "12.0", np.nan),
    ]


def test_the_outcomes_own_fields_are_dated_by_themselves(company: Company):
    company.write(deals="deal_id,created_at,stage,is_closed,closed_at,booked_on\nA,2026-01-01,Open,false,,\n").run()
    company.write(
        deals="deal_id,created_at,stage,is_closed,closed_at,booked_on\nA,2026-01-01,Won,true,2026-02-01,2026-02-02\n"
    ).run("2026-03-02")
    assert company.history("field") == [("stage",)]


def test_the_first_import_notes_nothing(company: Company):
    company.write(deals=DEALS).run()
    assert not read_tables(company.workspace).has("deal_history")
