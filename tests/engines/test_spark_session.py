"""Spark as an engine: it says the same as DuckDB, keeps to itself while it runs, and leaves nothing behind."""

import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from spark_here import SMALL, children, listening_addresses, needs_java

from crm.errors import OtherSideFailed, UsageError
from features.engines import in_spark_sql, run_on_duckdb, run_on_spark, spark_engine

pytestmark = pytest.mark.slow

NAN = float("nan")
ROWS = {
    "rows": pa.table(
        {
            "deal": pa.array(["a", "a", "a", "b", "b", None], pa.large_string()),
            "seq": [1, 2, 3, 4, 5, 6],
            "moment": [10.0, 20.0, 20.0, 30.0, 86_430.0, 50.5],
            "kind": ["won", None, "lost", "won", "Won", "lost"],
            "amount": [0.0, 5.0, None, -3.0, 1e15, 7.25],
            "odd": pa.array([1.0, NAN, None, 2.0, NAN, 0.0], from_pandas=False),
            "nothing": pa.nulls(6),
        }
    )
}
STATEMENTS = {
    "quotients by zero are unknown": "SELECT seq, 1 / NULLIF(CAST(amount AS DOUBLE), 0) AS v FROM rows ORDER BY seq",
    "whole numbers divide with a fraction": "SELECT seq, seq / 2 AS v FROM rows ORDER BY seq",
    "logarithms are of positive values": (
        "SELECT seq, CASE WHEN amount > 0 THEN LN(amount) END AS v FROM rows ORDER BY seq"
    ),
    "unknown values sort last": "SELECT seq, amount FROM rows ORDER BY amount, seq",
    "the last known value, not the last row": (
        "SELECT deal, MAX_BY(amount, seq) AS m, MAX_BY(kind, seq) FILTER (WHERE seq < 3) AS k,"
        " MIN_BY(amount, seq) FILTER (WHERE kind = 'lost') AS n FROM rows GROUP BY deal ORDER BY deal"
    ),
    "grouped aggregates pass over the unknown": (
        "SELECT deal, COUNT(*) AS c, COUNT(amount) AS a, AVG(amount) AS v, MIN(amount) AS l, MAX(kind) AS k,"
        " COUNT(DISTINCT kind) AS d, COUNT(DISTINCT kind) FILTER (WHERE seq > 1) AS e,"
        " SUM(amount) FILTER (WHERE kind = 'nobody') AS s FROM rows GROUP BY deal ORDER BY deal"
    ),
    "windows end at the row's ties, both ends within": (
        "SELECT seq, COUNT(*) FILTER (WHERE kind <> 'lost') OVER near AS c, SUM(amount) OVER near AS s,"
        " AVG(amount) FILTER (WHERE seq > 1) OVER near AS v, MIN(amount) FILTER (WHERE seq > 1) OVER life AS l,"
        " MAX_BY(amount, seq) FILTER (WHERE kind = 'lost') OVER life AS m, MAX(seq) OVER life AS x"
        " FROM rows WINDOW near AS (PARTITION BY deal ORDER BY moment RANGE BETWEEN 10.0 PRECEDING AND CURRENT ROW),"
        " life AS (PARTITION BY deal ORDER BY moment RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) ORDER BY seq"
    ),
    "greatest and least pass over the unknown": (
        "SELECT seq, GREATEST(amount, 1.0) AS g, LEAST(amount, moment) AS l FROM rows ORDER BY seq"
    ),
    "a conversion is the same": (
        "SELECT seq, CAST(kind AS VARCHAR) AS k, CAST(seq AS DOUBLE) AS d, COALESCE(amount, 0.5) AS c FROM rows"
        " ORDER BY seq"
    ),
    "not a number is a value above all others": (
        "SELECT seq, odd, odd > 1e300 AS above, CASE WHEN odd = odd THEN 1 ELSE 0 END AS same, odd IS NULL AS n,"
        " MAX(odd) OVER () AS m, SUM(odd) OVER () AS s FROM rows ORDER BY odd, seq"
    ),
    "a column without a type is unknown": (
        "SELECT seq, CAST(MAX(nothing) OVER () AS DOUBLE) AS m, nothing IS NULL AS n FROM rows ORDER BY seq"
    ),
    "unknown keys match nothing": (
        "SELECT one.seq, other.seq AS its FROM rows AS one LEFT JOIN rows AS other ON other.deal = one.deal"
        " AND other.seq IN (SELECT seq FROM rows WHERE deal IS NOT NULL) ORDER BY one.seq, its"
    ),
}


def listed(table: pa.Table) -> list[tuple[object, ...]]:
    """Rows as tuples, numbers as numbers whatever their width, NaN as a word that equals itself."""
    return [
        tuple("NaN" if value != value else value for value in row)
        for row in zip(*(column.to_pylist() for column in table.columns), strict=True)
    ]


@pytest.fixture(scope="class")
def spark(tmp_path_factory):
    with spark_engine(**SMALL, temporary_folder=tmp_path_factory.mktemp("spark")) as run:
        yield run


@needs_java
class TestOnOneSession:
    @pytest.mark.parametrize("meaning", STATEMENTS)
    def test_a_statement_means_the_same_on_spark(self, spark, meaning):
        expected = run_on_duckdb(STATEMENTS[meaning], ROWS)
        found = spark(STATEMENTS[meaning], ROWS)
        assert found.column_names == expected.column_names
        assert listed(found) == listed(expected)

    def test_parquet_files_of_different_age_are_read_together(self, spark, tmp_path):
        old, new = pa.table({"deal_id": ["d1"]}), pa.table({"deal_id": ["d2"], "amount": [5.0]})
        files = [tmp_path / "old [1] file.parquet", tmp_path / "new%20{f,g}*?.parquet"]
        for file, rows in zip(files, (old, new), strict=True):
            pq.write_table(rows, file)
        statement = "SELECT deal_id, amount FROM deals ORDER BY deal_id"
        assert listed(spark(statement, {"deals": files})) == [("d1", None), ("d2", 5.0)]
        assert spark(statement, {"deals": files}).schema == run_on_duckdb(statement, {"deals": files}).schema

    def test_two_statements_at_once_do_not_see_each_others_relations(self, spark):
        found = {}

        def ask(number: int) -> None:
            found[number] = spark("SELECT v FROM rows", {"rows": pa.table({"v": [number]})})["v"].to_pylist()

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == {number: [number] for number in range(4)}

    def test_an_impossible_cast_is_an_error_as_on_duckdb(self, spark):
        for run in (run_on_duckdb, spark):
            with pytest.raises(Exception, match="(?i)(could not convert|cannot be cast)"):
                run("SELECT CAST(kind AS DOUBLE) AS v FROM rows", ROWS)

    def test_it_listens_on_loopback_alone(self, spark):
        spark("SELECT 1 AS one", {})
        assert listening_addresses(children()) <= {"0100007F", "0000000000000000FFFF00000100007F"}
        assert listening_addresses(children())

    def test_a_second_session_is_refused_rather_than_mixed_up(self, spark):
        with pytest.raises(UsageError, match="already runs"):
            run_on_spark("SELECT 1 AS one", {})


@needs_java
def test_it_leaves_no_process_and_no_file_behind(tmp_path, monkeypatch):
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(here)
    before = children()
    with spark_engine(**SMALL, temporary_folder=temporary) as run:
        (java,) = [process for process in children() - before if is_java(process)]
        assert "-Xmx640m" in Path(f"/proc/{java}/cmdline").read_text()
        assert listed(run("SELECT COUNT(*) AS c FROM rows", ROWS)) == [(6,)]
    assert not children() - before
    assert list(here.iterdir()) == list(temporary.iterdir()) == []


def is_java(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/exe").readlink().name == "java"
    except OSError:
        return False  # one of those that Spark's start scripts use for a moment


@needs_java
def test_a_failure_of_spark_is_explained():
    with spark_engine(**SMALL) as run:
        from pyspark import SparkContext

        SparkContext._active_spark_context.stop()
        with pytest.raises(OtherSideFailed, match="Spark could not compute the features: "):
            run("SELECT 1 AS one", ROWS)


def test_without_java_the_error_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(UsageError, match="openjdk-17-jre-headless"):
        run_on_spark("SELECT 1 AS one", {})


def test_a_window_has_no_filter_and_an_unknown_value_no_order():
    translated = in_spark_sql("SELECT SUM(v) FILTER (WHERE k = 'x') OVER life AS s, MAX_BY(v, seq) AS m FROM rows")
    assert translated == (
        "SELECT SUM(CASE WHEN k = 'x' THEN v END) OVER life AS s,"
        " MAX_BY(v, CASE WHEN NOT v IS NULL THEN seq END) AS m FROM rows"
    )
