"""Import a folder of CRM tables into the workspace: all or nothing, idempotent, and nothing lost without a word."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from crm.calendar import INSTANT
from crm.contract import TABLES, empty_frame
from crm.delivery import NO_CURRENCY, Progress, Settings, free_import_id, read_delivery, read_settings
from crm.errors import DataUnusable, Detail, UsageError
from crm.folding import listed_periods
from crm.history import classify_fields
from crm.manifest import Manifest
from crm.mapping import TableMapping
from crm.mapping_tables import MappedFolder
from crm.merge import Merged, merge_table, noticed_changes, without_explained
from crm.overlay import hold_events, lay_events, split_events
from crm.report import ImportReport, ignored_files, missing_tables, switched_off
from crm.stages import derive_stages, write_stages_to_fill
from crm.store import write_version
from crm.tables import CrmTables
from crm.typed_rows import Delivered
from crm.versions import current_version, import_lock, read_import_manifest, read_manifest


def _silent(step: str, fraction: float) -> None:
    """Report no progress."""


@dataclass
class _Draft:
    """The tables of the version in the making, and what was done to each."""

    tables: dict[str, pd.DataFrame]
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)


def import_folder(
    workspace: Path,
    source: Path,
    *,
    full: bool,
    now: pd.Timestamp,
    progress: Progress = _silent,
    cursors: Mapping[str, str] | None = None,
    mapping: TableMapping | None = None,
    gone: Mapping[str, str | None] | None = None,
) -> ImportReport:
    """Load the tables of a folder: upsert by key, refuse bad rows into quarantine, make one new data version.

    Parameters
    ----------
    source : folder with one CSV or Parquet file a table, and perhaps `calendar.json`.
    full : the folder holds everything there is: deals absent from it are deleted at the import's moment, rows of other
        tables removed, but for logs of what happened.
    now : the wall clock (UTC), the data's moment where `calendar.json` names none.
    cursors : how far connections to CRMs have been read with this folder, kept with the version that it makes.
    mapping : how the tables are made of the folder's files; by default they are named like the tables.
    gone : deals that are deleted at the import's moment without being delivered, each with the one it was merged into
        (None: with none).

    Returns
    -------
    ImportReport; `changed` is false, and no version is made, if the folder says nothing new. The passing of the wall
    clock alone is nothing new, a later `as_of` is.

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
        current = read_manifest(workspace) if current_version(workspace) else None
        before = read_import_manifest(workspace)
        settings = read_settings(source, before, now, mapping.calendar if mapping else None)
        mapped = MappedFolder(source, mapping, settings.calendar) if mapping else None
        events = split_events(workspace, current, before, settings.as_of)
        held, absorbed = hold_events(workspace, before, events.earlier)
        import_id = free_import_id(workspace, now)
        delivered = read_delivery(
            workspace, source, import_id=import_id, held=held, settings=settings, progress=progress, mapped=mapped
        )
        if held and before and before.stages_derived and "stages" in delivered:
            # What was concluded from the deals gives way to what is told.
            held = replace(held, tables={name: frame for name, frame in held.tables.items() if name != "stages"})
        draft = _merge_delivery(delivered, held, settings, full=full, progress=progress)
        _note_gone(draft, gone or {}, settings)
        progress("settling stages and calendar", 0.75)
        derived = _settle_stages(workspace, draft, delivered, before)
        tables = _assemble(draft, held, settings)
        if current and before and _is_nothing_new(draft, tables, before, settings):
            tables = replace(tables, as_of=current.as_of, data_version=current.data_version)
        else:
            progress("classifying fields", 0.8)
            tables = replace(tables, field_classes=classify_fields(tables))
            progress("writing", 0.9)
            version = write_version(
                workspace,
                tables,
                changed=draft.changed | absorbed,
                stages_derived=derived,
                currency_given=settings.currency_given,
                cursors=cursors,
                upon=before,
                current=not events.later,
            )
            tables = replace(tables, data_version=version)
            if current and events.later:
                tables = lay_events(workspace, tables, events.later, through=current.folded.through)
        progress("imported", 1.0)
    quarantine = workspace / "quarantine" / import_id
    return ImportReport(
        import_id=import_id,
        data_version=tables.data_version,
        as_of=tables.as_of,
        changed=current is None or tables.data_version != current.data_version,
        tables=draft.counts,
        quarantine=quarantine if quarantine.exists() else None,
        missing_tables=missing_tables(tables),
        switched_off=switched_off(tables),
        ignored_files=mapped.ignored_files() if mapped else ignored_files(source),
        mapping=mapped.notes if mapped else [],
    )


def _is_nothing_new(draft: _Draft, tables: CrmTables, before: Manifest, settings: Settings) -> bool:
    same_moment = not settings.as_of_given or settings.as_of == before.as_of
    return not draft.changed and tables.calendar == before.calendar and same_moment


def _merge_delivery(
    delivered: Mapping[str, Delivered], held: CrmTables | None, settings: Settings, *, full: bool, progress: Progress
) -> _Draft:
    draft = _Draft(dict(held.tables) if held else {})
    merged: dict[str, Merged] = {}
    for count, (name, rows) in enumerate(delivered.items()):
        progress(f"merging {name}", 0.6 + 0.15 * count / len(delivered))
        frame = _dated_removals(rows.frame, held, settings) if name == "deals" else rows.frame
        done = merged[name] = merge_table(TABLES[name], draft.tables.get(name), frame, full=full)
        draft.tables[name] = done.frame
        draft.counts[name] = {
            "read": rows.read,
            "new": len(done.new),
            "changed": done.changed,
            "unchanged": done.unchanged,
            "refused": rows.refused,
            "removed": done.removed,
        }
        if done.differs:
            draft.changed.add(name)
    if "deals" in delivered:
        _date_deals(draft, merged["deals"], delivered["deals"].frame, settings, first=held is None, full=full)
    if held is not None:
        _settle_history(draft, merged, delivered, held, settings)
    return draft


def _dated_removals(deals: pd.DataFrame, held: CrmTables | None, settings: Settings) -> pd.DataFrame:
    """Delivered deals with deleted_at: one merged away without it went at the import that first showed the merge.

    Without the column, a deal that is delivered is there (again).
    """
    deleted_at = deals.get("deleted_at", pd.Series(pd.NaT, index=deals.index, dtype=INSTANT))
    if "merged_into" in deals:
        undated = deals["merged_into"].notna() & deleted_at.isna()
        shown_at = pd.Series(settings.as_of, index=deals.index, dtype=INSTANT)
        if held is not None:
            known = held.tables["deals"].dropna(subset="merged_into").set_index("deal_id")["deleted_at"]
            shown_at = known.reindex(deals["deal_id"]).set_axis(deals.index).fillna(shown_at)
        deleted_at = deleted_at.mask(undated, shown_at)
    return deals.assign(deleted_at=deleted_at)


def _date_deals(
    draft: _Draft, deals: Merged, delivered: pd.DataFrame, settings: Settings, *, first: bool, full: bool
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
        draft.counts["deals"]["removed"] = int(absent.sum())
        if absent.any():
            draft.changed.add("deals")
    draft.tables["deals"] = frame


def _note_gone(draft: _Draft, gone: Mapping[str, str | None], settings: Settings) -> None:
    """Deals that the other side says are gone, and no more than that, went at the import's moment."""
    frame = draft.tables["deals"]
    went = frame["deal_id"].isin(list(gone)) & frame["deleted_at"].isna()
    if went.any():
        into = frame["deal_id"].map(gone).astype("str")
        frame = frame.assign(
            deleted_at=frame["deleted_at"].mask(went, settings.as_of),
            merged_into=frame["merged_into"].mask(went & into.notna(), into),
        )
        draft.tables["deals"] = frame
        draft.changed.add("deals")


def _settle_history(
    draft: _Draft,
    merged: Mapping[str, Merged],
    delivered: Mapping[str, Delivered],
    held: CrmTables,
    settings: Settings,
) -> None:
    """Note what changed without a history row, and let delivered history replace what was noted before."""
    deals, log = draft.tables["deals"], TABLES["deal_history"]
    none = merge_table(log, None, empty_frame("deal_history"), full=False).frame
    history = draft.tables.get("deal_history", none)
    new = merged["deal_history"].new if "deal_history" in merged else none
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
            history = merge_table(log, history, noticed, full=False).frame
            draft.changed.add("deal_history")
    if len(history):
        draft.tables["deal_history"] = history


def _settle_stages(workspace: Path, draft: _Draft, delivered: Mapping[str, Delivered], before: Manifest | None) -> bool:
    """Make sure there is a stages table; returns whether it had to be derived from the deals."""
    if "stages" in delivered or (before and not before.stages_derived):
        return False
    deals = draft.tables["deals"]
    history = draft.tables.get("deal_history", empty_frame("deal_history"))
    stages = derive_stages(deals, history)
    if stages is None:
        raise write_stages_to_fill(workspace / "stages.csv", deals, history)
    if "stages" not in draft.tables or not stages.equals(draft.tables["stages"]):
        draft.tables["stages"] = stages
        draft.changed.add("stages")
    return True


def _assemble(draft: _Draft, held: CrmTables | None, settings: Settings) -> CrmTables:
    calendar, deals = settings.calendar, draft.tables["deals"]
    if not settings.currency_given and calendar.base_currency == NO_CURRENCY:
        # `mode` sorts, so that of two equally common currencies always the same one is taken.
        calendar = replace(calendar, base_currency=next(iter(deals["currency"].mode()), NO_CURRENCY))
    if "periods" in draft.tables:
        calendar = replace(calendar, listed_periods=listed_periods(draft.tables["periods"]))
    if calendar.measure not in deals or deals[calendar.measure].dtype != np.float64:
        numbers = ", ".join(name for name in deals if deals[name].dtype == np.float64)
        rule = f"the measure is a number column of deals: {numbers}"
        detail = Detail("calendar.json, measure", calendar.measure, rule, "Choose one of them.")
        raise DataUnusable(f"The measure {calendar.measure} is no number column of deals.", detail)
    return CrmTables(
        tables=draft.tables,
        calendar=calendar,
        as_of=settings.as_of,
        data_version="",
        field_classes=held.field_classes if held else {},
        first_import_at=held.first_import_at if held else settings.as_of,
    )
