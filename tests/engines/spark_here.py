"""A Spark that tests can use: whether Java is here, and a small cluster of processes that listen on loopback alone."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HAS_JAVA = shutil.which("java") is not None or "JAVA_HOME" in os.environ

needs_java = pytest.mark.skipif(not HAS_JAVA, reason="no Java: sudo apt-get install openjdk-17-jre-headless")

SMALL = {"memory_limit": 640, "settings": {"spark.sql.shuffle.partitions": "2"}}
"""Of an engine for a few rows: the least heap that Spark takes, and no hundreds of empty tasks."""


@contextmanager
def cluster(folder: Path, *, workers: int = 2) -> Iterator[str]:
    """A standalone master and its workers on free ports of 127.0.0.1; gives the master's URL.

    `folder`/worker-N holds what each worker ran.
    """
    started: list[subprocess.Popen] = []
    try:
        master, line = _daemon("master.Master", "--webui-port", "0", until="Starting Spark master at ", started=started)
        url = line.split("Starting Spark master at ")[1].strip()
        for number in range(workers):
            own = folder / f"worker-{number}"
            size = ("--cores", "1", "--memory", "1g", "--webui-port", "0", "--work-dir", str(own))
            _daemon("worker.Worker", *size, url, until="Successfully registered with master", started=started)
        assert master.poll() is None
        yield url
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(timeout=60)


def _daemon(name: str, *arguments: str, until: str, started: list) -> tuple[subprocess.Popen, str]:
    """A daemon that has written `until`, and that line; `spark-class` becomes Java, so its process id is Java's."""
    import pyspark

    home = Path(pyspark.__file__).parent
    environment = {**os.environ, "SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m"}
    command = [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}"]
    command += ["--host", "127.0.0.1", "--port", "0", *arguments]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    started.append(process)
    said = []
    for line in process.stderr:
        said.append(line)
        if until in line:
            threading.Thread(target=process.stderr.read, daemon=True).start()  # or the pipe fills and it stops
            return process, line
    raise AssertionError(f"{name} ended before it was ready:\n{''.join(said)}")


def children() -> set[int]:
    """Ids of the processes that this one started, at any remove."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = status.read_text()
        except OSError:
            continue  # it ended meanwhile
        parents[int(status.parent.name)] = int(text.rsplit(")", 1)[1].split()[1])
    found, fresh = set(), {os.getpid()}
    while fresh:
        fresh = {process for process, parent in parents.items() if parent in fresh}
        found |= fresh
    return found


def listening_addresses(processes: set[int]) -> set[str]:
    """Addresses, as the kernel writes them in hex, on which these processes wait for connections."""
    sockets = set()
    for process in processes:
        for handle in Path(f"/proc/{process}/fd").glob("*"):
            try:
                sockets.add(os.readlink(handle))
            except OSError:
                continue
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and f"socket:[{columns[9]}]" in sockets:
                addresses.add(columns[1].split(":")[0])
    return addresses
