"""A PostgreSQL of our own on a unix socket, which a test may stop, kill and start again."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
import sqlalchemy as sa


class Postgres:
    """One server in a folder of its own."""

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        initdb = shutil.which("initdb") or (str(found[-1]) if found else None)
        if initdb is None:
            pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
        self.folder = Path(tempfile.mkdtemp(prefix="dealcast-pg-"))
        self._as_postgres = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(self.folder, "postgres")
            self._as_postgres = ["runuser", "-u", "postgres", "--"]
        self._control = str(Path(initdb).with_name("pg_ctl"))
        self._run(initdb, "-D", f"{self.folder}/data", "-U", "postgres", "-A", "trust", "-N")

    def _run(self, *command: str) -> None:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([*self._as_postgres, *command], check=True, cwd=self.folder, **quiet)

    def _pg_ctl(self, *command: str) -> None:
        self._run(self._control, "-D", f"{self.folder}/data", "-w", *command)

    def start(self) -> None:
        """Start, and wait until it answers."""
        # Commits outlive a killed process also without fsync; only a power cut needs it.
        options = f"-c listen_addresses='' -c fsync=off -k {self.folder}"
        self._pg_ctl("-l", f"{self.folder}/log", "-o", options, "start")

    def stop(self) -> None:
        """Stop at once."""
        self._pg_ctl("-m", "immediate", "stop")

    def kill(self) -> None:
        """Kill the server and all its processes outright."""
        pid = int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
        for each in (pid, *map(int, listed.split())):
            try:
                os.kill(each, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def remove(self) -> None:
        """Stop and forget."""
        self.stop()
        shutil.rmtree(self.folder)

    def database(self) -> str:
        """The URL of a new database."""
        name = "ledger_" + os.urandom(4).hex()
        server = sa.create_engine(self._url("postgres", "postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        with server.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        server.dispose()
        return self._url(name, "postgresql")

    def _url(self, name: str, driver: str) -> str:
        return f"{driver}://postgres@/{name}?host={self.folder}"
