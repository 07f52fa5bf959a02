"""What tests of the service share: where things are, waiting for them, another model, one request."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pandas as pd

from models.bundle import read_bundle, write_bundle
from models.bundle_store import bundles_folder, read_champion

NOW = pd.Timestamp("2026-01-05 09:00", tz="UTC")


def url_of(workspace: Path) -> str:
    return f"sqlite:///{workspace}/dealcast.db"


def until(condition, seconds=60.0):
    """The first true value of a condition, asked again and again."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return value


RUN = """
import sys
from pathlib import Path
from serving.service import run_service
run_service(Path(sys.argv[1]), port=int(sys.argv[2]), ledger_url=sys.argv[3], workers=int(sys.argv[4]))
"""


class RealServer:
    """BentoML's server of a workspace, as processes of its own."""

    def __init__(
        self,
        workspace: Path,
        log: Path,
        *,
        ledger_url: str | None = None,
        workers: int = 1,
        python: Path = Path(sys.executable),
        **settings: str,
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url, self.log = f"http://127.0.0.1:{self.port}", log
        told = [str(workspace), str(self.port), ledger_url or url_of(workspace), str(workers)]
        self._command = [str(python), "-c", RUN, *told]
        self._environment = {**os.environ, "HOME": str(log.parent), "PYTHONPATH": os.getcwd(), **settings}
        self.start()

    def start(self) -> None:
        with self.log.open("a") as written:
            self.process = subprocess.Popen(
                self._command, cwd=self.log.parent, env=self._environment, stdout=written, stderr=subprocess.STDOUT
            )

    def until_ready(self, seconds: float = 120) -> None:
        until(lambda: self.process.poll() is not None or (fetch(f"{self.url}/readyz") or (0,))[0] == 200, seconds)
        assert self.process.poll() is None, self.log.read_text()

    @staticmethod
    def children(pid: int) -> list[int]:
        """The processes that a process started: of a server's, the workers."""
        command = ["ps", "-o", "pid=", "--ppid", str(pid)]
        return list(map(int, subprocess.run(command, capture_output=True, text=True).stdout.split()))

    def kill(self) -> None:
        """Kill whoever started the workers; they then go by themselves."""
        self.process.kill()
        self.process.wait()
        until(lambda: fetch(f"{self.url}/livez") is None)


def another_model(workspace: Path, **card: object) -> str:
    """A second bundle, told from the champion by its card alone."""
    bundle = read_bundle(bundles_folder(workspace) / read_champion(workspace))
    kept = {key: value for key, value in bundle.manifest.items() if key not in ("model_version", "files")}
    return write_bundle(workspace, replace(bundle, manifest={**kept, **card})).model_version


def fetch(url: str, *, body: object = None, key: str | None = None):
    """Status and JSON (or text) of one request; None where nobody listens yet."""
    headers = {"content-type": "application/json"} | ({"x-api-key": key} if key else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
            status, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as failure:
        status, text = failure.code, failure.read().decode()
    except OSError:
        return None
    return status, json.loads(text) if text.startswith("{") else text
