"""Old data versions that only events made: what no reader needs any more leaves the disk.

Versions of imports stay. Of those that events made, the manifest stays, without tables: how far they went is kept.
"""

from dataclasses import replace
from pathlib import Path

import pandas as pd
from deltalake import DeltaTable

from crm.manifest import Manifest
from crm.versions import current_version, import_lock, read_manifest, write_manifest

LATEST = 10
"""So many of the newest versions stay, however old."""


def thin_out(workspace: Path, *, before: pd.Timestamp) -> int:
    """Take the tables of versions that only events made off the disk, and return how many files went.

    Whoever reads a version meanwhile must have begun after `before`: it stays until it is that old and ten newer ones
    have followed.

    Parameters
    ----------
    before : versions written later stay.
    """
    current = current_version(workspace)
    if current is None:
        return 0
    with import_lock(workspace):
        folder = workspace / "data"
        files = sorted((folder / "versions").glob("*.json"))
        manifests = [read_manifest(workspace, file.stem) for file in files]
        old = {file.stem for file in files[:-LATEST] if file.stat().st_mtime < before.timestamp()}
        gone = [each for each in manifests if is_thinned(each, old, current)]
        for each in gone:  # first the names, then the files: a version is never named whose files are gone
            write_manifest(workspace, replace(each, tables={}))
        if not gone:
            return 0
        names = {each.data_version for each in gone}
        kept = [each for each in manifests if each.data_version not in names and each.tables]
        return sum(remove_files(folder, table, kept) for table in tables_of(gone)) + remove_events(folder, kept)


def is_thinned(manifest: Manifest, old: set[str], current: str) -> bool:
    """Whether a version goes: made by events, old, not the current one, and not gone already."""
    version = manifest.data_version
    return version in old and version != current and manifest.folded.base is not None and bool(manifest.tables)


def tables_of(manifests: list[Manifest]) -> list[str]:
    """The tables that versions have."""
    return sorted({name for each in manifests for name in each.tables})


def remove_files(folder: Path, table: str, kept: list[Manifest]) -> int:
    """Remove a table's files that no kept version reads."""
    versions = sorted({each.tables[table] for each in kept if table in each.tables})
    delta = DeltaTable(str(folder / table))
    removed = delta.vacuum(
        retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True, keep_versions=versions
    )
    return len(removed)


def remove_events(folder: Path, kept: list[Manifest]) -> int:
    """Remove files of events that no kept version reads."""
    named = {name for each in kept for name in each.folded.files}
    gone = [file for file in (folder / "events").glob("*.jsonl") if file.name not in named]
    for file in gone:
        file.unlink()
    return len(gone)
