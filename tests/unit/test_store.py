"""Data versions on disk: whole or not at all, one writer at a time, every version readable again."""

import fcntl
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from crm.calendar import Calendar
from crm.contract import DTYPES, empty_frame
from crm.errors import DataUnusable
from crm.ingest import import_folder
from crm.store import ROWS_PER_GROUP, DealRange, deal_ranges, read_tables, write_version, write_version_in_parts
from crm.tables import CrmTables, FieldClass
from crm.versions import current_version, import_lock, read_manifest

NOW = pd.Timestamp("2026-03-01T09:00:00Z")
PROJECT = Path(__file__).resolve().parents[2]

# Imports a folder and is killed, as by a power cut, just before the step it is told.
KILLED_IMPORT = """
import os, signal, sys
from pathlib import Path
import pandas as pd
import crm.store, crm.versions
from crm.ingest import import_folder

workspace, source, step = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def die_before(module, name, suffix):
    real = getattr(module, name)
    def step_taken(*given):
        if any(str(value).endswith(suffix) for value in given):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given)
    setattr(module, name, step_taken)

die_before(*{"table": (crm.store, "_write_table", "stages"), "manifest": (crm.versions, "replace_file", ".json"),
             "current": (crm.versions, "replace_file", "CURRENT")}[step])
import_folder(workspace, source, full=False, now=pd.Timestamp("2026-03-02T09:00:00Z"))
"""


def tables(**deals: list) -> CrmTables:
    frame = empty_frame("deals").reindex(range(len(next(iter(deals.values())))))
    frame = frame.assign(**{name: pd.Series(values, dtype=frame[name].dtype) for name, values in deals.items()})
    stages = empty_frame("stages")
    moment = pd.Timestamp("2026-03-01T00:00:00Z")
    classes = {"amount": FieldClass("tracked", moment, 0.5), "stage": FieldClass("untracked", None, 0.0)}
    return CrmTables({"deals": frame, "stages": stages}, Calendar("EUR"), moment, "", classes, moment)


def write(workspace: Path, whole: CrmTables, changed: set[str]) -> str:
    return write_version(workspace, whole, changed=changed, stages_derived=False, currency_given=True)


def export_folder(folder: Path, amount: int) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "deals.csv").write_text(f"deal_id,created_at,stage,amount\nA,2026-01-01,Open,{amount}\n")
    (folder / "stages.csv").write_text(f"stage,sort_order,is_closed,is_won\nOpen,{amount},false,false\n")
    return folder


def test_a_version_is_read_back_as_it_was_written(tmp_path: Path):
    whole = tables(
        deal_id=["00600000012", "B"],
        created_at=[pd.Timestamp("2026-01-01T01:02:03.000004Z"), pd.NaT],
        amount=[0.1, float("nan")],
        close_date=[pd.NaT, pd.Timestamp("2026-02-03")],
        is_closed=[True, pd.NA],
        name=['Größe, "x"\nand more', None],
    )
    whole = replace(whole, calendar=Calendar("EUR", time_zone="Asia/Tokyo", stable_fields=("amount",)))
    version = write(tmp_path, whole, set())
    assert version == current_version(tmp_path) == "000001"
    read = read_tables(tmp_path)
    pd.testing.assert_frame_equal(read.tables["deals"], whole.tables["deals"])
    assert [str(dtype) for dtype in read.tables["stages"].dtypes] == [
        DTYPES[kind] for kind in ("text", "number", "boolean", "boolean", "share", "text")
    ]
    assert replace(read, tables={}, data_version="") == replace(whole, tables={})


def test_columns_may_have_any_name(tmp_path: Path):
    whole = tables(deal_id=["A"])
    odd = whole.tables["deals"].assign(**{"Next step (old), =;": pd.Series(["call"], dtype="str")})
    write(tmp_path, whole.with_tables(deals=odd), set())
    pd.testing.assert_frame_equal(read_tables(tmp_path).tables["deals"], odd)


def test_columns_whose_names_differ_by_case_alone_stay_apart(tmp_path: Path):
    whole = tables(deal_id=["A"], source=["web"])
    custom = {"Source": ["fair"], "SOURCE": ["call"], "source~2": ["x"], "Source~2": ["y"]}
    odd = whole.tables["deals"].assign(**{name: pd.Series(given, dtype="str") for name, given in custom.items()})
    write(tmp_path, whole.with_tables(deals=odd), set())
    pd.testing.assert_frame_equal(read_tables(tmp_path).tables["deals"], odd)


def test_earlier_versions_can_still_be_read(tmp_path: Path):
    first = write(tmp_path, tables(deal_id=["A"], amount=[1.0]), {"deals"})
    second = write(tmp_path, tables(deal_id=["A", "B"], amount=[2.0, 3.0]), {"deals"})
    assert (first, second) == ("000001", "000002")
    assert read_tables(tmp_path, first).tables["deals"]["amount"].tolist() == [1.0]
    assert read_tables(tmp_path).tables["deals"]["amount"].tolist() == [2.0, 3.0]


def test_delta_is_told_to_keep_every_version(tmp_path: Path):
    for _ in range(2):
        write(tmp_path, tables(deal_id=["A"]), {"deals"})
    log = tmp_path / "data" / "deals" / "_delta_log"
    settings = [
        line for path in sorted(log.glob("*.json")) for line in path.read_text().splitlines() if "metaData" in line
    ]
    assert settings and all('"delta.enableExpiredLogCleanup":"false"' in line for line in settings)


def test_a_table_that_did_not_change_is_not_written_again(tmp_path: Path):
    write(tmp_path, tables(deal_id=["A"], amount=[1.0]), {"deals", "stages"})
    write(tmp_path, tables(deal_id=["A"], amount=[2.0]), {"deals"})
    assert read_manifest(tmp_path).tables == {"deals": 1, "stages": 0}


def test_an_empty_workspace_says_what_to_do(tmp_path: Path):
    assert current_version(tmp_path) is None
    with pytest.raises(DataUnusable) as refused:
        read_tables(tmp_path)
    assert "dealcast import" in refused.value.details[0].next_step


def test_a_version_that_never_was_is_named(tmp_path: Path):
    write(tmp_path, tables(deal_id=["A"]), set())
    with pytest.raises(DataUnusable, match="000009"):
        read_tables(tmp_path, "000009")


@pytest.mark.parametrize("step", ["table", "manifest", "current"])
def test_an_import_killed_half_way_leaves_the_version_before_standing(tmp_path: Path, step: str):
    workspace = tmp_path / "workspace"
    import_folder(workspace, export_folder(tmp_path / "old", 1), full=False, now=NOW)
    newer = export_folder(tmp_path / "new", 2)
    killed = subprocess.run([sys.executable, "-c", KILLED_IMPORT, workspace, newer, step], cwd=PROJECT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert current_version(workspace) == "000001"
    assert read_tables(workspace).tables["deals"]["amount"].tolist() == [1.0]
    assert read_tables(workspace).tables["stages"]["sort_order"].tolist() == [1.0]

    report = import_folder(workspace, newer, full=False, now=NOW + pd.Timedelta(days=2))
    assert (report.changed, report.data_version) == (True, "000002")
    assert read_tables(workspace).tables["deals"]["amount"].tolist() == [2.0]
    assert read_tables(workspace).tables["stages"]["sort_order"].tolist() == [2.0]


def test_one_import_waits_for_another(tmp_path: Path):
    with import_lock(tmp_path), (tmp_path / "data" / ".lock").open("w") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (tmp_path / "data" / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_manifest_is_plain_json(tmp_path: Path):
    version = write(tmp_path, tables(deal_id=["A"]), set())
    manifest = json.loads((tmp_path / "data" / "versions" / f"{version}.json").read_text())
    assert manifest["tables"] == {"deals": 0, "stages": 0}
    assert manifest["as_of"] == "2026-03-01T00:00:00+00:00"
    assert manifest["field_classes"]["amount"]["class"] == "tracked"


def test_a_log_is_read_in_the_order_of_its_file(tmp_path: Path):
    log = empty_frame("deal_history").reindex(range(40)).assign(deal_id="A", _sequence=np.arange(40.0))
    log["deal_id"] = log["deal_id"].astype("str")
    # Frames put together from parts are stored in parts, which Delta may put down in any order.
    parts = pd.concat([log.iloc[start : start + 4] for start in range(0, 40, 4)], ignore_index=True)
    write(tmp_path, tables(deal_id=["A"]).with_tables(deal_history=parts), set())
    assert read_tables(tmp_path).tables["deal_history"]["_sequence"].tolist() == list(range(40))
    shuffled = log.sample(frac=1.0, random_state=1)
    write(tmp_path, tables(deal_id=["A"]).with_tables(deal_history=shuffled), {"deal_history"})
    assert read_tables(tmp_path).tables["deal_history"]["_sequence"].tolist() == list(range(40))


def some_activities(count: int, deals: int) -> pd.DataFrame:
    """Activities of deals D000000 and on, sorted; the last row belongs to no deal."""
    rows = empty_frame("activities").reindex(range(count))
    ids = [f"D{number * deals // count:06d}" for number in range(count - 1)]
    rows["deal_id"] = pd.Series([*ids, None], dtype="str")
    rows["activity_id"] = pd.Series([f"T{number}" for number in range(count)], dtype="str")
    return rows


def test_ranges_of_deals_hold_every_row_once_and_nothing_else(tmp_path: Path):
    whole = tables(deal_id=[f"D{number:06d}" for number in range(10)]).with_tables(activities=some_activities(31, 12))
    write(tmp_path, whole, set())
    ranges = deal_ranges(tmp_path, deals_each=4)
    assert ranges == [DealRange(None, "D000004"), DealRange("D000004", "D000008"), DealRange("D000008", None)]
    parts = [read_tables(tmp_path, within=each) for each in ranges]
    for name in ("deals", "activities"):
        together = pd.concat([part.tables[name] for part in parts], ignore_index=True)
        pd.testing.assert_frame_equal(together, whole.tables[name])
    assert [len(part.tables["deals"]) for part in parts] == [4, 4, 2]
    for part in parts:
        pd.testing.assert_frame_equal(part.tables["stages"], whole.tables["stages"])
        assert replace(part, tables={}, data_version="") == replace(whole, tables={})


def test_a_large_table_is_stored_in_groups_that_a_range_of_deals_can_skip(tmp_path: Path):
    count = 3 * ROWS_PER_GROUP
    write(tmp_path, tables(deal_id=["D000000"]).with_tables(activities=some_activities(count, 3000)), set())
    (path,) = (tmp_path / "data" / "activities").glob("*.parquet")
    groups = pq.ParquetFile(path).metadata
    place = groups.schema.names.index("deal_id")
    first = [groups.row_group(number).column(place).statistics.min for number in range(groups.num_row_groups)]
    assert first == ["D000000", "D001000", "D002000"]


def test_a_version_written_in_parts_is_the_version_written_whole(tmp_path: Path):
    whole = tables(deal_id=[f"D{number:06d}" for number in range(12)], amount=[float(number) for number in range(12)])
    log = empty_frame("deal_history").reindex(range(36)).assign(_sequence=np.arange(36.0))
    log["deal_id"] = pd.Series([f"D{number // 3:06d}" for number in range(36)], dtype="str")
    whole = whole.with_tables(deal_history=log)
    described = replace(whole, tables={"stages": whole.tables["stages"]})
    for start in (0, 4):  # the second version must not hold rows of the first
        parts = [
            {"deals": whole.tables["deals"][at : at + 4], "deal_history": log[3 * at : 3 * at + 12]}
            for at in range(start, 12, 4)
        ]
        version = write_version_in_parts(tmp_path, described, parts, stages_derived=False, currency_given=True)
        read = read_tables(tmp_path)
        assert read.data_version == version == current_version(tmp_path)
        for name, first in (("deals", start), ("deal_history", 3 * start)):
            pd.testing.assert_frame_equal(read.tables[name], whole.tables[name][first:].reset_index(drop=True))
