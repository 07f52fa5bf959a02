"""From a CRM into the workspace: what a connector fetches becomes a folder of tables, and that is imported like any."""

import csv
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from crm.connectors.base import Connector, Fetch
from crm.delivery import Progress, read_json
from crm.ingest import import_folder
from crm.manifest import Manifest
from crm.report import ImportReport
from crm.versions import read_import_manifest

FOLDER = "connections"


@dataclass(frozen=True)
class Landed:
    """What a sync brought.

    Attributes
    ----------
    report : of the import it made.
    cursor : how far the connection has been read.
    notes : {"what", "because"} for what the CRM does not have, and columns that came or went since the last sync.
    """

    report: ImportReport
    cursor: str
    notes: list[dict[str, str]]


def fetch_and_import(
    workspace: Path, name: str, connector: Connector, *, anew: bool, now: pd.Timestamp, progress: Progress
) -> Landed:
    """Fetch what changed since the last time and import it: one new data version that also holds the cursor, or none.

    Killed at any point it changes nothing, and the next one begins where this one did.

    Parameters
    ----------
    name : of the connection; the cursor is kept by it.
    anew : fetch everything again, whatever was fetched before.
    now : the wall clock, for the import's name.

    Raises
    ------
    OtherSideFailed
        If the CRM fails half-way.
    DataUnusable
        If what it delivered cannot be imported.
    """
    with _landing_folder(workspace, name) as folder:
        before = read_import_manifest(workspace)
        progress("ask", 0.0)
        fetch = connector.fetch(None if anew or before is None else before.cursors.get(name))
        columns = _write_tables(folder, fetch, progress)
        _write_calendar(workspace, folder, fetch, before)
        report = import_folder(
            workspace,
            folder,
            full=False,
            now=now,
            progress=lambda step, done: progress(step, 0.5 + done / 2),
            cursors={name: fetch.cursor},
            mapping=fetch.mapping,
            gone=fetch.gone,
        )
        changes = _schema_changes(workspace / FOLDER / f"{name}.columns.json", columns)
    return Landed(report, fetch.cursor, [*fetch.notes, *changes])


@contextmanager
def _landing_folder(workspace: Path, name: str) -> Iterator[Path]:
    """An empty folder that is gone afterwards; one sync at a time, a second one waits."""
    connections = workspace / FOLDER
    connections.mkdir(parents=True, exist_ok=True)
    folder = connections / f"{name}.fetched"
    with (connections / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(folder, ignore_errors=True)  # of one that was killed
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _write_tables(folder: Path, fetch: Fetch, progress: Progress) -> dict[str, list[str]]:
    """Write the batches, a file for each table; returns their columns."""
    columns: dict[str, list[str]] = {}
    for batch in fetch.batches:
        if not batch.rows:
            continue
        progress(f"fetch {batch.table}", 0.2)
        is_first = batch.table not in columns
        names = columns.setdefault(batch.table, list(batch.rows[0]))
        with (folder / f"{batch.table}.csv").open("a", encoding="utf-8", newline="") as file:
            lines = csv.DictWriter(file, names)
            if is_first:
                lines.writeheader()
            lines.writerows(batch.rows)
    return columns


def _schema_changes(memory: Path, columns: Mapping[str, list[str]]) -> list[dict[str, str]]:
    """What came and went in the tables since they were last read; from now on remembered as it is now."""
    before: dict[str, list[str]] = json.loads(memory.read_text("utf-8")) if memory.exists() else {}
    changes = []
    for table, names in columns.items():
        for word, some, others in (("is new", names, before.get(table)), ("is gone", before.get(table), names)):
            if some is not None and others is not None:
                changes += [{"what": f"{table}.{each}", "because": word} for each in some if each not in others]
    memory.write_text(json.dumps({**before, **columns}), "utf-8")
    return changes


def _write_calendar(workspace: Path, folder: Path, fetch: Fetch, before: Manifest | None) -> None:
    """The calendar held so far goes on, the first time what the CRM knows; the workspace's own calendar.json wins."""
    calendar: dict[str, object] = dict(fetch.calendar)
    moment = fetch.moment
    if before is not None:
        calendar = before.calendar.to_dict()
        calendar.pop("listed_periods", None)
        # Another connection may have told of a later moment already; events that did stay on top.
        moment = max(moment, before.as_of)
    own = workspace / "calendar.json"
    calendar |= read_json(own) if own.exists() else {}
    written = json.dumps(calendar | {"as_of": moment.isoformat()}, ensure_ascii=False)
    (folder / "calendar.json").write_text(written, encoding="utf-8")
