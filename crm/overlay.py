"""The events on top of the last import: which of them lie on it, and the data versions that they make.

An import takes the place of what events told of the time before it. What they told of the time after it is laid on top
again, so that an import never undoes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from crm.contract import empty_frame
from crm.events import CrmEvent
from crm.facts import classify_fields
from crm.folding import DEAL_GROUP, fold, listed_periods, tables_touched
from crm.manifest import Manifest
from crm.stages import derive_stages
from crm.store import read_events, read_tables, write_events_version
from crm.tables import CrmTables
from crm.versions import import_lock, read_manifest


@dataclass(frozen=True)
class LyingEvents:
    """The events on top of the last import, parted by the moment of the next one: what it replaces, what stays."""

    earlier: list[CrmEvent]
    later: list[CrmEvent]


class CannotFold(Exception):
    """The tables cannot be made with these events among them; nothing was written."""


def fold_events(
    workspace: Path, events: Sequence[CrmEvent], *, after: int | None = None, leave_out: bool = False
) -> str | None:
    """Fold events into the store as a new data version and return its name; None if they are in it already.

    Parameters
    ----------
    events : in the order of their numbers, without a gap after those folded before.
    after : the number up to which they are in the data; by default as the data say.
    leave_out : count them as folded without them.

    Raises
    ------
    DataUnusable
        If there is no import for them to lie on.
    CannotFold
        If the tables cannot be made with them.
    """
    with import_lock(workspace):
        current = read_manifest(workspace)
        folded = current.folded.through if after is None else after
        new = [event for event in events if event.number > folded]
        if not new:
            return None
        return _write(workspace, current, [] if leave_out else new, through=new[-1].number)


def split_events(
    workspace: Path, current: Manifest | None, before: Manifest | None, moment: pd.Timestamp
) -> LyingEvents:
    """The events on top of the last import (`before`), parted by the moment of an import that is to come."""
    parts = LyingEvents([], [])
    if current is None or before is None:
        return parts
    for event in read_events(workspace, current):
        at = before.as_of if event.moment is None else max(event.moment, before.as_of)
        (parts.earlier if at < moment else parts.later).append(event)
    return parts


def hold_events(
    workspace: Path, before: Manifest | None, events: Sequence[CrmEvent]
) -> tuple[CrmTables | None, set[str]]:
    """The tables of the last import with some of the events on top of it, and which of them these have changed."""
    if before is None:
        return None, set()
    tables = read_tables(workspace, before.data_version)
    if not events:
        return tables, set()
    frames = fold(tables, events, tables_touched(events))
    return tables.with_tables(**frames), set(frames)


def lay_events(workspace: Path, imported: CrmTables, events: Sequence[CrmEvent], *, through: int) -> CrmTables:
    """Lay events on a new import, which is written but not current yet; its tables with what now holds for them."""
    upon = read_manifest(workspace, imported.data_version)
    version = _write(workspace, upon, events, through=through)
    return read_tables(workspace, version)


def _write(workspace: Path, upon: Manifest, new: Sequence[CrmEvent], *, through: int) -> str:
    """The version that has these events beside those that `upon` has."""
    base_manifest = upon if upon.folded.base is None else read_manifest(workspace, upon.folded.base)
    events = [*read_events(workspace, upon), *new]
    touched = tables_touched(new)
    base = read_tables(workspace, base_manifest.data_version, only={*touched, "stages"})
    derived = base_manifest.stages_derived and not any(event.table == "stages" for event in events)
    try:
        changed = _changed(replace(base, calendar=upon.calendar), events, touched, derived=derived)
    except (MemoryError, OSError):
        raise
    except Exception as failure:
        raise CannotFold(str(failure)) from failure
    if not touched & DEAL_GROUP:
        changed = replace(changed, field_classes=upon.field_classes)
    return write_events_version(
        workspace, upon, changed, events=events, new=new, through=through, stages_derived=derived
    )


def _changed(base: CrmTables, events: Sequence[CrmEvent], touched: frozenset[str], *, derived: bool) -> CrmTables:
    """The tables that events change, with the moment, calendar and field classes that then hold."""
    frames = fold(base, events, touched)
    if derived and touched & DEAL_GROUP:
        stages = derive_stages(frames["deals"], frames.get("deal_history", empty_frame("deal_history")))
        if stages is not None and not stages.equals(base.tables["stages"]):
            frames["stages"] = stages
    calendar = base.calendar
    if "periods" in frames:
        calendar = replace(calendar, listed_periods=listed_periods(frames["periods"]))
    moments = [event.moment for event in events if event.moment is not None]
    tables = replace(base.with_tables(**frames), calendar=calendar, as_of=max([base.as_of, *moments]))
    classes = classify_fields(tables) if touched & DEAL_GROUP else {}
    return replace(tables, tables=frames, field_classes=classes)
