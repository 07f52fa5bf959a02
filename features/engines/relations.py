"""What engines share: what they read and how they are called."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

Relation: TypeAlias = pa.Table | Sequence[Path]
"""Rows to read: an Arrow table, or Parquet files, at least one, whose columns are those of all of them together."""

Engine: TypeAlias = Callable[[str, Mapping[str, Relation]], pa.Table]
"""What runs a statement over named relations: `run_on_duckdb`, `run_on_spark`, or what `spark_engine` gives."""


def check_files(name: str, files: Sequence[Path]) -> None:
    """Refuse a relation of no files."""
    if not files:
        raise ValueError(f"relation {name}: no Parquet files, so no columns; give an empty Arrow table")


def first_line(error: Exception) -> str:
    """What an engine says, without the page of advice that follows."""
    return str(error).strip().split("\n", 1)[0]
