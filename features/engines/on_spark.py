"""Features by Spark, on threads of this machine or on a cluster; pyspark and sqlglot come with the extra `spark`."""

import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from crm.errors import OtherSideFailed, UsageError
from features.engines.relations import Engine, Relation, check_files, first_line

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from sqlglot.expressions import Expression

_QUIET = """
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = Spark: %m%n
"""
"""What the driver writes: errors alone."""


def run_on_spark(statement: str, relations: Mapping[str, Relation], **session: Any) -> pa.Table:
    """The result of a statement over named relations, by a Spark session of its own; see `spark_engine`."""
    with spark_engine(**session) as run:
        return run(statement, relations)


@contextmanager
def spark_engine(
    *,
    master: str = "local[2]",
    memory_limit: int = 1024,
    host: str = "127.0.0.1",
    temporary_folder: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Engine]:
    """An engine that runs statements on one Spark session, which ends, with its Java process, where the block ends.

    Parameters
    ----------
    master : `local[N]` for N threads of this machine, or a cluster such as `spark://HOST:PORT`; its workers must see
        Parquet relations under the same paths.
    memory_limit : MiB of heap of the driver and of each executor; Spark spills beyond it.
    host : the address the driver listens on; a cluster on other machines needs one they can reach.
    temporary_folder : where the folder for spilled rows is made; default the system's place for such.
    settings : further Spark settings, such as spark.executor.cores.

    Raises
    ------
    UsageError : Spark or Java is not installed, or a session of someone else runs in this process.
    OtherSideFailed : Spark does not start or cannot run a statement.
    """
    with tempfile.TemporaryDirectory(prefix="dealcast-spark-", dir=temporary_folder, ignore_cleanup_errors=True) as at:
        session = _start_spark(_spark_settings(master, memory_limit, host, Path(at)) | dict(settings or {}))
        try:
            yield lambda statement, relations: _run(session, statement, relations)
        finally:
            _stop_spark(session)


def _spark_settings(master: str, memory_limit: int, host: str, folder: Path) -> dict[str, str]:
    (folder / "log4j2.properties").write_text(_QUIET, encoding="utf-8")
    java = f"-Dlog4j2.configurationFile={folder.as_uri()}/log4j2.properties -Djava.io.tmpdir={folder}"
    return {
        "spark.master": master,
        "spark.app.name": "dealcast features",
        "spark.driver.memory": f"{memory_limit}m",
        "spark.executor.memory": f"{memory_limit}m",
        "spark.driver.maxResultSize": "0",
        "spark.driver.host": host,
        "spark.driver.bindAddress": host,
        "spark.driver.extraJavaOptions": f"{java} -Djava.net.preferIPv4Stack=true",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.local.dir": str(folder),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.sql.catalogImplementation": "in-memory",
        # What DuckDB does: an impossible cast or sum too large is an error, never silently unknown.
        "spark.sql.ansi.enabled": "true",
        "spark.sql.session.timeZone": "UTC",
    }


def _start_spark(settings: Mapping[str, str]) -> "SparkSession":
    try:
        import sqlglot  # noqa: F401  # translates the statements
        from pyspark import SparkContext
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise UsageError(f"Spark is not installed ({error.name}): pip install 'dealcast[spark]'") from error
    if SparkContext._active_spark_context is not None:
        raise UsageError("a Spark session already runs in this process; its settings would win over these")
    builder = SparkSession.builder
    for name, value in settings.items():
        builder = builder.config(name, value)
    try:
        with warnings.catch_warnings():
            # Spark is handed Arrow and hands back Arrow; what it thinks of this pandas does not matter.
            warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
            return builder.getOrCreate()
    except PySparkException as error:
        if error.getCondition() != "JAVA_GATEWAY_EXITED":
            raise _spark_failed(error) from error
        raise UsageError("Spark did not start: it needs Java 17 (Debian: openjdk-17-jre-headless)") from error
    except Exception as error:
        _end_java()
        raise _spark_failed(error) from error


def _stop_spark(session: "SparkSession") -> None:
    with suppress(Exception):
        session.stop()
    _end_java()


def _end_java() -> None:
    """End the Java process, which pyspark keeps, with the memory it was given, for as long as Python lives."""
    from pyspark import SparkContext

    gateway = SparkContext._gateway
    if gateway is None:
        return
    SparkContext._gateway = SparkContext._jvm = None
    with suppress(Exception):
        gateway.shutdown()
    process = getattr(gateway, "proc", None)
    if process is not None:
        process.stdin.close()
        process.wait(timeout=60)


def _run(session: "SparkSession", statement: str, relations: Mapping[str, Relation]) -> pa.Table:
    from pyspark.errors import AnalysisException

    translated = in_spark_sql(statement)
    try:
        own = session.newSession()
        for name, relation in relations.items():
            _frame(own, name, relation).createOrReplaceTempView(f"`{name}`")
        return _plain(own.sql(translated).toArrow())
    except (AnalysisException, ValueError, TypeError):
        raise  # the statement is at fault, or what it was given
    except Exception as error:
        raise _spark_failed(error) from error


def _frame(session: "SparkSession", name: str, relation: Relation) -> "DataFrame":
    if isinstance(relation, pa.Table):
        return session.createDataFrame(relation)
    check_files(name, relation)
    # A path as Hadoop writes it: nothing is percent-encoded, and what would be a pattern is not one.
    paths = ["file:" + re.sub(r"([{}\[\]*?\\])", r"\\\1", str(Path(file).resolve())) for file in relation]
    return session.read.option("mergeSchema", "true").parquet(*paths)


def _plain(table: pa.Table) -> pa.Table:
    """The table with every column nullable and no metadata, as DuckDB gives it."""
    return table.cast(pa.schema([pa.field(field.name, field.type) for field in table.schema]))


def _spark_failed(error: Exception) -> OtherSideFailed:
    return OtherSideFailed(f"Spark could not compute the features: {first_line(error)}")


def in_spark_sql(statement: str) -> str:
    """A statement of DuckDB's in Spark's words, with the same result.

    Beyond what sqlglot does by itself: Spark knows no FILTER in a window, so the condition moves into the aggregate's
    argument; and its MAX_BY and MIN_BY do not pass over rows whose value is unknown, as DuckDB's do.
    """
    import sqlglot
    from sqlglot import exp

    (tree,) = sqlglot.parse(statement, read="duckdb")
    if tree is None:
        raise ValueError("an empty statement")
    for windowed in [found for found in tree.find_all(exp.Filter) if isinstance(found.parent, exp.Window)]:
        windowed.replace(_only_rows(windowed.this, windowed.expression.this))
    for picked in tree.find_all(exp.ArgMax, exp.ArgMin):
        known = exp.Not(this=exp.Is(this=picked.this.copy(), expression=exp.Null()))
        picked.set("expression", _where(known, picked.expression))
    return tree.sql("spark")


def _only_rows(aggregate: "Expression", condition: "Expression") -> "Expression":
    """The aggregate over the rows for which the condition holds, without FILTER: the others' arguments are unknown."""
    from sqlglot import exp

    counts_rows = isinstance(aggregate, exp.Count) and isinstance(aggregate.this, exp.Star)
    argument = exp.Literal.number(1) if counts_rows else aggregate.this
    aggregate.set("this", _where(condition, argument))
    return aggregate


def _where(condition: "Expression", value: "Expression") -> "Expression":
    from sqlglot import exp

    return exp.Case(ifs=[exp.If(this=condition.copy(), true=value.copy())])
