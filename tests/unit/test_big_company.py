"""The made-up companies that the benchmarks measure: plausible, consistent, the same each time, whatever their size."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks import big_company
from benchmarks.big_company import write_company
from crm.checks import run_checks
from crm.history import build_history, open_deals
from crm.store import read_tables
from crm.tables import CrmTables

DEALS = 1_500


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> CrmTables:
    workspace = tmp_path_factory.mktemp("big-company")
    write_company(workspace, deals=DEALS)
    return read_tables(workspace)


def test_every_field_that_is_filled_has_a_complete_history(tables: CrmTables):
    filled = {name: known.tracked for name, known in tables.field_classes.items() if known.filled}
    assert {"stage", "amount", "close_date", "forecast_category", "owner_id"} <= filled.keys()
    assert set(filled.values()) == {"tracked"}


def test_it_is_as_large_as_real_ones_are(tables: CrmTables):
    history = build_history(tables)
    assert len(history.left_out) == 0
    assert 0.03 < len(open_deals(history, tables.as_of)) / DEALS < 0.07
    assert 20 < len(tables.get("activities")) / DEALS < 28
    assert 8 < len(tables.get("deal_history")) / DEALS < 11


def test_nothing_is_wrong_with_its_tables(tables: CrmTables):
    assert {finding.code for finding in run_checks(tables, build_history(tables))} <= {"D02", "D16"}


def test_the_same_seed_gives_the_same_company_and_chunks_follow_one_another(
    tmp_path: Path, monkeypatch, tables: CrmTables
):
    write_company(tmp_path / "again", deals=DEALS)
    for name, frame in read_tables(tmp_path / "again").tables.items():
        pd.testing.assert_frame_equal(frame, tables.tables[name])
    monkeypatch.setattr(big_company, "DEALS_AT_ONCE", 400)
    write_company(tmp_path / "chunks", deals=DEALS)
    chunked = read_tables(tmp_path / "chunks")
    assert chunked.get("deals")["deal_id"].tolist() == tables.get("deals")["deal_id"].tolist()
    assert chunked.get("deal_history")["_sequence"].is_monotonic_increasing
    assert chunked.get("activities")["activity_id"].is_unique
