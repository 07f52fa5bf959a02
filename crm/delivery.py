"""What an export folder delivers: its calendar, and of every table the good rows; the others go to quarantine."""

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd

from crm.calendar import Calendar
from crm.contract import TABLES
from crm.errors import DataUnusable, Detail, UsageError
from crm.manifest import Manifest
from crm.mapping_tables import MappedFolder
from crm.plain import to_plain
from crm.reading import RawTable, find_file, read_file
from crm.spreadsheet import safe_text
from crm.tables import CrmTables
from crm.typed_rows import Delivered, kind_of, quarantine_header, type_rows
from crm.values import Kind

Progress = Callable[[str, float], None]

# The currency of a company that names none at all: ISO 4217 `no currency`.
NO_CURRENCY = "XXX"


@dataclass(frozen=True)
class Settings:
    """What calendar.json says, or else the import before this one.

    Attributes
    ----------
    calendar : its base currency is `XXX` until the deals have shown the commonest.
    as_of : the data's moment.
    as_of_given, currency_given : whether calendar.json stated them.
    """

    calendar: Calendar
    as_of: pd.Timestamp
    as_of_given: bool
    currency_given: bool


def read_settings(
    source: Path, before: Manifest | None, now: pd.Timestamp, stated: Mapping[str, object] | None = None
) -> Settings:
    """The calendar and the data's moment of a folder; without a calendar.json the calendar held so far goes on.

    Parameters
    ----------
    stated : what a mapping says of the calendar; it stands before what calendar.json says.

    Raises
    ------
    DataUnusable
        If calendar.json is not JSON, has unknown keys or bad values, or the export is older than what is held.
    """
    path = source / "calendar.json"
    is_written = path.exists() or bool(stated)
    written = (read_json(path) if path.exists() else {}) | dict(stated or {})
    as_of = written.pop("as_of", None)
    currency_given = "base_currency" in written
    if before and not is_written:
        calendar, currency_given = before.calendar, before.currency_given
    else:
        if before and not currency_given:
            # The commonest currency may change from export to export; the base currency may not.
            written["base_currency"], currency_given = before.calendar.base_currency, before.currency_given
        calendar = Calendar.from_dict({"base_currency": NO_CURRENCY} | written)
    moment = now.floor("s").as_unit("us") if as_of is None else _as_of(calendar, as_of)
    if before and moment < before.as_of:
        rule = f"not before {to_plain(before.as_of)}, the moment of the last import"
        next_step = "Import the newer export, or use another workspace for the older one."
        detail = Detail("calendar.json, as_of", to_plain(moment), rule, next_step)
        raise DataUnusable("The export is older than the last one imported.", detail)
    return Settings(calendar, moment, as_of is not None, currency_given)


def read_delivery(
    workspace: Path,
    source: Path,
    *,
    import_id: str,
    held: CrmTables | None,
    settings: Settings,
    progress: Progress,
    mapped: MappedFolder | None = None,
) -> dict[str, Delivered]:
    """The tables of a folder with their good rows; a table without any row counts as not delivered.

    Parameters
    ----------
    mapped : the folder as a mapping reads it; by default its files are named like the tables.

    Raises
    ------
    DataUnusable
        If a table is unreadable, lacks a required column or has not one good row, or if there are no deals at all.
    """
    files: dict[str, Callable[[], RawTable]]
    if mapped is None:
        files = {name: partial(read_file, path, name) for name in TABLES if (path := find_file(source, name))}
    else:
        files = {name: partial(mapped.read, name) for name in mapped.tables()}
    filled_in = workspace / "stages.csv"
    if "stages" not in files and filled_in.exists():
        files["stages"] = partial(read_file, filled_in, "stages")
    if held is None and "deals" not in files:
        raise _no_deals(source, mapped)
    quarantine = workspace / "quarantine" / import_id
    delivered = {}
    for count, (name, read) in enumerate(files.items()):
        progress(f"reading {name}", 0.6 * count / len(files))
        raw = read()
        if raw.text.empty and not raw.broken and name != "deals":
            continue
        stored = held.tables.get(name) if held else None
        rows = type_rows(raw, settings.calendar, settings.as_of, _custom_kinds(name, stored))
        if rows.quarantine:
            _write_quarantine(quarantine / f"{name}.csv", raw, rows)
        if rows.frame.empty:
            raise _no_good_row(raw, rows, quarantine)
        delivered[name] = rows
    if not delivered:
        raise _no_deals(source, mapped)
    return delivered


def free_import_id(workspace: Path, now: pd.Timestamp) -> str:
    """A name for the import by its wall clock, told apart from others of the same second."""
    name = f"{now:%Y%m%dT%H%M%SZ}"
    taken = len(list((workspace / "quarantine").glob(f"{name}*")))
    return f"{name}-{taken + 1}" if taken else name


def read_json(path: Path) -> dict[str, object]:
    """The entries of a calendar.json.

    Raises
    ------
    DataUnusable
        If it is not one JSON object, or lists periods, which are a table.
    """
    try:
        written = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(written, dict):
            raise ValueError("not one object of keys and values")
    except (OSError, ValueError) as error:
        detail = Detail("calendar.json", None, f"the file is one JSON object: {error}", "Correct the file.")
        raise DataUnusable("calendar.json cannot be read.", detail) from error
    if "listed_periods" in written:
        detail = Detail("calendar.json, listed_periods", None, "periods are a table", "Put them into periods.csv.")
        raise DataUnusable("calendar.json has keys that are not known.", detail)
    return written


def _as_of(calendar: Calendar, written: object) -> pd.Timestamp:
    try:
        return calendar.parse_moment(str(written))
    except UsageError as error:
        details = [replace(detail, where="calendar.json, as_of") for detail in error.details]
        raise DataUnusable(error.message, *details) from error


def _custom_kinds(name: str, stored: pd.DataFrame | None) -> dict[str, Kind]:
    if stored is None:
        return {}
    kinds = {column: kind_of(stored[column]) for column in stored if column not in TABLES[name].columns}
    return {column: kind for column, kind in kinds.items() if kind}


def _write_quarantine(path: Path, raw: RawTable, rows: Delivered) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(quarantine_header(raw))
        lines.writerows([safe_text(str(cell)) for cell in row] for row in rows.quarantine)


def _no_deals(source: Path, mapped: MappedFolder | None) -> DataUnusable:
    found = ", ".join(sorted(path.name for path in source.iterdir())[:20]) or "nothing"
    rule = "the folder holds deals.csv or deals.parquet, named as the contract names its tables"
    if mapped is not None:
        rule = f"{mapped.mapping.name} has a section [deals] whose file is there"
    return DataUnusable(
        f"{source} holds no table of deals.",
        Detail(str(source), found, rule, "Name the folder of the export, rename its files, or correct the mapping."),
    )


def _no_good_row(raw: RawTable, rows: Delivered, quarantine: Path) -> DataUnusable:
    if not rows.quarantine:
        next_step = "Export it again with its rows; in a mapping, correct `where` and `since`."
        detail = Detail(raw.file, None, "a table of deals has at least one row", next_step)
        return DataUnusable(f"{raw.file} has no rows.", detail)
    details = [
        Detail(
            f"{raw.file if raw.origin is None else rest[0]}, row {row}, column {column}",
            value,
            rule,
            f"Correct the export; see {quarantine}.",
        )
        for row, column, value, rule, *rest in rows.quarantine[:5]
    ]
    return DataUnusable(f"{raw.file} has not one good row.", *details)
