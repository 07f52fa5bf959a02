"""Proposed mappings: what the data show is put in with a remark, what they cannot show is left to do."""

import tomllib
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm.errors import DataUnusable, UsageError
from crm.ingest import import_folder
from crm.mapping import parse_mapping
from crm.mapping_looks import filled_for_some, looks_like
from crm.mapping_proposal import Proposal, propose_mapping
from crm.store import read_tables


def proposed(folder: Path, **files: str) -> Proposal:
    """The proposal for a folder of CSV files; it is TOML, whatever it says."""
    for name, content in files.items():
        (folder / f"{name}.csv").write_text(content, "utf-8")
    proposal = propose_mapping(folder)
    tomllib.loads(proposal.text)
    return proposal


def looks(kind, *values: str | None) -> object:
    found = looks_like(pd.Series(list(values), dtype="str"), kind)
    return found and (found.settings or found.in_doubt or "as it stands")


def test_days_show_how_they_are_written_once_one_of_them_can_be_read_in_one_way_only():
    assert looks("date", "2026-01-31", None) == "as it stands"
    assert looks("date", "01/02/2026", "01/31/2026") == {"format": "%m/%d/%Y"}
    assert looks("date", "01/02/2026", "31/01/2026") == {"format": "%d/%m/%Y"}
    assert looks("instant", "31.01.2026 08:30") == {"format": "%d.%m.%Y %H:%M"}
    assert looks("date", "01/02/2026", "03/04/2026") == ("%m/%d/%Y", "%d/%m/%Y")
    assert looks("date", "soon", "01/31/2026") is None


def test_numbers_show_their_signs_unless_they_could_be_read_at_two_sizes():
    assert looks("number", "10", "2.5") == "as it stands"
    assert looks("number", "$1,250.00", "$3.50") == {"decimal": ".", "thousands": ",", "units": ["$"]}
    assert looks("number", "1.250,00 €", "3,50 €") == {"decimal": ",", "thousands": ".", "units": ["€"]}
    assert len(looks("number", "1,250", "2,500")) > 1
    assert looks("number", "ten") is None


def test_a_column_that_only_some_stages_fill_is_noticed():
    stages = pd.Series(["Won"] * 6 + ["Open"] * 6 + ["Rare"])
    values = pd.Series(["x"] * 6 + [None] * 7, dtype="str")
    assert filled_for_some(values, stages) == ["Won"]
    assert filled_for_some(values.fillna("y"), stages) == []


DEALS = "Deal No,Opened,Phase,Value,Reason\n" + "".join(
    f'{n},{1 + n % 12}/{13 + n % 9}/2026,{"Won" if n % 2 else "Talking"},"1.{100 + n},50",{"price" if n % 2 else ""}\n'
    for n in range(20)
)


def test_columns_are_matched_by_name_and_look_and_a_filled_in_proposal_imports(tmp_path: Path):
    export = tmp_path / "export"
    export.mkdir()
    proposal = proposed(export, pipeline=DEALS, Sales_Team="Rep,Manager\nAnn,Bob\nBob,\n")
    assert proposal.shape is None and proposal.to_do == 4
    for line in (
        'deal_id = "Deal No"',
        'created_at = { column = "Opened", format = "%m/%d/%Y" }',
        'stage = "Phase"',
        'amount = { column = "Value", decimal = ",", thousands = "." }',
        '# "Reason" = "Reason"  # filled for "Won", hardly for others: it may tell the outcome',
        'user_id = "Rep"',
    ):
        assert f"\n{line}" in proposal.text
    with pytest.raises(UsageError) as refused:
        parse_mapping(proposal.text, "mapping.toml")
    assert [detail.where for detail in refused.value.details] == [
        f"mapping.toml, stages.rows[{row}].{column}" for row in (1, 2) for column in ("is_closed", "is_won")
    ]
    filled_in = "\n".join(line.replace('"TODO"', str("Won" in line).lower()) for line in proposal.text.splitlines())
    now = pd.Timestamp("2027-03-01", tz="UTC")
    report = import_folder(
        tmp_path / "workspace", export, full=False, now=now, mapping=parse_mapping(filled_in, "mapping.toml")
    )
    assert report.tables["deals"]["new"] == 20 and report.tables["users"]["new"] == 2 and report.quarantine is None
    deals = read_tables(tmp_path / "workspace").get("deals")
    assert deals["amount"].iloc[0] == 1100.5 and deals["created_at"].iloc[1] == pd.Timestamp("2026-02-14", tz="UTC")


def test_won_and_lost_are_never_guessed_from_the_names_of_stages(tmp_path: Path):
    rows = tomllib.loads(proposed(tmp_path, pipeline=DEALS).text)["stages"]["rows"]
    assert [(row["stage"], row["is_closed"], row["is_won"]) for row in rows] == [
        ("Talking", "TODO", "TODO"),
        ("Won", "TODO", "TODO"),
    ]


def test_what_could_be_read_in_two_ways_is_left_to_do(tmp_path: Path):
    text = proposed(tmp_path, deals="id,created,stage\n1,03/04/2026,A\n2,05/06/2026,B\n").text
    assert 'format = "TODO: %m/%d/%Y or %d/%m/%Y"' in text


def test_deals_without_ids_and_days_say_what_is_missing(tmp_path: Path):
    text = proposed(tmp_path, sales="Product,Status\nA,Won\nB,Lost\nA,Won\n").text
    assert 'deal_id = "TODO"  # no column tells the deals apart' in text
    assert 'created_at = "TODO"  # no column looks like the day a deal began' in text


def test_a_day_that_only_closed_deals_have_is_proposed_as_the_closing(tmp_path: Path):
    rows = [f"{n},2026-01-01,{'Done' if n < 9 else 'Open'},{'2026-02-01' if n < 9 else ''}" for n in range(18)]
    text = proposed(tmp_path, deals="id,created_date,stage,close_date\n" + "\n".join(rows) + "\n").text
    assert 'closed_at = "close_date"' in text and "\nclose_date = " not in text


def test_semicolons_are_seen_in_the_header(tmp_path: Path):
    assert 'delimiter = ";"' in proposed(tmp_path, deals="id;created;stage\n1;2026-01-01;A\n").text


def test_a_known_export_is_recognised_and_what_it_lacks_is_told(tmp_path: Path):
    header = "Id,StageName,CreatedDate,CloseDate,Region__c"
    proposal = proposed(tmp_path, Opportunity=f"{header}\n006A,Talk,2026-01-05T09:00:00.000+0000,03/31/2026,North\n")
    assert proposal.shape == "salesforce" and proposal.to_do == 2
    assert "# activities: there is no file Task" in proposal.text
    assert '#   "Region__c"  # text, 1 values, 100% filled' in proposal.text
    assert tomllib.loads(proposal.text)["stages"]["rows"][0]["stage"] == "Talk"


def test_values_that_a_known_export_writes_otherwise_are_told(tmp_path: Path):
    header = "Id,StageName,IsClosed,IsWon,CreatedDate,CloseDate"
    proposal = proposed(tmp_path, Opportunity=f"{header}\n006A,Talk,false,false,2026-01-05,31/03/2026\n")
    assert "# 1 values of deals.close_date are not written as [formats] says" in proposal.text
    assert proposal.to_do == 0 and parse_mapping(proposal.text, "mapping.toml").partial


def test_a_folder_without_tables_is_refused(tmp_path: Path):
    with pytest.raises(DataUnusable, match="holds no table"):
        propose_mapping(tmp_path)
    with pytest.raises(UsageError, match="is not a folder"):
        propose_mapping(tmp_path / "nowhere")


words = st.sampled_from(
    ["id", "created", "stage", "amount", "close date", "x", 'say "no"', "a\nb", "", "Ä", "#", "1.5", "2026-01-01"]
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(words.filter(lambda word: "\n" not in word), min_size=1, max_size=5, unique=True),
    st.lists(words, min_size=1, max_size=4),
)
def test_whatever_the_files_hold_the_proposal_is_toml(tmp_path_factory, header: list[str], cells: list[str]):
    folder = tmp_path_factory.mktemp("export")
    rows = [[cells[(row + place) % len(cells)] for place in range(len(header))] for row in range(12)]
    frame = pd.DataFrame(rows, columns=header)
    frame.to_csv(folder / "say #1.csv", index=False)
    proposed(folder)
