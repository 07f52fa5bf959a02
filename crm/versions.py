"""Which data versions there are: one manifest per version, which names the version of every table, and the current one.

A version exists once `data/CURRENT` names it, and that file is replaced in one step: an import that is killed half-way
leaves the version before it standing, and the next import starts from there.

    data/versions/000012.json  manifest
    data/CURRENT               name of the current version
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crm.errors import DataUnusable, Detail
from crm.manifest import Manifest


def current_version(workspace: Path) -> str | None:
    """The name of the current data version; None before the first import."""
    try:
        return (workspace / "data" / "CURRENT").read_text().strip() or None
    except FileNotFoundError:
        return None


def read_manifest(workspace: Path, version: str | None = None) -> Manifest:
    """The manifest of a data version, by default the current one.

    Raises
    ------
    DataUnusable
        If nothing was imported yet, or the version does not exist.
    """
    name = version or current_version(workspace)
    if name is None:
        detail = Detail(str(workspace), None, "the workspace holds no data", "Run `dealcast import PATH` first.")
        raise DataUnusable("Nothing has been imported yet.", detail)
    path = workspace / "data" / "versions" / f"{name}.json"
    if not path.exists():
        detail = Detail(str(path), name, "no such data version", "Look into data/versions for those that exist.")
        raise DataUnusable(f"The data version {name} does not exist.", detail)
    return Manifest.from_dict(json.loads(path.read_text()))


def read_import_manifest(workspace: Path) -> Manifest | None:
    """The manifest of the last import, without the events that lie on it; None before the first."""
    if current_version(workspace) is None:
        return None
    manifest = read_manifest(workspace)
    return manifest if manifest.folded.base is None else read_manifest(workspace, manifest.folded.base)


def write_manifest(workspace: Path, manifest: Manifest) -> None:
    """Write the manifest of a version, in one step; call it within `import_lock`."""
    folder = workspace / "data" / "versions"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(manifest.to_dict(), indent=2, ensure_ascii=False) + "\n"
    replace_file(folder / f"{manifest.data_version}.json", text)


def make_current(workspace: Path, version: str) -> None:
    """Name the version that is read from now on; call it within `import_lock`."""
    replace_file(workspace / "data" / "CURRENT", version + "\n")


def name_after(version: str | None) -> str:
    """The name of the next version."""
    return f"{int(version or 0) + 1:06d}"


@contextmanager
def import_lock(workspace: Path) -> Iterator[None]:
    """One import at a time: a second one waits; the lock goes with the process that holds it."""
    folder = workspace / "data"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def replace_file(path: Path, text: str) -> None:
    """Write a file so that readers see the old or the new one whole, also after a power cut."""
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
