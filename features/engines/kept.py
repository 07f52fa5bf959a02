"""One statement asked again and again, of a few changing rows: planned once, which is most of its cost."""

from collections.abc import Collection, Mapping
from threading import Lock

import duckdb
import pyarrow as pa

from features.engines.on_duckdb import CONFIG


class KeptStatement:
    """A statement with its plan and the relations that stay, in a DuckDB of its own, in memory, on one thread.

    Parameters
    ----------
    relations : what the statement names, as it stands now; of the `changing` ones the columns alone matter.
    changing : relations that every call brings anew, of a few rows each.
    """

    def __init__(self, statement: str, relations: Mapping[str, pa.Table], changing: Collection[str]) -> None:
        self._lock = Lock()
        self._changing = tuple(changing)
        self._connection = duckdb.connect(":memory:", config={**CONFIG, "threads": 1})
        for name, relation in relations.items():
            rows = relation.slice(0, 0) if name in self._changing else relation
            self._connection.register("given", rows)
            self._connection.execute(f"CREATE TABLE {name} AS FROM given")
            self._connection.unregister("given")
        # Over a few rows every plan is fast; what the optimizer thinks about it takes longer than to run it.
        self._connection.execute("PRAGMA disable_optimizer")
        self._connection.execute(f"PREPARE kept AS {statement}")
        self._insert = {name: self._insertion(name) for name in self._changing}

    def _insertion(self, name: str) -> str:
        """The statement that adds rows to a relation, given as a list a column."""
        columns = self._connection.execute(
            "SELECT data_type FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index", [name]
        ).fetchall()
        values = ", ".join(f"unnest(${place}::{kind}[])" for place, (kind,) in enumerate(columns, start=1))
        return f"INSERT INTO {name} SELECT {values}"

    def run(self, changing: Mapping[str, pa.Table]) -> pa.Table:
        """The result for these rows; one call at a time, others wait.

        Rows come as parameters: to register a table, or to ask inside the transaction that changed one, would have the
        statement planned anew.
        """
        with self._lock:
            self._connection.execute("BEGIN")
            try:
                for name in self._changing:
                    self._connection.execute(f"DELETE FROM {name}")
                    if len(changing[name]):
                        columns = [column.to_pylist() for column in changing[name].columns]
                        self._connection.execute(self._insert[name], columns)
            except duckdb.Error:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
            return self._connection.sql("EXECUTE kept").to_arrow_table()

    def close(self) -> None:
        """Give the memory back."""
        self._connection.close()
