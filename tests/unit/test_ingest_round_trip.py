"""Custom fields keep their kind, and what is exported and imported again is the same: odd tables and real ones."""

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from importing_company import Company

from crm.calendar import Calendar
from crm.contract import DTYPES, TABLES
from crm.export import write_export
from crm.ingest import import_folder
from crm.merge import equal_values
from crm.reading import rows_as_text
from crm.store import read_tables
from crm.tables import CrmTables
from crm.typed_rows import type_rows


@pytest.fixture
def company(tmp_path: Path) -> Company:
    return Company(tmp_path)


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
