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
        self._replace = "; ".join(f"DELETE FROM {name}; INSERT INTO {name} FROM new_{name}" for name in self._changing)

    def run(self, changing: Mapping[str, pa.Table]) -> pa.Table:
        """The result for these rows; one call at a time, others wait."""
        with self._lock:
            self._connection.execute("BEGIN")
            try:
                for name in self._changing:
                    self._connection.register(f"new_{name}", changing[name])
                self._connection.execute(self._replace)
                return self._connection.sql("EXECUTE kept").to_arrow_table()
            finally:
                self._connection.execute("ROLLBACK")
                for name in self._changing:
                    self._connection.unregister(f"new_{name}")

    def close(self) -> None:
        """Give the memory back."""
        self._connection.close()
