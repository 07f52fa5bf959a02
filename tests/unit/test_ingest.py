"""Importing folders: what is refused and where it goes, what an upsert keeps, and what is noticed between imports."""

import csv
import json
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crm.calendar import Calendar
from crm.contract import DTYPES, TABLES
from crm.errors import DataUnusable, UsageError
from crm.export import write_export
from crm.history import build_history
from crm.ingest import import_folder
from crm.merge import equal_values
from crm.reading import rows_as_text, type_rows
from crm.report import ImportReport
from crm.store import read_tables
from crm.tables import CrmTables
from crm.truncation import truncate_export
from crm.versions import current_version

STAGES = (
    "stage,sort_order,is_closed,is_won\nOpen,1,false,false\nDemo,2,false,false\nWon,3,true,true\nLost,4,true,false\n"
)
DEALS = "deal_id,created_at,stage,amount\nA,2026-01-01,Open,10\nB,2026-01-02,Demo,20\n"


class Company:
    """A workspace, and a folder that can be filled and imported day by day."""

    def __init__(self, folder: Path) -> None:
        self.workspace = folder / "workspace"
        self.source = folder / "export"
        self.source.mkdir()
        self.write(stages=STAGES)

    def write(self, **files: str) -> "Company":
        for name, content in files.items():
            (self.source / f"{name}.csv").write_text(content, encoding="utf-8")
        return self

    def calendar(self, **settings: object) -> "Company":
        (self.source / "calendar.json").write_text(json.dumps(settings))
        return self

    def without(self, *names: str) -> "Company":
        for name in names:
            (self.source / f"{name}.csv").unlink()
        return self

    def run(self, day: str = "2026-03-01", *, full: bool = False) -> ImportReport:
        return import_folder(self.workspace, self.source, full=full, now=pd.Timestamp(day, tz="UTC"))

    def table(self, name: str) -> pd.DataFrame:
        return read_tables(self.workspace).get(name)

    def deal(self, deal_id: str) -> dict[str, object]:
        return self.table("deals").set_index("deal_id").loc[deal_id].to_dict()  # type: ignore[return-value]

    def history(self, *columns: str) -> list[tuple]:
        return list(self.table("deal_history")[list(columns)].itertuples(index=False, name=None))

    def quarantine(self, report: ImportReport, table: str) -> list[dict[str, str]]:
        assert report.quarantine is not None
        with (report.quarantine / f"{table}.csv").open(newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture
def company(tmp_path: Path) -> Company:
    return Company(tmp_path)


def refusal(company: Company, **run: object) -> DataUnusable:
    before = current_version(company.workspace)
    with pytest.raises(DataUnusable) as refused:
        company.run(**run)  # type: ignore[arg-type]
    assert current_version(company.workspace) == before
    assert all(detail.rule and detail.next_step for detail in refused.value.details)
    return refused.value


# -- reading files ---------------------------------------------------------------------------------------------------


def test_a_byte_order_mark_and_windows_line_ends_are_tolerated(company: Company):
    (company.source / "deals.csv").write_bytes(b"\xef\xbb\xbf" + DEALS.replace("\n", "\r\n").encode())
    assert company.run().tables["deals"]["new"] == 2
    assert company.table("deals")["amount"].tolist() == [10.0, 20.0]


def test_identifiers_stay_text_in_csv_and_parquet(company: Company):
    company.write(deals="deal_id,created_at,stage,owner_id\n00600000012,2026-01-01,Open,007\n")
    company.run()
    deals = pa.table({
        "deal_id": pa.array([13, 14]),
        "created_at": pa.array([0, 86_400_000_000], pa.timestamp("us", "UTC")),
        "stage": pa.array(["Open", "Demo"]).dictionary_encode(),
        "owner_id": pa.array([7.0, None]),
        "close_date": pa.array([20_000, None], pa.date32()),
        "amount": pa.array([1, 2], pa.decimal128(18, 2)),
        "is_closed": pa.array([False, None]),
    })  # fmt: skip
    company.without("deals")
    pa.parquet.write_table(deals, company.source / "deals.parquet")
    company.run("2026-03-02")
    held = company.table("deals")
    assert held["deal_id"].tolist() == ["00600000012", "13", "14"]
    assert held["owner_id"].fillna("?").tolist() == ["007", "7", "?"]
    assert held["close_date"].dt.strftime("%Y-%m-%d").tolist()[1] == "2024-10-04"
    assert held["created_at"].tolist()[1:] == [pd.Timestamp("1970-01-01T00Z"), pd.Timestamp("1970-01-02T00Z")]
    assert held["amount"].tolist()[1:] == [1.0, 2.0]


def test_two_files_for_one_table_are_refused(company: Company):
    company.write(deals=DEALS)
    pa.parquet.write_table(pa.table({"deal_id": ["A"]}), company.source / "deals.parquet")
    assert "two files" in refusal(company).message


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"deal_id;created_at;stage\nA;2026-01-01;Open\n", "deal_id is a required column"),
        (b"deal_id,stage\nA,Open\n", "created_at is a required column"),
        (b"deal_id,created_at,stage,stage\nA,2026-01-01,Open,Open\n", "each column has a name of its own"),
        (b"deal_id,created_at,stage,_first_seen_at\nA,2026-01-01,Open,2026-01-01\n", "used by dealcast itself"),
        (b"", "it is empty"),
        (b"deal_id,created_at,stage\n", "at least one row"),
        (b"deal_id,created_at,stage,name\nA,2026-01-01,Open,caf\xe9\n", "could not be read"),
        (DEALS.encode("utf-16"), "could not be read"),
        (b'deal_id,created_at,stage\nA,2026-01-01,Open\nB,2026-01-01,"Open\nC,2026-01-01,Open\n', "row 3"),
        (b"deal_id,created_at,stage\nA,01/02/26,Open\n", "could be day/month"),
    ],
)
def test_a_table_that_cannot_be_used_is_explained(company: Company, content: bytes, rule: str):
    (company.source / "deals.csv").write_bytes(content)
    assert rule in refusal(company).details[0].rule


def test_a_parquet_file_that_is_none_is_explained(company: Company):
    (company.source / "deals.parquet").write_bytes(b"PAR1 not really")
    assert "could not be read" in refusal(company).details[0].rule


def test_a_column_in_another_case_is_hinted_at(company: Company):
    company.write(deals="Deal ID,created_at,stage\nA,2026-01-01,Open\n")
    assert refusal(company).details[0].next_step == "Rename Deal ID to deal_id."


def test_a_folder_without_deals_names_what_is_there(company: Company):
    company.write(opportunities=DEALS)
    assert "opportunities.csv" in str(refusal(company).details[0].value)


def test_a_path_that_is_no_folder_is_wrong_usage(company: Company):
    with pytest.raises(UsageError):
        import_folder(
            company.workspace, company.source / "nowhere", full=False, now=pd.Timestamp("2026-03-01", tz="UTC")
        )


def test_an_optional_table_without_rows_counts_as_not_delivered(company: Company):
    company.write(deals=DEALS, activities="activity_id,occurred_at\n")
    report = company.run()
    assert "activities" not in report.tables
    assert "activities" in report.missing_tables
    assert "engagement features" in [off["what"] for off in report.switched_off]


# -- quarantine ------------------------------------------------------------------------------------------------------


def test_bad_rows_go_to_quarantine_with_line_column_value_and_rule(company: Company):
    company.write(
        deals="deal_id,created_at,stage,amount,close_date\n"
        'A,2026-01-01,"Open\nto all",10,2026-02-01\n'
        "\n"
        "B,2026-01-01,Open,\"1.234,56\",02/24/26\n"
        ",2026-01-01,Open,5,\n"
        "C,2026-01-01\n"
        "D,2026-01-01,Open,,\n"
        "E,2026-09-01,Open,,\n"
    )  # fmt: skip
    report = company.run()
    assert report.tables["deals"] == {
        "read": 6, "new": 2, "changed": 0, "unchanged": 0, "refused": 4, "removed": 0
    }  # fmt: skip
    assert company.table("deals")["deal_id"].tolist() == ["A", "D"]
    found = [(line["row"], line["column"], line["value"]) for line in company.quarantine(report, "deals")]
    assert found == [
        ("5", "amount", "1.234,56"),
        ("5", "close_date", "02/24/26"),
        ("6", "deal_id", ""),
        ("7", "", ""),
        ("9", "created_at", "2026-09-01"),
    ]
    first = company.quarantine(report, "deals")[0]
    assert (first["deal_id"], first["close_date"]) == ("B", "02/24/26")
    assert "a comma could be either" in first["rule"]


def test_the_last_of_several_rows_with_one_key_stands_and_copies_are_harmless(company: Company):
    company.write(
        deals="deal_id,created_at,stage,amount\nA,2026-01-01,Open,1\nA,2026-01-01,Open,2\nB,2026-01-01,Open,3\nB,2026-01-01,Open,3\n"
    )
    report = company.run()
    assert company.table("deals")["amount"].tolist() == [2.0, 3.0]
    assert report.tables["deals"]["refused"] == 1
    assert report.tables["deals"]["unchanged"] == 1
    assert company.quarantine(report, "deals")[0]["rule"] == "a later row has the same deal_id; the last one stands"


def test_rows_later_than_the_datas_moment_are_refused_but_planned_activities_stay(company: Company):
    company.calendar(as_of="2026-02-01").write(
        deals="deal_id,created_at,stage\nA,2026-01-01,Open\nB,2026-02-02,Open\n",
        deal_history="deal_id,changed_at,field,old_value,new_value\nA,2026-02-02,stage,Open,Won\nA,2026-01-05,stage,,Open\n",
        activities="activity_id,occurred_at,deal_id\n1,2026-02-09,A\n",
    )
    report = company.run("2026-03-01")
    assert {name: report.tables[name]["refused"] for name in ("deals", "deal_history", "activities")} == {
        "deals": 1, "deal_history": 1, "activities": 0
    }  # fmt: skip
    assert "2026-02-01" in company.quarantine(report, "deals")[0]["rule"]


def test_a_table_without_one_good_row_stops_the_import(company: Company):
    company.write(deals=DEALS).run()
    company.write(users="user_id,hired_at\nU,yesterday\n")
    refused = refusal(company, day="2026-03-02")
    assert refused.details[0].where == "users.csv, row 2, column hired_at"
    assert refused.details[0].value == "yesterday"


# -- calendar and stages ---------------------------------------------------------------------------------------------


def test_the_datas_moment_is_the_calendars_else_the_wall_clock(company: Company):
    company.write(deals=DEALS).calendar(as_of="2026-02-01", time_zone="Europe/Amsterdam")
    assert company.run("2026-03-01").to_dict()["as_of"] == "2026-01-31T23:00:00Z"
    company.calendar(time_zone="Europe/Amsterdam").write(deals=DEALS.replace(",20\n", ",21\n"))
    assert company.run("2026-03-01T10:00:00").to_dict()["as_of"] == "2026-03-01T10:00:00Z"


def test_an_export_older_than_the_last_is_refused(company: Company):
    company.write(deals=DEALS).calendar(as_of="2026-02-01")
    company.run()
    company.calendar(as_of="2026-01-31")
    assert "older" in refusal(company).message
    [detail] = refusal(company).details
    assert detail.value == "2026-01-31T00:00:00Z" and "2026-02-01T00:00:00Z" in detail.rule


@pytest.mark.parametrize(
    "content",
    ['{"as_of": "01/02/26"}', '{"currency": "EUR"}', '{"listed_periods": []}', "[]", "{", '{"measure": "stage"}'],
)
def test_a_bad_calendar_stops_the_import(company: Company, content: str):
    company.write(deals=DEALS)
    (company.source / "calendar.json").write_text(content)
    assert refusal(company).details[0].where.startswith("calendar.json")


def test_base_currency_is_the_commonest_of_the_first_import_and_then_stays(company: Company):
    deals = "deal_id,created_at,stage,currency\nA,2026-01-01,Open,{0}\nB,2026-01-01,Open,{0}\nC,2026-01-01,Open,CHF\n"
    company.write(deals=deals.format("USD")).run()
    assert read_tables(company.workspace).calendar.base_currency == "USD"
    report = company.write(deals=deals.format("CHF")).calendar(time_zone="UTC").run("2026-03-02")
    assert read_tables(company.workspace).calendar.base_currency == "USD"
    assert "money in other currencies" in [off["what"] for off in report.switched_off]


def test_a_company_that_names_no_currency_has_money_without_one(company: Company):
    company.write(deals=DEALS).run()
    assert read_tables(company.workspace).calendar.base_currency == "XXX"


def test_the_calendar_goes_on_where_an_export_brings_none(company: Company):
    company.write(deals=DEALS).calendar(time_zone="Asia/Tokyo", as_of="2026-02-01").run()
    (company.source / "calendar.json").unlink()
    company.write(deals=DEALS.replace(",20\n", ",21\n")).run("2026-03-01")
    assert read_tables(company.workspace).calendar.time_zone == "Asia/Tokyo"


def test_periods_are_listed_in_the_calendar(company: Company):
    company.write(
        deals=DEALS, periods="period_start,period_end,label\n2026-03-30,2026-06-29,\n2025-12-29,2026-03-30,P1\n"
    )
    company.run()
    listed = read_tables(company.workspace).calendar.listed_periods
    assert [(str(start), str(end), label) for start, end, label in listed] == [
        ("2025-12-29", "2026-03-30", "P1"), ("2026-03-30", "2026-06-29", "2026-03-30")
    ]  # fmt: skip


def test_without_a_word_on_what_is_closed_a_table_to_fill_in_is_written(company: Company):
    company.without("stages").write(
        deals=DEALS,
        deal_history="deal_id,changed_at,field,old_value,new_value\nB,2026-01-05,stage,Lead,Demo\n",
    )
    refused = refusal(company)
    to_fill = company.workspace / "stages.csv"
    assert str(to_fill) in refused.details[0].next_step
    assert [line.split(",")[0] for line in to_fill.read_text().splitlines()] == ["stage", "Lead", "Open", "Demo"]
    assert "rue" not in to_fill.read_text() and "alse" not in to_fill.read_text()

    to_fill.write_text(STAGES)
    assert company.run().tables["stages"]["new"] == 4


def test_stages_follow_from_what_the_deals_say(company: Company):
    company.without("stages").write(
        deals="deal_id,created_at,stage,is_closed,is_won\nA,2026-01-01,Zusage,true,true\nB,2026-01-01,Absage,true,false\n"
        "C,2026-01-01,Gespräch,false,\nD,2026-01-01,Anfrage,,\n",
        deal_history="deal_id,changed_at,field,old_value,new_value\nA,2026-01-05,stage,Anfrage,Gespräch\n"
        "A,2026-01-09,stage,Gespräch,Zusage\n",
    )
    company.run()
    stages = company.table("stages").sort_values("sort_order")
    assert list(zip(stages["stage"], stages["is_closed"], stages["is_won"], strict=True)) == [
        ("Anfrage", False, False), ("Gespräch", False, False), ("Absage", True, False), ("Zusage", True, True)
    ]  # fmt: skip
    assert company.run("2026-03-02").changed is False


@pytest.mark.parametrize("pipelines", [False, True])
def test_where_deals_of_one_stage_differ_each_says_itself_whether_it_is_closed_and_won(
    company: Company, pipelines: bool
):
    rows = [
        "A,2026-01-01,Offer,false,false,,sales",
        "B,2026-01-01,Offer,true,false,2026-01-09,sales",  # lost where it stood
        "C,2026-01-01,Done,true,true,2026-01-10,sales",
        "D,2026-01-01,Done,true,false,2026-01-11,sales",
        "E,2026-01-01,Offer,true,true,2026-01-12,service",  # the stage of the same name that wins
    ]
    header = "deal_id,created_at,stage,is_closed,is_won,closed_at" + ",pipeline" * pipelines
    lines = [row if pipelines else row.rpartition(",")[0] for row in (rows if pipelines else rows[:4])]
    moved = (
        "deal_id,changed_at,field,old_value,new_value\nC,2026-01-10,stage,Offer,Done\nD,2026-01-11,stage,Offer,Done\n"
    )
    company.without("stages").write(deals="\n".join([header, *lines]), deal_history=moved).run()
    tables = read_tables(company.workspace)
    now = build_history(tables)
    ended = dict(zip(now.endings["deal_id"], now.endings["outcome"], strict=True))
    assert ended == {"B": "lost", "C": "won", "D": "lost"} | ({"E": "won"} if pipelines else {})
    assert now.spells.loc[now.spells["ended_at"].isna(), "deal_id"].tolist() == ["A"]
    then = truncate_export(tables, pd.Timestamp("2026-01-10", tz="UTC"))
    assert set(build_history(then).endings["deal_id"]) == {"B", "C"}


def test_delivered_stages_replace_those_concluded_from_the_deals(company: Company):
    company.without("stages").write(
        deals="deal_id,created_at,stage,is_closed,is_won,pipeline\nA,2026-01-01,Open,false,false,sales\n"
    ).run()
    assert len(company.table("stages")) == 1
    company.write(stages=STAGES).run("2026-03-02")
    assert company.table("stages")["stage"].tolist() == ["Open", "Demo", "Won", "Lost"]


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


# -- custom fields ---------------------------------------------------------------------------------------------------


def test_custom_fields_are_kept_typed_and_typed_alike_next_time(company: Company):
    company.write(
        deals="deal_id,created_at,stage,score,zip,demo_on,Next step (old)\nA,2026-01-01,Open,1.5,0042,2026-02-01,call\n"
    ).run()
    deals = company.table("deals")
    assert [str(deals[name].dtype) for name in ("score", "zip", "demo_on", "Next step (old)")] == [
        DTYPES["number"], "str", DTYPES["date"], "str"
    ]  # fmt: skip
    company.write(deals="deal_id,created_at,stage,score,zip,demo_on,Next step (old)\nB,2026-01-01,Open,,17,,\n").run(
        "2026-03-02"
    )
    deals = company.table("deals")
    assert deals["zip"].tolist() == ["0042", "17"]
    assert str(deals["score"].dtype) == "float64"


def test_a_custom_field_that_no_longer_fits_its_kind_becomes_text(company: Company):
    company.write(deals="deal_id,created_at,stage,score\nA,2026-01-01,Open,1.50\n").run()
    company.write(deals="deal_id,created_at,stage,score\nA,2026-01-01,Open,1.5\nB,2026-01-01,Open,high\n").run(
        "2026-03-02"
    )
    assert company.table("deals")["score"].tolist() == ["1.5", "high"]
    assert not read_tables(company.workspace).has("deal_history")


def test_rows_of_a_json_document_are_read_by_the_same_rules():
    raw = rows_as_text("deals", [
        {"deal_id": 7, "created_at": "2026-01-01", "stage": "Open", "amount": 12.5, "is_won": False, "name": None},
        {"deal_id": "0042", "created_at": "01/02/26", "stage": "Open"},
    ])  # fmt: skip
    rows = type_rows(raw, Calendar("EUR"), pd.Timestamp("2026-03-01", tz="UTC"), {})
    assert rows.frame[["deal_id", "amount", "is_won"]].to_numpy().tolist() == [["7", 12.5, False]]
    assert [(line[0], line[1], line[2]) for line in rows.quarantine] == [("2", "created_at", "01/02/26")]


# -- round trips and real data ---------------------------------------------------------------------------------------

IDS = st.from_regex(r"[0-9A-Za-z]{1,6}", fullmatch=True)
TEXTS = st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8)
MOMENTS = st.datetimes(pd.Timestamp("2000-01-01"), pd.Timestamp("2026-01-01")).map(
    lambda at: pd.Timestamp(at, tz="UTC")
)
VALUES = {
    "id": st.none() | IDS,
    "text": TEXTS,
    "instant": st.none() | MOMENTS,
    "date": st.none() | st.dates(date(1900, 1, 1), date(2199, 12, 31)).map(pd.Timestamp),
    "number": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "share": st.none() | st.floats(0, 1),
    "boolean": st.none() | st.booleans(),
}  # fmt: skip

SOME = {"id": "1", "text": "x", "instant": pd.Timestamp("2020-01-01T00Z"), "number": 1.0, "boolean": True}


@st.composite
def companies(draw: st.DrawFn) -> CrmTables:
    """Tables full of odd texts and gaps, as an import would hold them."""
    pools = {kind: draw(st.lists(values, min_size=1, max_size=5)) for kind, values in VALUES.items()}
    tables = {}
    for name in ("deals", "deal_history", "accounts", "stages"):
        spec = TABLES[name]
        ids = sorted(draw(st.sets(IDS, min_size=1, max_size=4)))
        columns = {}
        for place, column in enumerate(spec.columns.values()):
            pool = [value for value in pools[column.kind] if value is not None or not column.required]
            pool = pool or [SOME[column.kind]]
            drawn = [pool[(row + place) % len(pool)] for row in range(len(ids))]
            columns[column.name] = pd.Series(drawn, dtype=DTYPES[column.kind])
        columns["stage" if name == "stages" else next(iter(spec.columns))] = pd.Series(ids, dtype="str")
        tables[name] = pd.DataFrame(columns)
    tables["deal_history"]["_sequence"] = np.arange(len(tables["deal_history"]), dtype="float64")
    return CrmTables(tables, Calendar("EUR", time_zone="America/New_York"), pd.Timestamp("2026-01-02T05:00Z"), "1", {})


@settings(max_examples=12, deadline=None)
@given(companies())
def test_an_export_imported_gives_the_same_tables(tmp_path_factory: pytest.TempPathFactory, tables: CrmTables):
    folder = tmp_path_factory.mktemp("company")
    write_export(tables, folder / "export")
    import_folder(folder / "workspace", folder / "export", full=False, now=pd.Timestamp("2030-01-01", tz="UTC"))
    held = read_tables(folder / "workspace")
    assert (held.calendar, held.as_of) == (tables.calendar, tables.as_of)
    for name, frame in tables.tables.items():
        # A deal merged away without a day gets the import's.
        added = ["deleted_at"] if name == "deals" else []
        pd.testing.assert_frame_equal(held.tables[name][list(frame)].drop(columns=added), frame.drop(columns=added))


def test_a_real_pipeline_is_imported_in_seconds_and_idempotently(tmp_path: Path, shared: Path):
    source = shared / "data" / "bank_loans"
    now = pd.Timestamp("2026-01-01", tz="UTC")
    report = import_folder(tmp_path, source, full=False, now=now)
    assert {name: counts["refused"] for name, counts in report.tables.items()} == dict.fromkeys(report.tables, 0)
    assert (report.tables["deals"]["new"], report.tables["deal_history"]["new"]) == (7455, 41613)
    tables = read_tables(tmp_path)
    assert tables.as_of == pd.Timestamp("2011-12-31T23:00:00Z")
    assert (tables.calendar.base_currency, tables.calendar.period) == ("EUR", "month")

    write_export(tables, tmp_path / "export")
    again = import_folder(tmp_path, tmp_path / "export", full=True, now=now)
    assert (again.changed, again.quarantine) == (False, None)
    assert equal_values(read_tables(tmp_path).tables["deals"]["amount"], tables.tables["deals"]["amount"]).all()
