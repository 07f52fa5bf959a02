"""Mapping files: histories, what cannot be a mapping, and the same tables again through one that changes nothing."""

import csv
from pathlib import Path

import pandas as pd
import pytest
from foreign_files import DEALS, Foreign
from hypothesis import given, settings

from crm.contract import TABLES
from crm.errors import UsageError
from crm.export import write_export
from crm.ingest import import_folder
from crm.mapping import load_mapping, parse_mapping, shipped_mappings
from crm.store import read_tables
from crm.synthetic import CompanyConfig, export, simulate
from tests.invariants.generated_crms import crms


@pytest.fixture
def foreign(tmp_path: Path) -> Foreign:
    return Foreign(tmp_path)


def complaints(mapping: str) -> str:
    """Everything that is said of a mapping that cannot be used."""
    with pytest.raises(UsageError) as refused:
        parse_mapping(mapping, "mapping.toml")
    assert refused.value.exit_code == 2 and refused.value.details
    return "\n".join(f"{detail.where}: {detail.value}: {detail.rule}" for detail in refused.value.details)


# -- histories -------------------------------------------------------------------------------------------------------

CHANGES = ("deal_id", "changed_at", "field", "old_value", "new_value")


def changes(foreign: Foreign) -> list[tuple]:
    return [(deal, f"{at:%m-%d %H:%M}", *rest) for deal, at, *rest in foreign.rows("deal_history", *CHANGES)]


def log_of(fields: str, *, old_value: str) -> str:
    """A mapping of the field history in Log.csv."""
    return f"""
[deal_history]
file = "Log.csv"
fields = {{ {fields} }}
[deal_history.columns]
deal_id = "Opp"
changed_at = "At"
field = "What"
old_value = {old_value}
new_value = "To"
"""


def test_a_field_history_speaks_of_our_fields_with_our_values(foreign: Foreign):
    foreign.write("Log", 'Opp,At,What,From,To\nA,2026-01-05,Value,"1,0","10,0"\nA,2026-01-06,Secret,x,y\n')
    foreign.mapping += 'amount = { column = "Value", decimal = "," }\n'
    foreign.mapping += log_of('Value = "amount"', old_value='"From"')
    report = foreign.run()
    assert changes(foreign) == [("A", "01-05 00:00", "amount", "1.0", "10.0")]
    because = "1 rows of Log.csv: changes of fields that `fields` does not name"
    assert report.mapping == [{"what": "deal_history", "because": because}]


def test_the_old_value_is_the_new_value_before_in_time_not_in_the_file(foreign: Foreign):
    foreign.write(
        "Log", "Opp,At,What,To\nA,2026-01-07,Phase,Demo\nA,2026-01-01T00:00:20Z,Phase,New\nA,2026-01-05,Phase,Open\n"
    )
    foreign.mapping += log_of('Phase = "stage"', old_value="{ previous = true }")
    foreign.run()
    assert sorted(changes(foreign)) == [
        ("A", "01-01 00:00", "stage", None, "New"),
        ("A", "01-05 00:00", "stage", "New", "Open"),
        ("A", "01-07 00:00", "stage", "Open", "Demo"),
    ]
    initial = read_tables(foreign.workspace).get("deal_history")["changed_at"].min()
    assert initial == pd.Timestamp("2026-01-01", tz="UTC")  # noted seconds later: the deal's first value, no change


VERSIONS = """amount = "Value"
[deal_history]
file = "States.csv"
versions = { Phase = "stage", Value = "amount" }
[deal_history.columns]
deal_id = "Opp"
changed_at = "At"
"""


def test_whole_states_become_the_changes_between_them(foreign: Foreign):
    foreign.write(
        "States", "Opp,At,Phase,Value\nA,2026-01-09,Demo,10\nA,2026-01-01 08:00,Open,\nA,2026-01-04,Open,10\n"
    )
    foreign.mapping += VERSIONS
    foreign.run()
    assert sorted(changes(foreign)) == [
        ("A", "01-01 00:00", "stage", None, "Open"),
        ("A", "01-04 00:00", "amount", None, "10"),
        ("A", "01-09 00:00", "stage", "Open", "Demo"),
    ]


def test_a_first_state_found_later_than_the_beginning_is_no_change_and_closes_nothing(foreign: Foreign):
    foreign.write("States", "Opp,At,Phase,Value\nB,2026-02-01,Won,20\nA,2026-02-01,Open,10\nA,2026-02-05,Demo,10\n")
    foreign.mapping += VERSIONS
    report = foreign.run()
    assert changes(foreign) == [("A", "02-05 00:00", "stage", "Open", "Demo")]
    because = "4 rows of States.csv: states found later than the beginning: what they were before is not known"
    assert {"what": "deal_history", "because": because} in report.mapping


def test_a_state_that_cannot_be_read_is_refused_under_its_own_column(foreign: Foreign):
    foreign.write("States", "Opp,At,Phase,Value\nA,2026-01-01,Open,1\nA,2026-01-02,Demo,much\nA,2026-01-03,Demo,2\n")
    foreign.mapping += VERSIONS.replace('amount = "Value"', 'amount = { column = "Value", thousands = "," }')
    (line,) = foreign.quarantine(foreign.run(), "deal_history")
    assert (line["file"], line["row"], line["column"], line["value"]) == ("States.csv", "3", "Value", "much")
    assert ("A", "01-03 00:00", "amount", "1", "2") in changes(foreign)


# -- what cannot be a mapping ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("[deals]", "[deal]"), "mapping.toml, deal: None: the sections are"),
        (('deal_id = "Id"\n', ""), "deals.columns: None: deal_id: required in deals"),
        (('file = "Opps.csv"', 'flie = "Opps.csv"'), "deals: None: unknown: flie; the keys are file"),
        (('"Born"', '{ colum = "Born" }'), "deals.columns.created_at: None: unknown: colum"),
        (('"Born"', '{ column = "Born", format = "MM/DD/YYYY" }'), "MM/DD/YYYY: a format is written with codes"),
        (('"Born"', '{ column = "Born", format = "%Q" }'), "%Q: not a format"),
        (('"Born"', '{ column = "Born", time_zone = "Mars" }'), "Mars: an IANA time zone"),
        (('"Born"', '{ column = "Born", constant = 1 }'), "a value comes from one of column, constant"),
        (('"Born"', '{ column = "Born", decimal = "," }'), "belong to numbers"),
        (('"Phase"\nis', '{ column = "Phase", format = "%d" }\nis'), "a format belongs to a date or an instant"),
        (('"Phase"\nis', '{ column = "Phase", kind = "id" }\nis'), "deals.columns.stage.kind: None: its kind is"),
        (('"Phase"\nis', '{ previous = true }\nis'), "only the old_value of deal_history"),
        (("[deals.columns]", "rows = [{ deal_id = 1 }]\n[deals.columns]"), "one of file and rows"),
        (("[deals.columns]", "where = { Phase = 3 }\n[deals.columns]"), "a condition is"),
        (("[deals.columns]", "since = { stage = 2026-01-01 }\n[deals.columns]"), "a day or moment of this table"),
        (("[deals.columns]", 'versions = { Phase = "stage" }\n[deals.columns]'), "belong to deal_history"),
        (("[deals]", '[calendar]\ntimezone = "UTC"\n[deals]'), "mapping.toml, calendar.timezone"),
        (("[deals]", "[calendar]\nas_of = 'soon'\n[deals]"), "mapping.toml, calendar.as_of: soon: a moment is"),
        (("[deals]", "deals = 3\n[deals]"), "a mapping is written in TOML"),
        (("[deals]", "[calendar]\nlisted_periods = []\n[deals]"), "calendar.listed_periods: None: periods are a table"),
        (("[deals]", "[formats]\nthousands = '.'\n[deals]"), "formats: None: decimal and thousands are two"),
        (("[deals]", "[formats]\nencoding = 'nonsense'\n[deals]"), "formats.encoding: nonsense: an encoding such as"),
        (("[deals]", "[stages]\nrows = [{ stage = 'Open' }]\n[deals]"), "stages.rows[1]: None: sort_order, is"),
        (
            ("[deals]", "[deal_history]\nfile = 'x'\nfields = { a = 'stage' }\ncolumns = { field = 'y' }\n[deals]"),
            "deal_history.columns: None: deal_id, changed_at: required",
        ),
        (
            ("[deals]", "[deal_history]\nfile = 'x'\ncolumns = { old_value = { previous = true } }\n[deals]"),
            "deal_history.columns: None: new_value: what the field changed to",
        ),
        (("[deals.columns]", "rows = 3\n[deals.columns]"), "mapping.toml, deals.rows: 3: it is a list"),
        (("[deals]", "partial = 'perhaps'\n[deals]"), "mapping.toml, partial: perhaps"),
    ],
)  # fmt: skip
def test_a_bad_mapping_is_refused_with_its_place_and_its_rule(change: tuple[str, str], told: str):
    assert change[0] in DEALS
    assert told in complaints(DEALS.replace(*change, 1))


def test_what_is_left_to_do_is_asked_for_all_at_once():
    mapping = (
        DEALS.replace('"Born"', '"TODO"') + '[stages]\nrows = [{ stage = "Open", is_won = "TODO: true or false" }]\n'
    )
    assert complaints(mapping).splitlines() == [
        "mapping.toml, deals.columns.created_at: TODO: only you can know this",
        "mapping.toml, stages.rows[1].is_won: TODO: true or false: only you can know this",
    ]


def test_a_mapping_that_does_not_exist_names_those_that_do():
    with pytest.raises(UsageError) as refused:
        load_mapping("no/such/file.toml")
    assert all(name in refused.value.details[0].rule for name in ("salesforce", "fivetran_hubspot"))


@pytest.mark.parametrize("name", shipped_mappings())
def test_every_shipped_mapping_is_a_mapping(name: str):
    mapping = load_mapping(name)
    assert mapping.partial and "deals" in mapping.tables


# -- the same tables again -------------------------------------------------------------------------------------------


def identity(folder: Path) -> str:
    """A mapping in which every file and column is its own."""
    lines = []
    for table in TABLES:
        if (path := folder / f"{table}.csv").exists():
            header = next(csv.reader(path.open(newline="", encoding="utf-8")))
            columns = ", ".join(f'"{name}" = "{name}"' for name in header)
            lines += [f"[{table}]", f'file = "{table}.csv"', f"columns = {{ {columns} }}"]
    return "\n".join(lines)


def assert_an_identity_mapping_changes_nothing(tables, folder: Path) -> None:
    write_export(tables, folder / "export")
    now = pd.Timestamp("2026-03-01", tz="UTC")
    import_folder(folder / "workspace", folder / "export", full=False, now=now)
    plain = read_tables(folder / "workspace")
    mapping = parse_mapping(identity(folder / "export"), "identity.toml")
    report = import_folder(folder / "workspace", folder / "export", full=False, now=now, mapping=mapping)
    assert not report.changed
    import_folder(folder / "other", folder / "export", full=False, now=now, mapping=mapping)
    mapped = read_tables(folder / "other")
    assert mapped.as_of == plain.as_of and mapped.calendar == plain.calendar
    assert mapped.field_classes == plain.field_classes and mapped.tables.keys() == plain.tables.keys()
    for name in plain.tables:
        pd.testing.assert_frame_equal(mapped.get(name), plain.get(name))


def test_a_company_read_through_an_identity_mapping_is_the_same_company(tmp_path: Path):
    state = simulate(CompanyConfig(seed=3, days=120, n_reps=3, n_teams=1, n_regions=1, deals_per_week=3.0))
    tables = export(state, state.company.calendar.midnight(state.on))
    assert_an_identity_mapping_changes_nothing(tables, tmp_path)


@settings(max_examples=5, deadline=None)
@given(crms())
def test_generated_tables_read_through_an_identity_mapping_are_the_same(tmp_path_factory, tables):
    assert_an_identity_mapping_changes_nothing(tables, tmp_path_factory.mktemp("identity"))
