"""What is installed, configured and reachable, and what is wrong: one finding a line, each with the next step."""

import ctypes.util
import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from crm.errors import DealcastError
from crm.versions import current_version, read_manifest
from dealcast import connections
from dealcast.session import Session
from ledger.errors import LedgerError
from models.bundle_store import bundles_folder, read_champion, read_parts
from serving.pages.assets import libraries_missing

PACKAGES = ("crm", "ledger", "features", "models", "training", "serving", "dealcast")
LIBRARIES = ("lightgbm", "duckdb", "deltalake", "pandas", "bentoml", "mlflow")
TRAINING_ONLY = {"mlflow"}
FREE_GIGABYTES = 1.0
NEXT_IMPORT, NEXT_TRAIN = "dealcast import PATH", "dealcast train"


@dataclass(frozen=True)
class Found:
    """One thing looked at: whether it is well, what was found, what to do next; a mishap is exit code 5 or its own."""

    name: str
    ok: bool
    detail: str
    next_step: str | None = None
    exit_code: int = 5


@dataclass(frozen=True)
class Diagnosis:
    """Everything looked at, in order."""

    found: tuple[Found, ...]

    @property
    def exit_code(self) -> int:
        """0 if all is well, else that of the first thing wrong."""
        return next((each.exit_code for each in self.found if not each.ok), 0)

    @property
    def document(self) -> dict[str, Any]:
        """The `doctor` document."""
        checks = [{k: v for k, v in asdict(each).items() if k != "exit_code"} for each in self.found]
        return {"ok": self.exit_code == 0, "checks": checks}


def examine(session: Session) -> Diagnosis:
    """Look at everything; what fails is a finding, never an end."""
    looks: tuple[tuple[str, Callable[[Session], Found]], ...] = (
        ("python", _python),
        ("packages", _packages),
        ("libraries", _libraries),
        ("pages", _pages),
        ("libgomp", _libgomp),
        ("workspace", _workspace),
        ("disk", _disk),
        ("settings", _settings),
        ("data", _data),
        ("champion", _champion),
        ("ledger", _ledger),
        ("crm", _crm),
    )
    return Diagnosis(tuple(_look(name, look, session) for name, look in looks))


def _look(name: str, look: Callable[[Session], Found], session: Session) -> Found:
    try:
        return look(session)
    except (DealcastError, LedgerError) as failure:
        details = getattr(failure, "details", ())
        return Found(name, False, failure.message, details[0].next_step if details else None, failure.exit_code)
    except Exception as failure:
        return Found(name, False, f"{type(failure).__name__}: {failure}", "Report this.", 1)


def _python(_session: Session) -> Found:
    version = ".".join(map(str, sys.version_info[:3]))
    return Found("python", sys.version_info >= (3, 11), f"{version} at {sys.executable}", None)


def _packages(_session: Session) -> Found:
    """Plain names such as `models` are easily shadowed by another package of that name, or by the current folder."""
    project = Path(__file__).resolve().parents[1]
    places = {name: importlib.util.find_spec(name) for name in PACKAGES}
    strangers = [n for n, spec in places.items() if not spec or not Path(spec.origin or "/").is_relative_to(project)]
    if strangers:
        step = "Run from another folder, or uninstall the package of the same name."
        return Found("packages", False, f"not ours: {', '.join(strangers)}", step)
    return Found("packages", True, f"dealcast {importlib.metadata.version('dealcast')} in {project}")


def _libraries(_session: Session) -> Found:
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent (no training here)" if name in TRAINING_ONLY else "absent"
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    complete = "absent" not in versions.values()
    return Found("libraries", complete, shown, None if complete else "Install again: make install")


def _pages(_session: Session) -> Found:
    """Pages work without the libraries from npm, but draw no charts: that is told, and nothing is wrong."""
    missing = libraries_missing()
    if missing:
        return Found("pages", True, f"tables instead of charts: {', '.join(missing)} not there", "make install")
    return Found("pages", True, "charts are drawn with the libraries that came along")


def _libgomp(_session: Session) -> Found:
    if sys.platform != "linux":
        return Found("libgomp", True, "not needed here")
    found = ctypes.util.find_library("gomp")
    return Found("libgomp", found is not None, found or "missing", None if found else "sudo apt-get install libgomp1")


def _workspace(session: Session) -> Found:
    place = session.workspace.resolve()
    if not place.exists():
        return Found("workspace", True, f"{place} does not exist yet", NEXT_IMPORT)
    usable = place.is_dir() and os.access(place, os.R_OK | os.W_OK | os.X_OK)
    return Found("workspace", usable, str(place), None if usable else f"Make it a folder you may write: {place}", 2)


def _disk(session: Session) -> Found:
    place = session.workspace.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 1e9
    return Found("disk", free >= FREE_GIGABYTES, f"{free:.1f} GB free", "Make room." if free < FREE_GIGABYTES else None)


def _settings(session: Session) -> Found:
    settings = session.settings
    return Found("settings", True, f"ledger {settings.ledger_shown}, service {settings.host}:{settings.port}")


def _data(session: Session) -> Found:
    if current_version(session.workspace) is None:
        return Found("data", True, "nothing imported yet", NEXT_IMPORT)
    manifest = read_manifest(session.workspace)
    moment = f"{manifest.as_of:%Y-%m-%dT%H:%M:%SZ}"
    return Found("data", True, f"version {manifest.data_version}, as of {moment}, {len(manifest.tables)} tables")


def _champion(session: Session) -> Found:
    champion = read_champion(session.workspace)
    if champion is None:
        return Found("champion", True, "no model serves yet", NEXT_TRAIN)
    manifest, _ = read_parts(bundles_folder(session.workspace) / champion)
    served = f", {manifest['fallback']} serves in its place" if manifest["fallback"] else ""
    return Found("champion", True, f"{champion}, trained as of {manifest['trained_as_of']}{served}")


def _ledger(session: Session) -> Found:
    if not session.workspace.exists() and session.settings.ledger_url.startswith("sqlite"):
        return Found("ledger", True, "is made with the first publication")
    keys = session.ledger.list_keys()
    return Found("ledger", True, f"{session.settings.ledger_shown}, {len(keys)} keys")


def _crm(session: Session) -> Found:
    """The connected CRMs, each asked once."""
    made = connections.made_in(session.workspace)
    if not made:
        return Found("crm", True, "none connected", "dealcast connect NAME KEY=VALUE …")
    told = []
    for name in made:
        connection = connections.read_connection(session.workspace, name)
        once = connection
        if hasattr(connection.settings, "tries"):
            once = replace(connection, settings=replace(connection.settings, tries=1))
        with connections.opened(session.workspace, once) as connector:
            found = connector.survey()
        told.append(f"{found.system}, {found.tables['deals']} deals, scores to {found.writes_to or 'nowhere'}")
    return Found("crm", True, "; ".join(told))
