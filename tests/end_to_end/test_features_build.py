"""`dealcast features build`: the training frame on disk, as a user would ask for it."""

import contextlib
import io
import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from crm.export import write_export
from crm.history import build_history, snapshot_spine
from crm.store import read_tables
from crm.synthetic import CompanyConfig, export, simulate
from dealcast.cli import answer
from features.build import build_features
from features.catalogue import feature_set_hash
from tests.engines.spark_here import needs_java
from training.splits import snapshot_moments

pytestmark = pytest.mark.slow

COMPANY = CompanyConfig(seed=5, days=300, n_reps=4, n_teams=2, n_regions=2, deals_per_week=4.0)
PAST = "2023-09-04"


def dealcast(workspace: Path, *arguments: object) -> tuple[int, dict]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = answer(["--workspace", str(workspace), "--json", *map(str, arguments)])
    return code, json.loads(printed.getvalue())


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("features-build")
    write_export(export(simulate(COMPANY)), place / "export")
    assert dealcast(place / "workspace", "import", place / "export")[0] == 0
    return place / "workspace"


def test_the_frame_is_what_training_would_build(workspace: Path, tmp_path: Path):
    code, document = dealcast(workspace, "features", "build", "--as-of", PAST, "--out", tmp_path / "frames")
    assert code == 0, document
    tables = read_tables(workspace)
    history, at = build_history(tables), tables.calendar.parse_moment(PAST)
    spine = snapshot_spine(history, snapshot_moments(history, tables.calendar, at))
    expected = build_features(tables, history, spine)
    files = [tmp_path / "frames" / name for name in document["files"]]
    written = pd.concat([pq.read_table(file).to_pandas() for file in files], ignore_index=True)
    assert list(written.columns) == list(expected.columns)
    pd.testing.assert_frame_equal(written, expected, rtol=1e-9, atol=1e-9)
    assert (document["as_of"], document["data_version"]) == (f"{PAST}T00:00:00Z", "000001")
    assert document["feature_set_hash"] == feature_set_hash()
    assert document["snapshots"] == len(spine) and document["moments"] == spine["as_of"].nunique()
    assert document["deals"] == spine["deal_id"].nunique()
    assert document["features"] == expected.shape[1] - 2
    assert document["out"] == str(tmp_path / "frames") and document["seconds"] > 0 < document["peak_memory_mb"]


def test_the_frame_goes_into_the_workspace_unless_told_otherwise(workspace: Path):
    code, document = dealcast(workspace, "features", "build", "--most", 60)
    assert code == 0, document
    assert document["snapshots"] <= 60
    assert Path(document["out"]).parent == workspace / "frames"
    assert Path(document["out"]).name.startswith(f"000001-{feature_set_hash()}-")


def test_a_folder_with_something_else_in_it_is_left_alone(workspace: Path, tmp_path: Path):
    (tmp_path / "letter.txt").write_text("dear")
    code, document = dealcast(workspace, "features", "build", "--out", tmp_path)
    assert (code, document["error"]["code"]) == (2, "invalid")
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_before_the_first_deal_there_is_nothing_to_build(workspace: Path):
    code, document = dealcast(workspace, "features", "build", "--as-of", "2020-01-01")
    assert code == 3, document


def test_snapshots_are_as_far_apart_as_asked_for(workspace: Path):
    code, document = dealcast(workspace, "features", "build", "--days", 28)
    assert code == 0, document
    weekly = dealcast(workspace, "features", "build")[1]
    assert document["moments"] == pytest.approx(weekly["moments"] / 4, abs=1)


@needs_java
@pytest.mark.soak
def test_spark_builds_the_same_frame(workspace: Path, tmp_path: Path):
    arguments = ("features", "build", "--as-of", PAST, "--days", 56, "--out")
    here, there = (
        dealcast(workspace, *arguments, tmp_path / name, *spark)[1]
        for name, spark in (("duckdb", ()), ("spark", ("--spark", "local[2]")))
    )
    assert there["snapshots"] == here["snapshots"] > 0
    frames = [
        pd.concat([pq.read_table(Path(each["out"]) / name).to_pandas() for name in each["files"]])
        for each in (here, there)
    ]
    pd.testing.assert_frame_equal(*frames, rtol=1e-9, atol=1e-9)
