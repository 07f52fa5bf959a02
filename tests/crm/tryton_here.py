"""A real Tryton beside the tests: installed once into a cache folder, its database copied for each, run on loopback.

It lives in an environment of its own, outside the project: trytond is GPL and never part of ours.
"""

import base64
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from crm_environment import cached, install

PROJECT = Path(__file__).resolve().parents[2]
WEB_CLIENT = PROJECT / "tests" / "crm" / "tryton_web"
SAO = "tryton-sao@8.0.11"
REQUIREMENTS = PROJECT / "requirements" / "tryton.txt"
MODULE = PROJECT / "crm_modules" / "tryton"
PASSWORD = "a-password-of-the-tests"
DEADLINE_SECONDS = 120


def installation() -> Path:
    """The folder with Tryton's environment and database templates; made on the first call, then found again."""
    parts = [
        REQUIREMENTS,
        *sorted(path for path in MODULE.rglob("*") if path.suffix in {".py", ".xml", ".cfg", ".toml"}),
    ]

    def make(folder: Path) -> None:
        install(folder, "Tryton", REQUIREMENTS, MODULE)
        make_templates(folder)

    return cached("tryton", parts, make)


def web_client() -> Path:
    """The folder with Tryton's own web client and what it needs, by npm; made on the first call, then found again."""
    return cached("tryton-web", sorted(WEB_CLIENT.iterdir()), install_web_client)


def install_web_client(folder: Path) -> None:
    """Tryton's web client as npm has it; skips where npm is missing or finds nothing."""
    path = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])  # `make` may bring an npm
    npm = shutil.which("npm", path=path)
    if npm is None:
        pytest.skip("Tryton's web client needs npm: apt-get install npm, or make install")
    for step in (["pack", "--silent", SAO], ["ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]):
        known = {**os.environ, "PATH": path}
        done = subprocess.run([npm, *step], cwd=folder, env=known, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["no word"])[-1]
            pytest.skip(f"Tryton's web client cannot be installed here (npm needs its registry): {said}")
        if step[0] == "pack":
            with tarfile.open(next(folder.glob("*.tgz"))) as archive:
                archive.extractall(folder, filter="data")
            for part in (folder / "package").iterdir():
                part.rename(folder / part.name)
            for part in WEB_CLIENT.iterdir():  # what it runs with, without what it is built with
                shutil.copy(part, folder)
    for name in ("custom.js", "custom.css"):
        (folder / name).touch()


def make_templates(folder: Path) -> None:
    """Two empty databases: one with sale_opportunity as it comes, one with our module too."""
    config = folder / "trytond.conf"
    config.write_text(f"[database]\nuri = sqlite://\npath = {folder}\n[session]\ntimeout = 86400\n")
    (folder / "password").write_text(PASSWORD)
    update(folder, "stock", "sale_opportunity", "--all", "--activate-dependencies")
    shutil.copy(folder / "stock.sqlite", folder / "scored.sqlite")
    update(folder, "scored", "deal_score")


def update(folder: Path, database: str, module: str, *options: str) -> None:
    (folder / f"{database}.sqlite").touch()
    admin = [str(folder / "venv/bin/trytond-admin"), "-c", str(folder / "trytond.conf"), "-d", database]
    subprocess.run(
        [*admin, *options, "-u", module, "--email", "admin@example.com", "-l", "en"],
        env={**os.environ, "TRYTONPASSFILE": str(folder / "password")},
        check=True,
        capture_output=True,
    )


class Tryton:
    """One Tryton with one database, `crm`; its own client, so that what ours reads can be held against it."""

    def __init__(self, installed: Path, folder: Path, template: str) -> None:
        self.installed, self.folder = installed, folder
        self.database = folder / "crm.sqlite"
        shutil.copy(installed / f"{template}.sqlite", self.database)
        self.configure("url = https://dealcast.example.com")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.context: dict[str, Any] = {}

    def configure(self, *of_our_module: str, web: Path | None = None) -> None:
        """Write trytond.conf: what our module is told, and where Tryton's web client is."""
        parts = [f"[database]\nuri = sqlite://\npath = {self.folder}", "[session]\ntimeout = 86400"]
        parts += [f"[web]\nroot = {web}"] if web else []
        parts += ["[deal_score]", *of_our_module]
        (self.folder / "trytond.conf").write_text("\n".join([*parts, ""]))

    @contextmanager
    def running(self) -> Iterator["Tryton"]:
        """Serve until the block ends; stopped by its own process id."""
        with httpx.Client(base_url=self.url, timeout=DEADLINE_SECONDS) as self.client:
            try:
                self.start()
                yield self
            finally:
                self.stop()

    def restart(self) -> None:
        """End the server and begin again, within `running()`."""
        self.stop()
        self.start()

    def start(self) -> None:
        serve = [str(self.installed / "venv/bin/waitress-serve"), "--host", "127.0.0.1", "--port", str(self.port)]
        known = {"TRYTOND_CONFIG": str(self.folder / "trytond.conf"), "TRYTOND_DATABASE_NAMES": "crm"}
        with (self.folder / "trytond.log").open("a") as said:
            command = [*serve, "--threads", "4", "trytond.application:app"]
            self.process = subprocess.Popen(command, env={**os.environ, **known}, stdout=said, stderr=said)
        self.await_answer(self.process)
        user_id, key, *_ = self.post("/crm/rpc/", "common.db.login", "admin", {"password": PASSWORD}, "en")
        session = base64.b64encode(f"admin:{user_id}:{key}".encode()).decode()
        self.client.headers["Authorization"] = f"Session {session}"
        self.context = self.call("res.user.get_preferences", True, {})

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(DEADLINE_SECONDS)

    def await_answer(self, process: subprocess.Popen) -> None:
        give_up_at = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                assert self.post("/rpc/", "common.server.version") == "8.0"
            except httpx.TransportError:
                log = self.folder / "trytond.log"
                assert process.poll() is None and time.monotonic() < give_up_at, log.read_text()
                time.sleep(0.05)
            else:
                return

    def post(self, path: str, method: str, *params: Any) -> Any:
        answer = self.client.post(path, json={"id": 1, "method": method, "params": list(params)}).json()
        assert "error" not in answer, answer
        return answer["result"]

    def call(self, method: str, *params: Any) -> Any:
        """A method of a model, its context given by the caller."""
        return self.post("/crm/rpc/", f"model.{method}", *params)

    def rows(self, model: str, fields: list[str], domain: list[Any] | None = None, **context: Any) -> list[dict]:
        """Records by id; a context `_datetime` reads the past."""
        order = [["id", "ASC"]]
        return self.call(f"{model}.search_read", domain or [], 0, None, order, fields, {**self.context, **context})

    def sql(self) -> sqlite3.Connection:
        """The database itself, while no server runs: to date the past."""
        return sqlite3.connect(self.database)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
