"""A real Creme beside the tests: installed once into a cache folder, its database copied for each, run on loopback.

It lives in an environment of its own, outside the project: creme-crm is AGPL and never part of ours.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from crm_environment import cached, install
from tryton_here import DEADLINE_SECONDS, PROJECT, free_port

REQUIREMENTS = PROJECT / "requirements" / "creme.txt"
MODULE = PROJECT / "crm_modules" / "creme"
SETTINGS = PROJECT / "tests" / "crm" / "creme_settings.py"
TOKEN = "a-token-of-the-tests"
LOGIN = "root"
"""Name and password of the administrator whom Creme comes with."""


def installation() -> Path:
    """The folder with Creme's environment, its static files and an empty database; made once, then found again."""
    parts = sorted(path for path in MODULE.rglob("*") if path.suffix in {".py", ".html", ".toml"})

    def make(folder: Path) -> None:
        install(folder, "Creme", REQUIREMENTS, MODULE)
        shutil.copy(SETTINGS, folder)
        for command in (["migrate", "--skip-checks"], ["creme_populate"], ["generatemedia"]):
            manage(folder, folder, *command)

    return cached("creme", [REQUIREMENTS, SETTINGS, *parts], make)


def manage(installed: Path, folder: Path, *command: str, said: str = "", **known: str) -> str:
    """Run one of Creme's own commands on the database of a folder; what it printed."""
    done = subprocess.run(
        [str(installed / "venv/bin/creme"), *command],
        env=environment(installed, folder, **known),
        input=said,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def environment(installed: Path, folder: Path, **known: str) -> dict[str, str]:
    """What Creme finds in its environment: which settings, and where its database is."""
    where = {"DJANGO_SETTINGS_MODULE": "creme_settings", "PYTHONPATH": str(installed), "PYTHONWARNINGS": "ignore"}
    return {**os.environ, **where, "CREME_FOLDER": str(folder), "CREME_INSTALLED": str(installed), **known}


class Creme:
    """One Creme with one database.

    Attributes
    ----------
    tells : where dealcast is, and the key with which it is told of changes; without it nothing is told.
    """

    def __init__(self, installed: Path, folder: Path) -> None:
        self.installed, self.folder = installed, folder
        self.database = folder / "creme.sqlite"
        shutil.copy(installed / "creme.sqlite", self.database)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.tells: dict[str, str] = {}

    def run(self, script: Path, said: Any) -> Any:
        """Run a script in Creme's own process, for what has no address; it reads a document and prints another."""
        command = ("shell", "--command", script.read_text())
        printed = manage(self.installed, self.folder, *command, said=json.dumps(said), **self.tells)
        return json.loads(printed.strip().splitlines()[-1])

    @contextmanager
    def running(self) -> Iterator["Creme"]:
        """Serve until the block ends; stopped by its own process id."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def start(self) -> None:
        """Serve; it answers when this returns."""
        serve = [str(self.installed / "venv/bin/waitress-serve"), "--host", "127.0.0.1", "--port", str(self.port)]
        command = [*serve, "--threads", "4", "--call", "django.core.wsgi:get_wsgi_application"]
        known = environment(self.installed, self.folder, CREME_PORT=str(self.port), **self.tells)
        with (self.folder / "creme.log").open("a") as said:
            self.process = subprocess.Popen(command, env=known, stdout=said, stderr=said)
        give_up_at = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                assert httpx.get(f"{self.url}/creme_login/", timeout=DEADLINE_SECONDS).is_success
            except httpx.TransportError:
                log = self.folder / "creme.log"
                assert self.process.poll() is None and time.monotonic() < give_up_at, log.read_text()
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """End the server."""
        self.process.terminate()
        self.process.wait(DEADLINE_SECONDS)

    def ask(self, what: str, **asked: Any) -> Any:
        """What our app says."""
        headers = {"authorization": f"Bearer {TOKEN}"}
        answer = httpx.post(f"{self.url}/deal_score/{what}", json=asked, headers=headers, timeout=DEADLINE_SECONDS)
        assert answer.is_success, (answer.status_code, answer.text[:2000])
        return answer.json()
