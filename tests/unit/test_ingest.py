"""Importing folders: how files are read, what is refused and where it goes, the calendar and the stages."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from importing_company import DEALS, STAGES, Company

from crm.errors import DataUnusable, UsageError
from crm.history import build_history
from crm.ingest import import_folder
from crm.store import read_tables
from crm.truncation import truncate_export
from crm.versions import current_version


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
