"""The tables of data versions on disk, as Delta tables; which versions there are: `crm.versions`.

data/<table>/              Delta table, sorted by deal_id, so that a range of deals is read without the others
data/events/000012.jsonl   events that this version was the first to hold
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, WriterProperties, write_deltalake

from crm.calendar import DATE
from crm.errors import DataUnusable, Detail
from crm.events import CrmEvent
from crm.manifest import Folded, Manifest
from crm.tables import DEAL_TABLES, CrmTables
from crm.versions import current_version, make_current, name_after, read_manifest, replace_file, write_manifest

# Delta forgets how to read versions older than 30 days unless told otherwise.
KEEP_EVERY_VERSION: dict[str, str | None] = {
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.enableExpiredLogCleanup": "false",
}

# Small enough that a range of deals reads little of its neighbours, large enough that a whole table reads as quickly.
ROWS_PER_GROUP = 131_072

# Events come in small batches; so many files of them are read before they are put together.
MOST_FILES = 50

# What `_stored_names` appends.
NUMBERED = re.compile(r"~\d+$")


@dataclass(frozen=True)
class DealRange:
    """The deals with first <= deal_id < until, in the order of text; None: no bound.

    Rows without a deal_id belong to the range without an end, so that ranges side by side hold every row once.
    """

    first: str | None = None
    until: str | None = None

    def of(self, deal_ids: pc.Expression) -> pc.Expression | None:
        """The condition on a column of deal ids; None if all are meant."""
        if self.first is None and self.until is None:
            return None
        if self.until is None:
            return (deal_ids >= self.first) | deal_ids.is_null()
        return deal_ids < self.until if self.first is None else (deal_ids >= self.first) & (deal_ids < self.until)


@dataclass(frozen=True)
class SomeDeals:
    """The deals with these ids."""

    ids: frozenset[str]

    def of(self, deal_ids: pc.Expression) -> pc.Expression:
        """The condition on a column of deal ids."""
        return deal_ids.isin(sorted(self.ids))


EVERY_DEAL = DealRange()


def _whole(manifest: Manifest) -> Manifest:
    """The manifest of a version whose tables are still there."""
    if not manifest.tables:
        rule, step = "versions that only events made are kept for hours", "Read a later one, or that of an import."
        detail = Detail("data/versions", manifest.data_version, rule, step)
        raise DataUnusable(f"The tables of the data version {manifest.data_version} are gone.", detail)
    return manifest


def read_events(workspace: Path, manifest: Manifest) -> list[CrmEvent]:
    """The events that lie on the last import in a data version, in the order in which they were folded."""
    folder = workspace / "data" / "events"
    lines = (line for name in manifest.folded.files for line in (folder / name).read_text("utf-8").splitlines())
    return [CrmEvent.from_dict(json.loads(line)) for line in lines]


def read_tables(
    workspace: Path,
    version: str | None = None,
    *,
    within: DealRange | SomeDeals = EVERY_DEAL,
    only: Collection[str] | None = None,
) -> CrmTables:
    """The tables of a data version, by default the current one, with the contract's dtypes.

    Parameters
    ----------
    within : which deals; the other tables, and what holds for the version as a whole (field classes, calendar, the
        data's moment, the first import), are the same for every range.
    only : which tables; by default all of them.

    Raises
    ------
    DataUnusable
        If nothing was imported yet, or the version does not exist.
    """
    manifest = _whole(read_manifest(workspace, version))
    return CrmTables(
        tables={
            name: _read_table(workspace, name, number, within)
            for name, number in manifest.tables.items()
            if only is None or name in only
        },
        calendar=manifest.calendar,
        as_of=manifest.as_of,
        data_version=manifest.data_version,
        field_classes=manifest.field_classes,
        first_import_at=manifest.first_import_at,
    )


def read_columns(workspace: Path, table: str, columns: Iterable[str], version: str | None = None) -> pd.DataFrame:
    """Some columns of one table of a data version, of all its rows; columns that it does not have are left out."""
    number = _whole(read_manifest(workspace, version)).tables[table]
    return _read_table(workspace, table, number, EVERY_DEAL, columns=set(columns))


def deal_ranges(workspace: Path, version: str | None = None, *, deals_each: int) -> list[DealRange]:
    """Ranges side by side that hold every row of a data version once, each with at most so many deals."""
    manifest = read_manifest(workspace, version)
    deals = DeltaTable(str(workspace / "data" / "deals"), version=manifest.tables["deals"])
    ids = pc.unique(deals.to_pyarrow_table(columns=["deal_id"])["deal_id"]).sort()
    bounds = [None, *(ids[place].as_py() for place in range(deals_each, len(ids), deals_each)), None]
    return [DealRange(first, until) for first, until in pairwise(bounds)]


def write_version(
    workspace: Path,
    tables: CrmTables,
    *,
    changed: set[str],
    stages_derived: bool,
    currency_given: bool,
    cursors: Mapping[str, str] | None = None,
    upon: Manifest | None = None,
    current: bool = True,
) -> str:
    """Write the changed tables and make the new version current; call it within `import_lock`.

    Parameters
    ----------
    tables : all tables of the new version; its `data_version` is ignored, `first_import_at` is required.
    changed : tables to write; the others keep the Delta version of `upon`.
    cursors : how far connections have been read now; those not named stay where they were.
    upon : by default the current manifest.
    current : whether to make it current, or to leave that to `write_events_version`, which then follows.

    Returns
    -------
    The new version's name.
    """
    before = current_version(workspace)
    upon = read_manifest(workspace, before) if before and upon is None else upon
    kept = upon.tables if upon else {}
    versions = {
        table: _write_table(workspace, table, frame) if table in changed or table not in kept else kept[table]
        for table, frame in tables.tables.items()
    }
    return _commit(
        workspace,
        tables,
        versions,
        stages_derived=stages_derived,
        currency_given=currency_given,
        cursors=cursors or {},
        current=current,
    )


def write_events_version(
    workspace: Path,
    upon: Manifest,
    changed: CrmTables,
    *,
    events: Sequence[CrmEvent],
    new: Sequence[CrmEvent],
    through: int,
    stages_derived: bool,
) -> str:
    """Write the tables that events changed and make the new version current; call it within `import_lock`.

    Parameters
    ----------
    upon : the version before; its other tables stand.
    changed : the changed tables alone, and the calendar, moment and field classes of the new version.
    events, new : all events that lie on the last import now, and those of them that are not in `upon`.
    through : the number in the inbox up to which events are folded now.

    Returns
    -------
    The new version's name.
    """
    name = name_after(upon.data_version)
    files = upon.folded.files if len(upon.folded.files) < MOST_FILES else ()
    lines = [json.dumps(event.to_dict(), ensure_ascii=False) for event in (new if files else events)]
    (workspace / "data" / "events").mkdir(parents=True, exist_ok=True)
    replace_file(workspace / "data" / "events" / f"{name}.jsonl", "".join(f"{line}\n" for line in lines))
    written = {table: _write_table(workspace, table, frame) for table, frame in changed.tables.items()}
    manifest = replace(
        upon,
        data_version=name,
        tables={**upon.tables, **written},
        calendar=changed.calendar,
        as_of=changed.as_of,
        field_classes=changed.field_classes,
        stages_derived=stages_derived,
        folded=Folded(through, upon.folded.base or upon.data_version, (*files, f"{name}.jsonl")),
    )
    write_manifest(workspace, manifest)
    make_current(workspace, name)
    return name


def write_version_in_parts(
    workspace: Path,
    described: CrmTables,
    parts: Iterable[Mapping[str, pd.DataFrame]],
    *,
    stages_derived: bool,
    currency_given: bool,
) -> str:
    """Write a version whose deal tables come in parts, so that they are never in memory together.

    Parameters
    ----------
    described : the tables that come whole, and all that holds for the version; its `data_version` is ignored.
    parts : frames by table, sorted by deal_id in themselves and one after the other; a deal is in one part.

    Returns
    -------
    The new version's name.
    """
    versions = {table: _write_table(workspace, table, frame) for table, frame in described.tables.items()}
    begun: set[str] = set()
    for part in parts:
        for table, frame in part.items():
            versions[table] = _write_table(workspace, table, frame, append=table in begun)
        begun |= part.keys()
    return _commit(
        workspace, described, versions, stages_derived=stages_derived, currency_given=currency_given, cursors={}
    )


def _commit(
    workspace: Path,
    tables: CrmTables,
    versions: Mapping[str, int],
    *,
    stages_derived: bool,
    currency_given: bool,
    cursors: Mapping[str, str],
    current: bool = True,
) -> str:
    """Name the tables' versions in a manifest and make it the current one."""
    before = read_manifest(workspace) if current_version(workspace) else None
    assert tables.first_import_at is not None
    manifest = Manifest(
        data_version=name_after(before.data_version if before else None),
        tables=versions,
        calendar=tables.calendar,
        as_of=tables.as_of,
        first_import_at=tables.first_import_at,
        field_classes=tables.field_classes,
        stages_derived=stages_derived,
        currency_given=currency_given,
        cursors={**(before.cursors if before else {}), **cursors},
        folded=Folded(through=before.folded.through if before else 0),
    )
    write_manifest(workspace, manifest)
    if current:
        make_current(workspace, manifest.data_version)
    return manifest.data_version


def _write_table(workspace: Path, name: str, frame: pd.DataFrame, *, append: bool = False) -> int:
    path = workspace / "data" / name
    # In one chunk: of several, Delta keeps no order.
    arrow = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None).combine_chunks()
    arrow = arrow.rename_columns(_stored_names(arrow.column_names))
    for place, field in enumerate(arrow.schema):
        if field.type == pa.timestamp("us"):
            # A local day, not an instant: Delta would take a naive timestamp for something else.
            arrow = arrow.set_column(place, field.name, arrow.column(place).cast(pa.date32()))
    write_deltalake(
        str(path),
        arrow,
        mode="append" if append else "overwrite",
        schema_mode=None if append else "overwrite",
        configuration=None if append else KEEP_EVERY_VERSION,
        writer_properties=WriterProperties(max_row_group_size=ROWS_PER_GROUP, compression="SNAPPY"),
    )
    return DeltaTable(str(path)).version()


def _stored_names(names: list[str]) -> list[str]:
    """Names that differ without regard to case, as Delta demands: of `source` and a custom `Source`, `Source~2`."""
    seen: Counter[str] = Counter()
    stored = []
    for name in names:
        seen[name.lower()] += 1
        count = seen[name.lower()]
        stored.append(f"{name}~{count}" if count > 1 or NUMBERED.search(name) else name)
    return stored


def _read_table(
    workspace: Path, name: str, version: int, within: DealRange | SomeDeals, *, columns: set[str] | None = None
) -> pd.DataFrame:
    table = DeltaTable(str(workspace / "data" / name), version=version)
    condition = within.of(pc.field("deal_id")) if name in DEAL_TABLES else None
    stored = [column.name for column in table.schema().fields]
    chosen = stored if columns is None else [column for column in stored if NUMBERED.sub("", column) in columns]
    arrow = table.to_pyarrow_table(columns=chosen, filters=condition)
    arrow = arrow.rename_columns([NUMBERED.sub("", stored) for stored in arrow.column_names])
    dates = [field.name for field in arrow.schema if pa.types.is_date(field.type)]
    frame = arrow.to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype()}.get, date_as_object=False)
    texts = [name for name in frame if frame[name].dtype == object]
    frame = frame.astype(dict.fromkeys(dates, DATE) | dict.fromkeys(texts, "str"))
    return _in_written_order(frame, several_files=len(table.file_uris()) > 1)


def _in_written_order(frame: pd.DataFrame, *, several_files: bool) -> pd.DataFrame:
    """Deals in order, and each deal's log in the order of its file: Delta promises neither over several files."""
    if several_files and "deal_id" in frame and not frame["deal_id"].dropna().is_monotonic_increasing:
        frame = frame.sort_values("deal_id", kind="stable", ignore_index=True)
    if "_sequence" not in frame:
        return frame
    owner = frame.iloc[:, 0]
    goes_back = (frame["_sequence"].diff() < 0) & (owner == owner.shift())
    return frame.sort_values([owner.name, "_sequence"], ignore_index=True) if goes_back.any() else frame
