"""DuckDB within a memory limit: what does not fit goes to a folder of its own, and nowhere else."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crm.errors import OtherSideFailed
from features.engines import run_on_duckdb

ROWS = 1_500_000
LIMIT = 64  # MiB; the statement below needs about twice as much
STATEMENT = """
SELECT moment, owner, SUM(step) OVER (PARTITION BY owner ORDER BY moment) AS so_far,
  COUNT(*) OVER (PARTITION BY step) AS alike
FROM happened ORDER BY moment"""


@pytest.fixture(scope="module")
def happened() -> dict[str, pa.Table]:
    """More rows than fit into the limit, out of order."""
    random = np.random.default_rng(1)
    columns = {
        "owner": random.integers(0, 300_000, ROWS),
        "step": random.integers(0, 1000, ROWS).astype(float),
        "moment": random.permutation(ROWS).astype(float),
    }
    return {"happened": pa.table(columns)}


def test_what_does_not_fit_into_memory_is_spilled_and_the_result_is_the_same(happened, tmp_path):
    with pytest.raises(OtherSideFailed):  # it does not fit
        run_on_duckdb(STATEMENT, happened, threads=1, memory_limit=LIMIT, spill_limit=0)
    spilled = run_on_duckdb(STATEMENT, happened, threads=1, memory_limit=LIMIT, temporary_folder=tmp_path)
    assert spilled.num_rows == ROWS
    assert spilled.equals(run_on_duckdb(STATEMENT, happened, threads=1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("spill_limit", [0, 5])
def test_without_room_the_error_says_what_to_do(happened, tmp_path, spill_limit):
    room = {"memory_limit": LIMIT, "spill_limit": spill_limit, "temporary_folder": tmp_path}
    with pytest.raises(OtherSideFailed, match="no room to compute the features") as failure:
        run_on_duckdb(STATEMENT, happened, threads=1, **room)
    (detail,) = failure.value.details
    assert detail.value == "memory limit 64 MiB"
    assert "more memory" in detail.next_step and "TMPDIR" in detail.next_step
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT COUNT(*) FROM read_csv('{file}')",
        "SELECT COUNT(*) FROM '{file}'",
        "COPY (SELECT 1 AS one) TO '{file}.out'",
        "ATTACH '{file}.db'",
        "SELECT * FROM read_csv('http://127.0.0.1:1/deals.csv')",
        "SET temp_directory = '{file}.folder'",
        "SET memory_limit = '1GB'",
        "INSTALL httpfs",
    ],
)
def test_a_statement_with_room_to_spill_reaches_no_other_file_and_no_setting(tmp_path, statement):
    file = tmp_path / "deals.csv"
    file.write_text("deal_id\nd1\n")
    with pytest.raises(Exception, match=r"disabled|locked"):
        run_on_duckdb(statement.format(file=file), {}, memory_limit=LIMIT, temporary_folder=tmp_path)
    assert list(tmp_path.iterdir()) == [file]


def test_a_relation_may_be_parquet_files_of_different_age(tmp_path):
    old, new = pa.table({"deal_id": ["d1"]}), pa.table({"deal_id": ["d2"], "amount": [5.0]})
    files = [tmp_path / "old.parquet", tmp_path / "new.parquet"]
    for file, rows in zip(files, (old, new), strict=True):
        pq.write_table(rows, file)
    found = run_on_duckdb("SELECT deal_id, amount FROM deals ORDER BY deal_id", {"deals": files})
    assert found.to_pylist() == [{"deal_id": "d1", "amount": None}, {"deal_id": "d2", "amount": 5.0}]


def test_a_relation_of_no_files_is_refused():
    with pytest.raises(ValueError, match="relation deals: no Parquet files"):
        run_on_duckdb("SELECT 1 AS one", {"deals": []})


def test_a_variable_of_the_program_is_no_relation(happened):
    secret = happened["happened"]
    with pytest.raises(Exception, match="secret does not exist"):
        run_on_duckdb("SELECT COUNT(*) FROM secret", {"happened": secret})
