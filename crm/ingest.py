"""Import a folder of CRM tables into the workspace: all or nothing, idempotent, and nothing lost without a word."""

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from crm.calendar import INSTANT, Calendar
from crm.contract import TABLES, Kind, empty_frame, format_values
from crm.errors import DataUnusable, Detail, UsageError
from crm.history import classify_fields
from crm.merge import Merged, merge_table, noticed_changes, without_explained
from crm.reading import Delivered, RawTable, find_file, kind_of, read_file, type_rows
from crm.stages import derive_stages, write_stages_to_fill
from crm.store import Manifest, current_version, import_lock, read_manifest, read_tables, write_version
from crm.tables import CrmTables

Progress = Callable[[str, float], None]

# Money of a company that names no currency at all: ISO 4217 `no currency`.
NO_CURRENCY = "XXX"
WITHOUT = {
    "deal_history": ("changes and past values of deals", "past values of untracked fields are unknown before today"),
    "activities": ("engagement features", "contacts and silence of the customer are unknown"),
    "accounts": ("account features and --by segment", "segment, industry and size are unknown"),
    "users": ("forecast by team, region and manager", "only the company and the reps are known"),
    "deal_contacts": ("buying-group features", "the customer's people on a deal are unknown"),
    "deal_splits": ("shared credit", "every deal counts wholly for its owner"),
    "forecast_calls": ("calls beside the model", "what people called is unknown"),
    "quotas": ("probability_of_quota", "no targets are known"),
    "exchange_rates": ("money in other currencies", "amounts outside base currency are unknown"),
}


def _silent(step: str, fraction: float) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class ImportReport:
    """What an import did; `to_dict` is the contract's `import` document with `findings` still empty."""

    import_id: str
    data_version: str
    as_of: pd.Timestamp
    changed: bool
    tables: Mapping[str, Mapping[str, int]]
    quarantine: str | None
    missing_tables: list[str]
    switched_off: list[dict[str, str]]
    ignored_files: list[str]

    def to_dict(self) -> dict[str, object]:
        return {
            "import_id": self.import_id,
            "data_version": self.data_version,
            "as_of": f"{self.as_of:%Y-%m-%dT%H:%M:%SZ}",
            "changed": self.changed,
            "tables": {name: dict(counts) for name, counts in self.tables.items()},
            "quarantine": self.quarantine,
            "missing_tables": self.missing_tables,
            "switched_off": self.switched_off,
            "findings": [],
            "ignored_files": self.ignored_files,
        }


@dataclass(frozen=True)
class _Settings:
    """What calendar.json says, or else the import before this one."""

    calendar: Calendar
    as_of: pd.Timestamp
    as_of_given: bool
    currency_given: bool


@dataclass
class _Merge:
    """The tables of the version in the making, and what was done to each."""

    tables: dict[str, pd.DataFrame]
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)


def import_folder(
    workspace: Path, source: Path, *, full: bool, now: pd.Timestamp, progress: Progress = _silent
) -> ImportReport:
    """Load the tables of a folder: upsert by key, refuse bad rows into quarantine, make one new data version.

    Parameters
    ----------
    source : folder with one CSV or Parquet file a table, and perhaps `calendar.json`.
    full : the folder holds everything there is: deals absent from it are deleted at the import's moment, rows of other
        tables removed, but for logs of what happened.
    now : the wall clock (UTC), the data's moment where `calendar.json` names none.

    Returns
    -------
    ImportReport; `changed` is false, and no version is made, if the folder says nothing new.

    Raises
    ------
    UsageError
        If the folder does not exist.
    DataUnusable
        If a table or the calendar cannot be used, or the export is older than the last one imported. What was there
        before stands.
    """
    if not source.is_dir():
        detail = Detail(str(source), None, "PATH is a folder with one file a table", "Name the folder of the export.")
        raise UsageError(f"{source} is not a folder.", detail)
    with import_lock(workspace):
        before = read_manifest(workspace) if current_version(workspace) else None
        held = read_tables(workspace) if before else None
        settings = _read_settings(source, before, now)
        import_id = _free_id(workspace, now)
        delivered = _read_delivery(workspace, source, import_id, held, settings, progress)
        if held is None and "deals" not in delivered:
            raise _no_deals(source)
        merge = _merge_delivery(delivered, held, settings, full=full, progress=progress)
        progress("settling stages and calendar", 0.75)
        derived = _settle_stages(workspace, merge, delivered, before)
        tables = _assemble(merge, held, settings)
        unchanged = before is not None and not merge.changed and tables.calendar == before.calendar
        if before is not None and unchanged and not (settings.as_of_given and settings.as_of != before.as_of):
            tables, version = replace(tables, as_of=before.as_of), before.data_version
        else:
            progress("classifying fields", 0.8)
            tables = replace(tables, field_classes=classify_fields(tables))
            progress("writing", 0.9)
            version = write_version(
                workspace,
                tables,
                changed=merge.changed,
                stages_derived=derived,
                currency_given=settings.currency_given,
            )
        progress("imported", 1.0)
        return _report(workspace, source, import_id, version, tables, merge, before)


def write_export(tables: CrmTables, folder: Path) -> None:
    """Write tables as a folder that `import_folder` reads back: a CSV file a table, and `calendar.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in tables.tables.items():
        if "_sequence" in frame:
            frame = frame.sort_values("_sequence", kind="stable")
        spec = TABLES[name]
        columns = {
            column: format_values(
                frame[column], spec.columns[column].kind if column in spec.columns else kind_of(frame[column]) or "text"
            )
            for column in frame.columns
            if not column.startswith("_")
            and (frame[column].notna().any() or column not in spec.columns or spec.columns[column].required)
        }
        arrow = pa.Table.from_pandas(pd.DataFrame(columns, dtype="str"), preserve_index=False)
        pa.csv.write_csv(arrow, folder / f"{name}.csv")
    calendar = {key: value for key, value in tables.calendar.to_dict().items() if key != "listed_periods"}
    calendar["as_of"] = tables.as_of.isoformat()
    (folder / "calendar.json").write_text(json.dumps(calendar, indent=2) + "\n")


# -- the steps -------------------------------------------------------------------------------------------------------


def _read_settings(source: Path, before: Manifest | None, now: pd.Timestamp) -> _Settings:
    path = source / "calendar.json"
    written: dict[str, object] = {}
    if path.exists():
        try:
            written = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            detail = Detail("calendar.json", None, f"not JSON: {error}", "Correct the file.")
            raise DataUnusable("calendar.json cannot be read.", detail) from error
        if not isinstance(written, dict):
            detail = Detail("calendar.json", None, "one JSON object", "Correct the file.")
            raise DataUnusable("calendar.json cannot be read.", detail)
    as_of = written.pop("as_of", None)
    if "listed_periods" in written:
        detail = Detail("calendar.json, listed_periods", None, "periods are a table", "Put them into periods.csv.")
        raise DataUnusable("calendar.json has keys that are not known.", detail)
    currency_given = "base_currency" in written
    if before and not currency_given:
        written["base_currency"] = before.calendar.base_currency
        currency_given = before.currency_given
    if before and not path.exists():
        calendar = before.calendar
    else:
        calendar = Calendar.from_dict({"base_currency": NO_CURRENCY} | written)
    moment = now.as_unit("us") if as_of is None else _as_of(calendar, as_of)
    if before and moment < before.as_of:
        rule = f"the data held are of {before.as_of.isoformat()}; an import is not older"
        next_step = "Import the newer export, or use another workspace for the older one."
        detail = Detail("calendar.json, as_of", moment.isoformat(), rule, next_step)
        raise DataUnusable("The export is older than the last one imported.", detail)
    return _Settings(calendar, moment, as_of is not None, currency_given)


def _as_of(calendar: Calendar, written: object) -> pd.Timestamp:
    try:
        return calendar.parse_moment(str(written))
    except UsageError as error:
        details = [replace(detail, where="calendar.json, as_of") for detail in error.details]
        raise DataUnusable(error.message, *details) from error


def _read_delivery(
    workspace: Path, source: Path, import_id: str, held: CrmTables | None, settings: _Settings, progress: Progress
) -> dict[str, Delivered]:
    delivered: dict[str, Delivered] = {}
    files = {name: found for name in TABLES if (found := find_file(source, name))}
    to_fill = workspace / "stages.csv"
    if "stages" not in files and to_fill.exists():
        files["stages"] = to_fill
    for count, (name, path) in enumerate(files.items()):
        progress(f"reading {path.name}", 0.6 * count / len(files))
        raw = read_file(path, name)
        if raw.text.empty and not raw.broken and name != "deals":
            continue
        stored = held.tables.get(name) if held else None
        rows = type_rows(raw, settings.calendar, settings.as_of, _custom_kinds(name, stored))
        if rows.quarantine:
            _write_quarantine(workspace / "quarantine" / import_id / f"{name}.csv", raw, rows)
        if rows.frame.empty:
            raise _no_good_row(raw, rows, workspace / "quarantine" / import_id)
        delivered[name] = rows
    return delivered


def _custom_kinds(name: str, stored: pd.DataFrame | None) -> dict[str, Kind]:
    if stored is None:
        return {}
    kinds = {column: kind_of(stored[column]) for column in stored if column not in TABLES[name].columns}
    return {column: kind for column, kind in kinds.items() if kind}


def _merge_delivery(
    delivered: Mapping[str, Delivered], held: CrmTables | None, settings: _Settings, *, full: bool, progress: Progress
) -> _Merge:
    merge = _Merge(dict(held.tables) if held else {})
    merged: dict[str, Merged] = {}
    for count, (name, rows) in enumerate(delivered.items()):
        progress(f"merging {name}", 0.6 + 0.15 * count / len(delivered))
        stored = merge.tables.get(name)
        frame = rows.frame
        if name == "deals" and "deleted_at" not in frame:
            # A deal that is delivered again is there again.
            frame = frame.assign(deleted_at=pd.Series(pd.NaT, index=frame.index, dtype=INSTANT))
        done = merged[name] = merge_table(TABLES[name], stored, frame, full=full)
        merge.tables[name] = done.frame
        merge.counts[name] = {
            "read": rows.read,
            "new": len(done.new),
            "changed": done.changed,
            "unchanged": done.unchanged,
            "refused": rows.refused,
            "removed": done.removed,
        }
        if done.differs:
            merge.changed.add(name)
    if "deals" in delivered:
        _date_deals(merge, merged["deals"], delivered["deals"].frame, settings, first=held is None, full=full)
    if held is not None:
        _settle_history(merge, merged, delivered, held, settings)
    return merge


def _date_deals(
    merge: _Merge, deals: Merged, delivered: pd.DataFrame, settings: _Settings, *, first: bool, full: bool
) -> None:
    """Deals that a later import finds are known from its moment; deals a full export no longer holds are deleted."""
    frame = deals.frame
    if "_first_seen_at" not in frame:
        frame = frame.assign(_first_seen_at=pd.Series(pd.NaT, index=frame.index, dtype=INSTANT))
    if not first:
        is_new = frame["deal_id"].isin(deals.new["deal_id"])
        frame["_first_seen_at"] = frame["_first_seen_at"].mask(is_new, settings.as_of)
    if full:
        absent = ~frame["deal_id"].isin(delivered["deal_id"]) & frame["deleted_at"].isna()
        frame["deleted_at"] = frame["deleted_at"].mask(absent, settings.as_of)
        merge.counts["deals"]["removed"] = int(absent.sum())
        if absent.any():
            merge.changed.add("deals")
    merge.tables["deals"] = frame


def _settle_history(
    merge: _Merge,
    merged: Mapping[str, Merged],
    delivered: Mapping[str, Delivered],
    held: CrmTables,
    settings: _Settings,
) -> None:
    """Note what changed without a history row, and let delivered history replace what was noted before."""
    deals, log = merge.tables["deals"], TABLES["deal_history"]
    history = merge.tables.get("deal_history")
    empty = merge_table(log, None, empty_frame("deal_history"), full=False).frame
    new = merged["deal_history"].new if "deal_history" in merged else empty
    if history is not None and len(new):
        history = without_explained(history, new, deals, settings.calendar)
    if "deals" in delivered:
        noticed = noticed_changes(
            held.tables["deals"],
            deals,
            fields=delivered["deals"].frame.columns,
            new_history=new,
            moment=settings.as_of,
            calendar=settings.calendar,
        )
        if len(noticed):
            history = merge_table(log, empty if history is None else history, noticed, full=False).frame
            merge.changed.add("deal_history")
    if history is not None:
        merge.tables["deal_history"] = history


def _settle_stages(workspace: Path, merge: _Merge, delivered: Mapping[str, Delivered], before: Manifest | None) -> bool:
    """Make sure there is a stages table; whether it had to be derived from the deals."""
    if "stages" in delivered or (before and not before.stages_derived):
        return False
    deals = merge.tables["deals"]
    history = merge.tables.get("deal_history", empty_frame("deal_history"))
    stages = derive_stages(deals, history)
    if stages is None:
        raise write_stages_to_fill(workspace / "stages.csv", deals, history)
    if "stages" not in merge.tables or not stages.equals(merge.tables["stages"]):
        merge.tables["stages"] = stages
        merge.changed.add("stages")
    return True


def _assemble(merge: _Merge, held: CrmTables | None, settings: _Settings) -> CrmTables:
    calendar, deals = settings.calendar, merge.tables["deals"]
    if not settings.currency_given and calendar.base_currency == NO_CURRENCY:
        commonest = deals["currency"].value_counts().sort_index().sort_values(ascending=False, kind="stable").index
        calendar = replace(calendar, base_currency=commonest[0] if len(commonest) else NO_CURRENCY)
    if "periods" in merge.tables:
        calendar = replace(calendar, listed_periods=_listed_periods(merge.tables["periods"]))
    if calendar.measure not in deals or deals[calendar.measure].dtype != np.float64:
        numbers = [name for name in deals if deals[name].dtype == np.float64 and name in ("amount", "acv", "tcv")]
        rule = "the measure is a number column of deals"
        detail = Detail("calendar.json, measure", calendar.measure, rule, f"Choose for example {', '.join(numbers)}.")
        raise DataUnusable(f"The measure {calendar.measure} is no number column of deals.", detail)
    return CrmTables(
        tables=merge.tables,
        calendar=calendar,
        as_of=settings.as_of,
        data_version="",
        field_classes=held.field_classes if held else {},
        first_import_at=held.first_import_at if held else settings.as_of,
    )


def _listed_periods(periods: pd.DataFrame) -> tuple[tuple, ...]:  # type: ignore[type-arg]
    ordered = periods.sort_values("period_start")
    starts, ends = ordered["period_start"].dt.date, ordered["period_end"].dt.date
    labels = ordered["label"].fillna(ordered["period_start"].dt.strftime("%Y-%m-%d"))
    return tuple(zip(starts, ends, labels, strict=True))


# -- what is told ----------------------------------------------------------------------------------------------------


def _report(
    workspace: Path,
    source: Path,
    import_id: str,
    version: str,
    tables: CrmTables,
    merge: _Merge,
    before: Manifest | None,
) -> ImportReport:
    quarantine = workspace / "quarantine" / import_id
    missing = [name for name in TABLES if not tables.has(name)]
    known = {f"{name}{suffix}" for name in TABLES for suffix in (".csv", ".parquet")}
    ignored = [path.name for path in source.iterdir() if path.suffix in (".csv", ".parquet") and path.name not in known]
    return ImportReport(
        import_id=import_id,
        data_version=version,
        as_of=tables.as_of,
        changed=before is None or version != before.data_version,
        tables=merge.counts,
        quarantine=str(quarantine) if quarantine.exists() else None,
        missing_tables=missing,
        switched_off=_switched_off(tables, missing),
        ignored_files=sorted(ignored),
    )


def _switched_off(tables: CrmTables, missing: list[str]) -> list[dict[str, str]]:
    off = [
        {"what": what, "because": f"no table {name}: {why}"} for name, (what, why) in WITHOUT.items() if name in missing
    ]
    deals = tables.get("deals")
    for column, what in (
        ("amount", "money of deals"),
        ("close_date", "timing by the promised close date"),
        ("owner_id", "forecast by rep, team and region"),
        ("forecast_category", "the forecast_category baseline"),
    ):
        if deals[column].isna().all():
            off.append({"what": what, "because": f"no deal has {column}"})
    return off


def _write_quarantine(path: Path, raw: RawTable, rows: Delivered) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["row", "column", "value", "rule", *raw.text.columns])
        lines.writerows(rows.quarantine)


def _free_id(workspace: Path, now: pd.Timestamp) -> str:
    """A name for the import by its wall clock, told apart from others of the same second."""
    name = f"{now:%Y%m%dT%H%M%SZ}"
    folder = workspace / "quarantine"
    taken = [path.name for path in folder.glob(f"{name}*")] if folder.exists() else []
    return f"{name}-{len(taken) + 1}" if taken else name


def _no_deals(source: Path) -> DataUnusable:
    found = ", ".join(sorted(path.name for path in source.iterdir())) or "nothing"
    detail = Detail(
        str(source), found, "deals.csv or deals.parquet is required", "Name the export's folder or its file."
    )
    return DataUnusable(f"{source} holds no table of deals.", detail)


def _no_good_row(raw: RawTable, rows: Delivered, quarantine: Path) -> DataUnusable:
    if not rows.quarantine:
        detail = Detail(raw.file, None, "a table has at least one row", "Export it again with its rows.")
        return DataUnusable(f"{raw.file} has no rows.", detail)
    details = [
        Detail(f"{raw.file}, row {row}, column {column}", value, rule, f"Correct the export; see {quarantine}.")
        for row, column, value, rule, *_ in rows.quarantine[:5]
    ]
    return DataUnusable(f"{raw.file} has not one good row.", *details)
