"""What the command line hands over: JSON documents, error documents, and tables as files."""

import json
import math
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from crm.errors import Detail, UsageError
from crm.plain import to_plain
from crm.spreadsheet import safe_text
from ledger.errors import Trouble

SUFFIXES = (".parquet", ".csv")


def render_document(document: Any) -> str:
    """One JSON document as text, ending in a newline; NaN cannot occur."""
    return json.dumps(to_plain(document), ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def error_document(code: str, message: str, details: tuple[Detail | Trouble, ...] = ()) -> dict[str, Any]:
    """The document of a failure, the same as the API's."""
    return {"error": {"code": code, "message": message, "details": [detail.to_dict() for detail in details]}}


def check_out(path: Path | None) -> None:
    """Before the work begins: can the result be written there?

    Raises
    ------
    UsageError : an unknown extension, no such folder, or no permission.
    """
    if path is None:
        return
    if path.suffix.lower() not in SUFFIXES:
        raise _cannot_write(path, "the file ends in .parquet or .csv", "rename it")
    if not path.parent.is_dir():
        raise _cannot_write(path, "its folder exists", f"mkdir -p {path.parent}")
    if path.is_dir() or not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise _cannot_write(path, "the file may be written by you", "choose another place")


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as Parquet or CSV, whole or not at all.

    Ids are text, lists become JSON text, dates are dates, instants UTC (`...Z` in CSV). In CSV, text that a spreadsheet
    would run as a formula has an apostrophe in front (`crm.spreadsheet`).
    """
    check_out(path)
    written = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if path.suffix.lower() == ".csv":
            # Lines end as spreadsheets have it: only then is a text with a carriage return quoted, not cut into rows.
            frame.apply(_as_csv).to_csv(written, index=False, lineterminator="\r\n")
        else:
            pa.parquet.write_table(_as_arrow(frame), written)
        os.replace(written, path)
    except OSError as failure:
        raise _cannot_write(
            path, f"writing works ({failure.strerror})", "free the disk or choose another place"
        ) from None
    finally:
        written.unlink(missing_ok=True)


def _as_csv(column: pd.Series) -> pd.Series:
    if column.dtype.kind == "M":
        return _days_or_instants(column)
    text = column.map(_as_text).astype("str") if column.dtype == object else column
    return text.map(safe_text, na_action="ignore") if pd.api.types.is_string_dtype(text) else text


def _days_or_instants(column: pd.Series) -> pd.Series:
    """As `to_plain` writes them, a whole column at once."""
    is_day = column.dt.tz is None
    stamps = column.dt.tz_localize(None).to_numpy() if is_day else column.dt.tz_convert(None).to_numpy()
    whole_seconds = (column.dropna().dt.microsecond == 0).all()
    unit: Literal["D", "s", "us"] = "D" if is_day else "s" if whole_seconds else "us"
    written = pd.Series(np.datetime_as_string(stamps, unit=unit), index=column.index, dtype="str")
    return (written if is_day else written + "Z").mask(column.isna())


def _as_arrow(frame: pd.DataFrame) -> pa.Table:
    lists = {name: frame[name].map(_as_text).astype("str") for name in frame if frame[name].dtype == object}
    table = pa.Table.from_pandas(frame.assign(**lists), preserve_index=False).replace_schema_metadata(None)
    return table.cast(pa.schema([field.with_type(_stored_type(field.type)) for field in table.schema]))


def _stored_type(found: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(found) and found.tz is None:
        return pa.date32()
    return pa.string() if pa.types.is_large_string(found) else found


def _as_text(value: Any) -> str | float:
    plain = to_plain(value)
    if plain is None:
        return math.nan
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _cannot_write(path: Path, rule: str, next_step: str) -> UsageError:
    return UsageError(f"{path} cannot be written.", Detail("--out", str(path), rule, next_step))
