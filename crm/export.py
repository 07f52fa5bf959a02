"""Tables written as a folder that an import reads back."""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv

from crm.contract import TABLES
from crm.reading import HIDDEN_COLUMNS
from crm.tables import CrmTables
from crm.typed_rows import kind_of
from crm.values import format_values


def write_export(tables: CrmTables, folder: Path) -> None:
    """Write a CSV file a table and `calendar.json`; columns without a single value are left out.

    Importing the folder into an empty workspace gives the same tables, calendar and data's moment.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in tables.tables.items():
        text = _as_text(name, frame.sort_values("_sequence", kind="stable") if "_sequence" in frame else frame)
        arrow = pa.Table.from_pandas(text, preserve_index=False).replace_schema_metadata(None)
        pa.csv.write_csv(arrow, folder / f"{name}.csv")
    calendar = tables.calendar.to_dict() | {"as_of": tables.as_of.isoformat()}
    del calendar["listed_periods"]
    (folder / "calendar.json").write_text(json.dumps(calendar, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _as_text(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    spec = TABLES[name]
    kinds = {column: declared.kind for column, declared in spec.columns.items()}
    columns = [
        column
        for column in frame
        if column not in HIDDEN_COLUMNS and (column in spec.required or frame[column].notna().any())
    ]
    text = {
        column: format_values(frame[column], kinds.get(column) or kind_of(frame[column]) or "text")
        for column in columns
    }
    return pd.DataFrame(text, index=frame.index, dtype="str")
