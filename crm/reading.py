"""From a file of a CRM export to rows of text, with what could not be read as a row; `crm.typed_rows` goes on."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from crm.contract import TABLES, TableSpec
from crm.errors import DataUnusable, Detail
from crm.values import Kind

HIDDEN_COLUMNS = ("_first_seen_at", "_sequence")
# Bodies of emails come in columns of their own; the default limit is 128 KB.
csv.field_size_limit(1 << 27)


@dataclass(frozen=True)
class Origin:
    """Where the rows of a mapped table stood before, so that what is refused is shown as it was exported.

    Attributes
    ----------
    files : the file of each row.
    text : the rows as they stood, with the columns of all the files.
    part : which of `columns` holds for each row.
    columns : by column of the table the columns it was made from, most telling first.
    broken_files : the file of each line that is no row.
    """

    files: np.ndarray
    text: pd.DataFrame
    part: np.ndarray
    columns: tuple[Mapping[str, tuple[str, ...]], ...]
    broken_files: tuple[str, ...]

    def cell(self, place: int, column: str) -> tuple[str, str]:
        """The column and value that a row's value was made from: of several the first that is not empty."""
        names = [name for name in self.columns[self.part[place]].get(column, ()) if name in self.text]
        filled = [name for name in names if not pd.isna(self.text.at[place, name])]
        if not filled:
            return (names[0] if names else column), ""
        return filled[0], str(self.text.at[place, filled[0]])


@dataclass(frozen=True)
class RawTable:
    """A file as text: one `str` column per column of the file, the row each line came from, and lines that are no rows.

    Attributes
    ----------
    text : index 0..n-1; empty = NaN.
    rows : line in the CSV file (the header is line 1), or row of the Parquet file counted from 1.
    broken : (row, fields, rule) of lines that do not have the header's number of values.
    origin : of a mapped table, where its rows stood.
    refused : (column, rule or NaN of each row) that a mapping refused already.
    """

    spec: TableSpec
    file: str
    text: pd.DataFrame
    rows: np.ndarray
    broken: tuple[tuple[int, list[str], str], ...] = ()
    origin: Origin | None = None
    refused: tuple[tuple[str, pd.Series], ...] = ()

    @property
    def as_it_stood(self) -> pd.DataFrame:
        """The rows as they were exported; of a mapped table with their file."""
        return self.text if self.origin is None else self.origin.text


def find_file(folder: Path, table: str) -> Path | None:
    """The CSV or Parquet file of a table, None if there is none.

    Raises
    ------
    DataUnusable
        If there are both.
    """
    found = [path for suffix in (".csv", ".parquet") if (path := folder / f"{table}{suffix}").exists()]
    if len(found) > 1:
        detail = Detail(f"{table}.csv, {table}.parquet", None, "one file a table", "Remove one of the two files.")
        raise DataUnusable(f"There are two files for the table {table}.", detail)
    return found[0] if found else None


def read_file(path: Path, table: str) -> RawTable:
    """Read a file as text.

    Raises
    ------
    DataUnusable
        If it is unreadable, has two columns of one name, or lacks a required column.
    """
    raw = read_as_text(path, TABLES[table])
    _check_columns(raw)
    return raw


def read_as_text(path: Path, spec: TableSpec, *, delimiter: str = ",", encoding: str = "utf-8") -> RawTable:
    """Read a file as text, whatever its columns; `spec` tells which columns of a Parquet file are identifiers.

    Raises
    ------
    DataUnusable
        If it is unreadable.
    """
    try:
        if path.suffix.lower() == ".parquet":
            return _read_parquet(path, spec)
        return _read_csv(path, spec, delimiter=delimiter, encoding=encoding)
    except (OSError, UnicodeDecodeError, LookupError, csv.Error, pa.ArrowException) as error:
        detail = Detail(
            path.name, None, f"the file could not be read: {error}", "Export it again as UTF-8 CSV or Parquet."
        )
        raise DataUnusable(f"{path.name} cannot be read.", detail) from error


def rows_as_text(table: str, rows: Sequence[Mapping[str, object]]) -> RawTable:
    """Rows of a JSON document as a file would hold them, numbered from 1, so that they are read by the same rules.

    Raises
    ------
    DataUnusable
        If no row has a required column.
    """
    text = pd.DataFrame([{name: _json_text(value) for name, value in row.items()} for row in rows], dtype="str")
    raw = RawTable(TABLES[table], table, text.mask(text == ""), np.arange(1, len(text) + 1))
    _check_columns(raw)
    return raw


def _json_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)


def _check_columns(raw: RawTable) -> None:
    names = list(raw.text.columns)
    details = [
        Detail(f"{raw.file}, column {name}", None, "each column has a name of its own", "Rename one of the columns.")
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    details += [
        Detail(f"{raw.file}, column {name}", None, "the name is used by dealcast itself", "Rename the column.")
        for name in names
        if name in HIDDEN_COLUMNS
    ]
    alike = {name.lower().replace(" ", "_"): name for name in names}
    for name in raw.spec.required:
        if name not in names:
            hint = (
                f"Rename {alike[name]} to {name}." if name in alike else "Add it to the export, or rename the column."
            )
            if len(names) == 1 and ";" in names[0]:
                hint = "The columns are separated by semicolons; separate them by commas."
            details.append(Detail(f"{raw.file}, column {name}", None, f"{name} is a required column", hint))
    if details:
        raise DataUnusable(f"The table {raw.spec.name} cannot be used.", *details)


def _read_csv(path: Path, spec: TableSpec, *, delimiter: str, encoding: str) -> RawTable:
    content = path.read_bytes()
    if encoding.lower() != "utf-8":
        content = content.decode(encoding).encode()
    content = content.removeprefix(b"\xef\xbb\xbf")
    begin = csv.reader((line.decode() for line in io.BytesIO(content)), delimiter=delimiter)
    header = next(begin, None)
    if not header:
        raise OSError("it is empty")
    names = _column_names(header)
    if begin.line_num > 1:  # a column's name has a line break
        return _read_csv_by_line(content, names, path, spec, delimiter=delimiter)
    lines = content.count(b"\n") + (not content.endswith(b"\n"))
    try:
        text = pa.csv.read_csv(
            pa.BufferReader(content),
            read_options=pa.csv.ReadOptions(column_names=[str(place) for place in range(len(names))], skip_rows=1),
            parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types={str(place): pa.string() for place in range(len(names))},
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid:
        return _read_csv_by_line(content, names, path, spec, delimiter=delimiter)
    # Only if every record stands on a line of its own does its number follow from its place.
    if lines != text.num_rows + 1:
        return _read_csv_by_line(content, names, path, spec, delimiter=delimiter)
    frame = text.to_pandas()
    frame.columns = pd.Index(names)
    return RawTable(spec, path.name, frame.astype("str"), np.arange(2, len(frame) + 2))


def _read_csv_by_line(content: bytes, names: list[str], path: Path, spec: TableSpec, *, delimiter: str) -> RawTable:
    """The slower reading for files with values over several lines, blank lines, or lines that are no rows."""
    records = csv.reader(io.StringIO(content.decode(), newline=""), delimiter=delimiter, strict=True)
    good: list[list[str]] = []
    rows: list[int] = []
    broken: list[tuple[int, list[str], str]] = []
    begins = 1
    try:
        next(records)
        begins = records.line_num + 1
        for record in records:
            if len(record) == len(names):
                good.append(record)
                rows.append(begins)
            elif record:
                broken.append((begins, record, f"the row has {len(record)} values, the header {len(names)}"))
            begins = records.line_num + 1
    except csv.Error as error:
        # An open quote swallows the rest of the file: better no table than half of one.
        raise csv.Error(f"row {begins}: {error}") from error
    frame = pd.DataFrame(good, columns=pd.Index(names), dtype="str")
    return RawTable(spec, path.name, frame.mask(frame == ""), np.array(rows, dtype="int64"), tuple(broken))


def _column_names(header: Iterable[str]) -> list[str]:
    return [name.strip() or f"column_{place}" for place, name in enumerate(header, start=1)]


def _read_parquet(path: Path, spec: TableSpec) -> RawTable:
    table = pa.parquet.read_table(path)
    names = _column_names(table.column_names)
    columns = {
        str(place): _as_text(column.combine_chunks(), spec.columns[name].kind if name in spec.columns else None)
        for place, (name, column) in enumerate(zip(names, table.columns, strict=True))
    }
    frame = pa.table(columns).to_pandas().astype("str")
    frame.columns = pd.Index(names)
    return RawTable(spec, path.name, frame.mask(frame == ""), np.arange(1, len(frame) + 1))


def _as_text(column: pa.Array, kind: Kind | None) -> pa.Array:
    """A Parquet column as a CSV file would hold it; identifiers never become numbers."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())
    if pa.types.is_timestamp(column.type):
        days = pc.floor_temporal(column, unit="day")
        if kind == "date" and column.type.tz is None and pc.all(pc.equal(days, column)).as_py() is not False:
            return column.cast(pa.date32()).cast(pa.string())
        zone = None if column.type.tz is None else "UTC"
        return column.cast(pa.timestamp("us", zone), safe=False).cast(pa.string())
    if pa.types.is_floating(column.type) and kind in ("id", "text"):
        whole = pc.fill_null(pc.equal(pc.floor(column), column), False)
        if pc.all(pc.or_(whole, pc.is_null(column, nan_is_null=True))).as_py() is not False:
            # An integer column with gaps, as pandas writes it: 12.0 is the identifier 12.
            column = pc.if_else(pc.is_null(column, nan_is_null=True), None, column).cast(pa.int64())
    return column.cast(pa.string())
