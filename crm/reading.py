"""From a file of a CRM export to typed rows; what cannot be read goes to quarantine with the rule it breaks."""

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

from crm.calendar import DATE_PATTERN, Calendar
from crm.contract import TABLES, TableSpec
from crm.errors import DataUnusable, Detail
from crm.values import DTYPES, Kind, infer_kind, parse_values

HIDDEN_COLUMNS = ("_first_seen_at", "_sequence")
# Rows that tell of something after the data's moment are refused by these columns; activities may be planned ahead.
KNOWN_SINCE = {
    "deals": "created_at",
    "deal_history": "changed_at",
    "user_history": "changed_at",
    "forecast_calls": "submitted_at",
    "leads": "created_at",
}
MISSING = "required, but empty"
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


@dataclass(frozen=True)
class Delivered:
    """The good rows of a file, typed, and the refused ones.

    Attributes
    ----------
    frame : typed rows with the columns of the file, in file order.
    read, refused : rows in the file, and those of them that were refused.
    quarantine : row, column, value, rule, then the original row as it stood; one line per problem.
    """

    frame: pd.DataFrame
    read: int
    refused: int
    quarantine: list[list[str]]


# -- files into text -------------------------------------------------------------------------------------------------


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


# -- text into rows --------------------------------------------------------------------------------------------------


def type_rows(raw: RawTable, calendar: Calendar, as_of: pd.Timestamp, custom_kinds: dict[str, Kind]) -> Delivered:
    """Type a table's rows and set aside those that break a rule.

    Parameters
    ----------
    as_of : the data's moment; rows that tell of something later are refused.
    custom_kinds : what is already known of the table's custom fields. A field whose values no longer fit its kind
        becomes text, and the caller widens what it has stored.
    """
    typed: dict[str, pd.Series] = {}
    problems: list[tuple[str, pd.Series]] = list(raw.refused)
    told = {name: rules.notna() for name, rules in raw.refused}
    for name in raw.text.columns:
        column = raw.spec.columns.get(name)
        kind = column.kind if column else _custom_kind(raw.text[name], custom_kinds.get(name), calendar)
        parsed = parse_values(raw.text[name], kind, calendar)
        typed[name] = parsed.values
        problems.append((name, parsed.problems))
        if column and column.required:
            blank = _is_blank(raw.text[name], kind)
            problems.append((name, _rule_where(blank & ~told[name] if name in told else blank, MISSING)))
    frame = pd.DataFrame(typed, index=raw.text.index)
    if raw.spec.name == "deals" and "closed_at" in frame:
        frame = _book_on_the_day_given(frame, raw.text["closed_at"], calendar)
    problems += _row_problems(raw.spec, frame, as_of)
    refused = np.zeros(len(frame), dtype=bool)
    for _, rules in problems:
        refused |= rules.notna().to_numpy()
    problems.append(_repeated_keys(raw.spec, frame[~refused]))
    refused[problems[-1][1].index[problems[-1][1].notna()]] = True
    good = frame[~refused].reset_index(drop=True)
    return Delivered(
        good, len(frame) + len(raw.broken), int(refused.sum()) + len(raw.broken), _quarantine_lines(raw, problems)
    )


def kind_of(column: pd.Series) -> Kind | None:
    """The kind a stored custom field has; None for one without a single value."""
    if column.isna().all():
        return None
    kinds: dict[str, Kind] = {dtype: kind for kind, dtype in DTYPES.items() if kind in ("text", "instant", "date")}
    kinds |= {"float64": "number", "boolean": "boolean"}
    return kinds[str(column.dtype)]


def _custom_kind(text: pd.Series, stored: Kind | None, calendar: Calendar) -> Kind:
    if stored is None:
        return infer_kind(text, calendar) or "text"
    return stored if parse_values(text, stored, calendar).problems.isna().all() else "text"


def _rule_where(broken: pd.Series, rule: str) -> pd.Series:
    return pd.Series(rule, index=broken.index, dtype="str").where(broken)


def _is_blank(text: pd.Series, kind: Kind) -> pd.Series:
    return text.isna() if kind == "text" else text.isna() | (text.str.strip() == "")


def _book_on_the_day_given(frame: pd.DataFrame, closed_at: pd.Series, calendar: Calendar) -> pd.DataFrame:
    """A closing given as a day is booked on that day, whatever time zone the calendar has later."""
    day = closed_at.str.strip()
    given = parse_values(day.where(day.str.match(DATE_PATTERN).fillna(False).astype(bool)), "date", calendar).values
    if given.isna().all():
        return frame
    return frame.assign(booked_on=frame["booked_on"].fillna(given) if "booked_on" in frame else given)


def _row_problems(spec: TableSpec, frame: pd.DataFrame, as_of: pd.Timestamp) -> list[tuple[str, pd.Series]]:
    found = []
    if spec.name in KNOWN_SINCE:
        since = KNOWN_SINCE[spec.name]
        rule = f"later than the data's moment, {as_of:%Y-%m-%dT%H:%M:%SZ}"
        found.append((since, _rule_where(frame[since] > as_of, rule)))
    if spec.name == "exchange_rates":
        found.append(("rate_to_base", _rule_where(frame["rate_to_base"] <= 0, "a rate is above 0")))
    if spec.name == "periods":
        ends_early = frame["period_end"] <= frame["period_start"]
        found.append(("period_end", _rule_where(ends_early, "a period ends after it starts")))
    return found


def _repeated_keys(spec: TableSpec, frame: pd.DataFrame) -> tuple[str, pd.Series]:
    """The last row of a key stands; earlier ones that say something else are refused, mere copies are dropped later."""
    key = [name for name in spec.key if name in frame]
    if not key:
        return "", _rule_where(pd.Series(False, index=frame.index), "")
    earlier = frame.duplicated(key, keep="last") & ~frame.duplicated(keep="last")
    return key[0], _rule_where(earlier, f"a later row has the same {', '.join(key)}; the last one stands")


def quarantine_header(raw: RawTable) -> list[str]:
    """The columns of a table's quarantine file."""
    file = [] if raw.origin is None else ["file"]
    return ["row", "column", "value", "rule", *file, *raw.as_it_stood.columns]


def _quarantine_lines(raw: RawTable, problems: list[tuple[str, pd.Series]]) -> list[list[str]]:
    files = [[]] * len(raw.broken) if raw.origin is None else [[file] for file in raw.origin.broken_files]
    lines = [
        [str(row), "", "", rule, *file, *fields] for (row, fields, rule), file in zip(raw.broken, files, strict=True)
    ]
    for column, rules in problems:
        broken = rules.dropna()
        if broken.empty:
            continue
        stood = raw.as_it_stood.loc[broken.index]
        originals = stood.astype(object).where(stood.notna(), "")
        if raw.origin is not None:
            for place, rule, original in zip(broken.index, broken, originals.itertuples(index=False), strict=True):
                cell = raw.origin.cell(place, column)
                lines.append([str(raw.rows[place]), *cell, rule, raw.origin.files[place], *original])
            continue
        values = originals[column] if column in originals else pd.Series("", index=broken.index)
        for row, value, rule, original in zip(
            raw.rows[broken.index], values, broken, originals.itertuples(index=False), strict=True
        ):
            lines.append([str(row), column, value, rule, *original])
    return sorted(lines, key=lambda line: int(line[0]))
