"""The language of mapping files: how foreign values, columns and words become the tables of an import."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from foreign_files import OPPS, Foreign
from hypothesis import given
from hypothesis import strategies as st

from crm.calendar import Calendar
from crm.errors import DataUnusable
from crm.mapping_values import Formats, rewrite_values
from crm.store import read_tables

NEW_YORK = Calendar("USD", time_zone="America/New_York")


@pytest.fixture
def foreign(tmp_path: Path) -> Foreign:
    return Foreign(tmp_path)


def rewritten(kind, formats: Formats, *texts: str | None, calendar: Calendar = NEW_YORK) -> list[str | None]:
    """Texts as an import reads them; what is refused as `! rule`."""
    done = rewrite_values(pd.Series(list(texts), dtype="str"), kind, formats, calendar)
    told = done.text.fillna("! " + done.problems)
    return [None if pd.isna(text) else text for text in told]


# -- values ----------------------------------------------------------------------------------------------------------


def test_us_days_are_read_by_their_format_and_others_are_refused():
    formats = Formats(date=("%m/%d/%Y",))
    assert rewritten("date", formats, "02/03/2026", " 2/28/2026 ", None, "") == ["2026-02-03", "2026-02-28", None, None]
    assert all(
        text.startswith("! written as %m/%d/%Y") for text in rewritten("date", formats, "02/30/2026", "3.2.2026")
    )


def test_a_day_that_two_formats_read_differently_is_refused():
    formats = Formats(date=("%m/%d/%Y", "%d/%m/%Y"))
    assert rewritten("date", formats, "04/04/2026", "31/12/2026") == ["2026-04-04", "2026-12-31"]
    assert rewritten("date", formats, "03/04/2026") == ["! could be read in two ways, by %m/%d/%Y and %d/%m/%Y"]


def test_times_without_an_offset_are_taken_in_the_stated_zone_and_offsets_are_kept():
    formats = Formats(instant=("iso", "%m/%d/%y %I:%M %p"), time_zone="America/New_York")
    given_, read = ("02/23/26 08:55 PM", "2026-02-23 20:55", "2026-02-23T20:55:00+01:00"), "2026-02-24T01:55:00Z"
    assert rewritten("instant", formats, *given_) == [read, read, "2026-02-23T19:55:00Z"]
    assert rewritten("instant", formats, "2026-02-23") == ["2026-02-23"]  # its midnight is the company's business


def test_of_an_hour_that_comes_twice_the_later_one_is_meant():
    formats = Formats(time_zone="America/New_York")
    assert rewritten("instant", formats, "2026-11-01 01:30:00") == ["2026-11-01T06:30:00Z"]
    assert rewritten("instant", formats, "2026-03-08 02:30:00") == ["2026-03-08T07:00:00Z"]  # it does not come at all


def test_a_day_made_from_a_time_is_the_local_day_only_where_a_zone_is_stated():
    text, patterns = "2026-02-24 01:55:00", ("%Y-%m-%d %H:%M:%S",)
    assert rewritten("date", Formats(date=patterns, time_zone="UTC"), text) == ["2026-02-23"]
    assert rewritten("date", Formats(date=patterns), text) == ["2026-02-24"]


def test_seconds_since_1970_are_instants():
    assert rewritten("instant", Formats(instant=("unix_ms",)), "1767225600000") == ["2026-01-01T00:00:00Z"]
    assert rewritten("instant", Formats(instant=("unix_s",)), "1767225600") == ["2026-01-01T00:00:00Z"]


def test_decimal_commas_thousands_and_currency_signs_are_read():
    european = Formats(decimal=",", thousands=".", units=("€", "EUR"))
    assert rewritten("number", european, "1.234.567,50 €", "EUR 12", "-3,5", "1234") == [
        "1234567.50",
        "12",
        "-3.5",
        "1234",
    ]
    assert rewritten("number", Formats(thousands=",", units=("$",)), "$1,234.50", "-$5") == ["1234.50", "-5"]


def test_a_number_that_breaks_its_grouping_is_refused_and_never_taken_at_another_size():
    european = Formats(decimal=",", thousands=".")
    assert all(
        text.startswith("! a number") for text in rewritten("number", european, "1.5", "12.34,5", "1,234.5", "x")
    )


def test_units_stand_around_a_number_never_within():
    formats = Formats(units=("EUR", "$"), thousands=" ")
    assert rewritten("number", formats, "- 5 EUR", "$-7", "1\u00a0250 EUR", ".5") == ["-5", "-7", "1250", ".5"]
    refused = rewritten("number", formats, "12 EUR 34", "5 USD", "EUR", "1-2", "--3")
    assert all(text.startswith("! a number") for text in refused)


def test_numbers_are_brought_to_another_unit():
    assert rewritten("share", Formats(times=0.01), "45", "7") == ["0.45", "0.07"]
    assert rewritten("number", Formats(times="1/60"), "90") == ["1.5"]


@given(st.dates(pd.Timestamp("1990-01-01").date(), pd.Timestamp("2099-12-31").date()), st.integers(-(10**9), 10**9))
def test_what_is_written_in_a_format_is_read_back(day, cents):
    assert rewritten("date", Formats(date=("%d.%m.%Y",)), day.strftime("%d.%m.%Y")) == [day.isoformat()]
    written = f"{cents / 100:,.2f}".translate(str.maketrans(",.", ".,"))
    (read,) = rewritten("number", Formats(decimal=",", thousands="."), written)
    assert float(read) == cents / 100


# -- columns ---------------------------------------------------------------------------------------------------------


def test_columns_words_and_constants_become_the_table(foreign: Foreign):
    foreign.mapping += 'amount = "Value"\nsource = { constant = "old crm" }\ncolour = "Phase"\n'
    report = foreign.run()
    assert report.tables["deals"] == {"read": 2, "new": 2, "changed": 0, "unchanged": 0, "refused": 0, "removed": 0}
    columns = ("deal_id", "stage", "amount", "is_won", "source", "colour")
    assert foreign.rows("deals", *columns) == [
        ("A", "Open", 10.0, False, "old crm", "Open"),
        ("B", "Won", 20.0, True, "old crm", "Won"),
    ]


def test_importing_the_same_files_again_changes_nothing(foreign: Foreign):
    foreign.run()
    assert not foreign.run().changed


def test_a_column_that_is_not_mapped_is_not_imported(foreign: Foreign):
    foreign.run()
    assert "Value" not in read_tables(foreign.workspace).get("deals")


def test_a_refused_row_is_shown_as_it_stood_with_the_names_of_its_file(foreign: Foreign):
    foreign.write("Opps", "Id,Born,Phase,Value\nA,2026-01-01,Open,ten\nB,,Won,20\nC,2026-01-03,Demo,7\n")
    foreign.mapping += 'amount = { column = "Value", thousands = "," }\n'
    first, second = foreign.quarantine(foreign.run(), "deals")
    assert (first["file"], first["row"], first["column"], first["value"]) == ("Opps.csv", "2", "Value", "ten")
    assert first["rule"].startswith("a number is written") and first["Id"] == "A"
    assert (second["row"], second["column"], second["rule"]) == ("3", "Born", "required, but empty")
    assert foreign.rows("deals", "deal_id") == [("C",)]


def test_a_required_value_that_cannot_be_read_is_told_once(foreign: Foreign):
    foreign.write("Opps", "Id,Born,Phase\nA,02/30/2026,Open\nB,02/28/2026,Open\n")
    foreign.mapping = "[formats]\ninstant = '%m/%d/%Y'\n" + foreign.mapping
    (line,) = foreign.quarantine(foreign.run(), "deals")
    assert line["value"] == "02/30/2026" and line["rule"].startswith("written as %m/%d/%Y")


def test_a_word_that_the_values_do_not_list_is_refused_not_guessed(foreign: Foreign):
    foreign.write("Opps", OPPS + "C,2026-01-03,Perhaps,1\n")
    (line, also) = foreign.quarantine(foreign.run(), "deals")
    assert (
        {line["column"], also["column"]} == {"Phase"} and line["value"] == "Perhaps" and line["rule"] == "true or false"
    )


def test_of_several_columns_the_first_that_is_filled_counts_and_conditions_choose(foreign: Foreign):
    foreign.write("Opps", "Id,Born,Phase,Value,Old,Gone\nA,2026-01-01,Open,,5,x\nB,2026-01-02,Won,20,7,\n")
    foreign.mapping += """
amount = ["Value", "Old"]
deal_type = [{ constant = "gone", when = { Gone = "filled", Phase = ["open"] } }, { constant = "here" }]
"""
    foreign.run()
    assert foreign.rows("deals", "amount", "deal_type") == [(5.0, "gone"), (20.0, "here")]


def test_rows_can_be_left_out_and_the_report_counts_them(foreign: Foreign):
    foreign.write("Opps", OPPS + "C,2025-12-31,Open,1\nD,2026-01-03,Junk,1\n")
    foreign.mapping = foreign.mapping.replace("[deals.columns]", "since = { created_at = 2026-01-01 }\n[deals.columns]")
    foreign.mapping = foreign.mapping.replace("[deals.columns]", 'where = { Phase = ["open", "WON"] }\n[deals.columns]')
    report = foreign.run()
    assert [note["because"] for note in report.mapping] == [
        "1 rows of Opps.csv: `where` leaves them out",
        "1 rows of Opps.csv: `since` leaves them out",
    ]
    assert foreign.rows("deals", "deal_id") == [("A",), ("B",)]


def test_another_file_is_joined_and_repeated_keys_are_told(foreign: Foreign):
    foreign.write("Opps", "Id,Born,Phase,Item\nA,2026-01-01,Open,x\nB,2026-01-02,Won,z\n")
    foreign.write("Items", "Code,Price\nx,3\ny,4\nx,9\n")
    foreign.mapping += 'amount = "item.Price"\n[deals.join.item]\nfile = "Items.csv"\non = { Item = "Code" }\n'
    report = foreign.run()
    assert foreign.rows("deals", "amount") == [(3.0,), (None,)]
    assert report.mapping == [
        {"what": "deals.join.item", "because": "1 rows of Items.csv repeat Code: the first stands"}
    ]


def test_rows_may_be_written_in_the_mapping_itself(foreign: Foreign):
    foreign.mapping += """
[stages]
rows = [
    { stage = "Open", sort_order = 1, is_closed = false, is_won = false },
    { stage = "Won", sort_order = 2, is_closed = true, is_won = true, default_probability = 1 },
]
"""
    foreign.run()
    assert foreign.rows("stages", "stage", "is_won") == [("Open", False), ("Won", True)]


def test_two_files_of_one_table_stand_under_one_another(foreign: Foreign):
    foreign.write("Calls", "Id,On\n1,2026-01-05\n2,never\n").write("Mails", "Key,Sent\n1,2026-01-06\n9,2026-01-07\n")
    foreign.mapping += """
[[activities]]
file = "Calls.csv"
columns = { activity_id = "Id", occurred_at = "On", type = { constant = "call" } }
[[activities]]
file = "Mails.csv"
columns = { activity_id = "Key", occurred_at = "Sent", type = { constant = "email" } }
"""
    by_row = {(line["file"], line["column"]): line["rule"] for line in foreign.quarantine(foreign.run(), "activities")}
    assert by_row[("Calls.csv", "On")].startswith("a timestamp is written")
    assert "a later row has the same activity_id" in by_row[("Calls.csv", "Id")]
    assert foreign.rows("activities", "activity_id", "type") == [("1", "email"), ("9", "email")]


def test_the_calendar_of_the_mapping_stands_before_calendar_json(foreign: Foreign):
    (foreign.folder / "calendar.json").write_text('{"as_of": "2026-02-01", "period": "month", "time_zone": "UTC"}')
    foreign.mapping = '[calendar]\nas_of = 2026-02-15\ntime_zone = "Europe/Amsterdam"\n' + foreign.mapping
    foreign.run()
    tables = read_tables(foreign.workspace)
    assert f"{tables.as_of}" == "2026-02-14 23:00:00+00:00" and tables.calendar.period == "month"


def test_semicolons_and_another_encoding_are_read(foreign: Foreign):
    (foreign.folder / "Opps.csv").write_bytes("Id;Born;Phase;Value\nÄ;2026-01-01;Open;1,5\n".encode("cp1252"))
    formats = '[formats]\ndelimiter = ";"\nencoding = "cp1252"\ndecimal = ","\n'
    foreign.mapping = formats + foreign.mapping + 'amount = "Value"\n'
    foreign.run()
    assert foreign.rows("deals", "deal_id", "amount") == [("Ä", 1.5)]


def test_parquet_is_read_and_its_ids_stay_ids(foreign: Foreign):
    (foreign.folder / "Opps.csv").unlink()
    born = pd.to_datetime(["2026-01-01", "2026-01-02"], utc=True)
    frame = pd.DataFrame({"Id": [1.0, 2.0], "Born": born, "Phase": ["Open", "Won"]})
    pa.parquet.write_table(pa.Table.from_pandas(frame), foreign.folder / "Opps.parquet")
    foreign.mapping = foreign.mapping.replace("Opps.csv", "Opps")
    foreign.run()
    assert foreign.rows("deals", "deal_id") == [("1",), ("2",)]


def test_a_column_that_is_not_there_is_refused_with_those_that_are(foreign: Foreign):
    foreign.mapping += 'amount = "Worth"\n'
    with pytest.raises(DataUnusable) as refused:
        foreign.run()
    assert refused.value.details[0].where == "mapping.toml, deals.columns.amount"
    assert "Born, Id, Phase, Value" in refused.value.details[0].rule
    foreign.mapping = "partial = true\n" + foreign.mapping
    assert foreign.run().mapping == [{"what": "deals.columns.amount", "because": "there is no column Worth"}]


def test_without_its_condition_a_conditional_value_is_not_taken(foreign: Foreign):
    foreign.mapping = (
        "partial = true\n" + foreign.mapping + 'closed_at = { column = "Born", when = { Gone = ["true"] } }\n'
    )
    report = foreign.run()
    assert report.mapping == [{"what": "deals.columns.closed_at.when", "because": "there is no column Gone"}]
    assert foreign.rows("deals", "closed_at") == [(None,), (None,)]
