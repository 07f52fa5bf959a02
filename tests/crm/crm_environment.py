"""Environments of real CRMs: each its own, outside the project, kept in a cache folder from one run to the next."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


def cached(name: str, parts: list[Path], make: Callable[[Path], None]) -> Path:
    """A folder of the tests' cache, made anew whenever its parts or Python change."""
    key = hashlib.sha256(sys.version.encode() + b"".join(part.read_bytes() for part in parts)).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dealcast-tests"
    folder = cache / f"{name}-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}-{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (folder / "ready").touch()
    return folder


def install(folder: Path, name: str, requirements: Path, module: Path) -> None:
    """A CRM, and our module built from a copy, so that nothing is left in the project; skips without an index."""
    uv = [sys.executable, "-m", "uv"]
    copy = shutil.copytree(module, folder / "module", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    into = ["pip", "install", "--quiet", "--python", str(folder / "venv/bin/python")]
    for step in (
        ["venv", "--quiet", "--python", sys.executable, str(folder / "venv")],
        [*into, "--require-hashes", "-r", str(requirements)],
        [*into, "--no-deps", str(copy)],
    ):
        done = subprocess.run([*uv, *step], capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["no word"])[-1]
            pytest.skip(f"{name} cannot be installed here (a package index is needed): {said}")
