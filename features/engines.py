"""Where compiled features run: DuckDB, in memory, over Arrow tables, with no way out to files or the network."""

from collections.abc import Mapping

import duckdb
import pyarrow as pa

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


def run_on_duckdb(statement: str, relations: Mapping[str, pa.Table], *, threads: int | None = None) -> pa.Table:
    """The result of a statement over named Arrow tables."""
    config = _CONFIG if threads is None else {**_CONFIG, "threads": threads}
    with duckdb.connect(":memory:", config=config) as connection:
        for name, relation in relations.items():
            connection.register(name, relation)
        return connection.sql(statement).to_arrow_table()
