"""Features by DuckDB, in this process, within a memory limit and with no way out to files or the network."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from crm.errors import Detail, OtherSideFailed
from features.engines.relations import Relation, check_files, first_line

CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}


def run_on_duckdb(
    statement: str,
    relations: Mapping[str, Relation],
    *,
    threads: int | None = None,
    memory_limit: int | None = None,
    spill_limit: int | None = None,
    temporary_folder: Path | None = None,
) -> pa.Table:
    """The result of a statement over named relations, computed by DuckDB in this process.

    What does not fit into memory goes to a folder made for this statement, the only place DuckDB can read or write.

    Parameters
    ----------
    threads : processors DuckDB may use; default all.
    memory_limit : MiB DuckDB may use, besides the relations and the result; default 80 % of the machine's.
    spill_limit : MiB it may put into the folder, 0 = none; default 90 % of the free space.
    temporary_folder : where the folder is made; default the system's place for such.

    Raises
    ------
    OtherSideFailed : neither the memory nor the folder has room for the statement.
    """
    with (
        tempfile.TemporaryDirectory(prefix="dealcast-duckdb-", dir=temporary_folder) as folder,
        _connect(folder, threads, memory_limit, spill_limit) as connection,
    ):
        for name, relation in relations.items():
            connection.register(name, relation if isinstance(relation, pa.Table) else _parquet(name, relation))
        try:
            return connection.sql(statement).to_arrow_table()
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise _no_room(error, memory_limit) from error


def _connect(
    folder: str, threads: int | None, memory_limit: int | None, spill_limit: int | None
) -> duckdb.DuckDBPyConnection:
    # Measured on DuckDB 2.0: external access off and then the folder, in this order, lets DuckDB use that folder and
    # nothing else; in the other order it refuses to connect. A limit of the folder's size given when connecting is
    # shown but not kept; set afterwards it is.
    config = {**CONFIG, "temp_directory": folder}
    if threads is not None:
        config["threads"] = threads
    if memory_limit is not None:
        config["memory_limit"] = f"{memory_limit}MiB"
    connection = duckdb.connect(":memory:", config=config)
    if spill_limit is not None:
        connection.execute(f"SET max_temp_directory_size = '{spill_limit}MiB'")
    connection.execute("SET lock_configuration = true")
    return connection


def _parquet(name: str, files: Sequence[Path]) -> pads.Dataset:
    """The rows of Parquet files, a column unknown where a file lacks it; read here, so DuckDB needs no files."""
    check_files(name, files)
    schema = pa.unify_schemas([pq.read_schema(file) for file in files], promote_options="permissive")
    return pads.dataset([str(file) for file in files], schema=schema, format="parquet")


def _no_room(error: Exception, memory_limit: int | None) -> OtherSideFailed:
    limit = "no limit set" if memory_limit is None else f"memory limit {memory_limit} MiB"
    return OtherSideFailed(
        f"DuckDB has no room to compute the features ({limit}): {first_line(error)}",
        Detail(
            where="features",
            value=limit,
            rule="rows, groups and windows fit into memory, or what does not into the temporary folder",
            next_step="Give more memory, or a temporary folder with more space (environment variable TMPDIR).",
        ),
    )
