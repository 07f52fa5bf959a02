"""Does the service stay quick, lean and right under steady load, while much goes on around it?

    python -m benchmarks.soak [MINUTES]

Serves a copy of demo-workspace (made by `make demo SERVE=0`) with two workers. First as fast as it can for a few
seconds, then for half an hour at 70 % of that: scores, deals and forecasts, while models are promoted back and forth,
events come in, and one of the workers is told to end and started anew. Prints every minute the answers a second, the
slowest hundredth, what failed, and the memory. Exit 1 if a request failed that was not refused on purpose (503 or 429
with Retry-After), an event was not taken in, or the worker that stays grew by more than a tenth after the first third.
"""

import asyncio
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from benchmarks.load import answered, measure, request_of
from crm.plain import to_plain
from crm.store import read_tables
from ledger.ledger import open_ledger
from models.bundle import read_bundle, write_bundle
from models.bundle_store import bundles_folder, read_champion, set_champion

WORKSPACE = Path("demo-workspace")
CONNECTIONS = 16
SHARE_OF_PEAK = 0.7
MOST_GROWTH = 1.10
REFUSED = (429, 503)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def call(url: str, key: str = "", body: object = None) -> bytes:
    """One request; raises if it is not answered with success."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"x-api-key": key, "content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


def ready(url: str) -> bool:
    """Whether the service answers."""
    try:
        return call(url) is not None
    except OSError:
        return False


def processes_below(parent: int) -> dict[int, int]:
    """Resident kilobytes of a process and everything below it, by process id."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,rss"], check=True, capture_output=True, text=True).stdout
    rows = [tuple(map(int, line.split())) for line in listed.splitlines()[1:]]
    family = {parent}
    while grown := {pid for pid, above, _ in rows if above in family} - family:
        family |= grown
    return {pid: size for pid, _, size in rows if pid in family}


def memory_of(parent: int) -> float:
    """Resident megabytes of a process and everything below it."""
    return sum(processes_below(parent).values()) / 1024


def processor_seconds(parent: int) -> float:
    """Seconds that processors have worked for a process and everything below it."""
    seconds = 0.0
    for pid in processes_below(parent):
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists():
            seconds += sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")
    return seconds


def workers_of(parent: int) -> list[int]:
    """The processes that a server started itself."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True).stdout
    return list(map(int, listed.split()))


@dataclass
class Told:
    """What clients were told: the seconds of each answer, how often each status came, and what failed."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


async def ask_steadily(url: str, requests: Sequence[bytes], rate: float, seconds: float, told: Told) -> None:
    """Ask at a steady rate over a few connections; one that the server closed between two requests is opened anew."""
    host, port = url.removeprefix("http://").split(":")
    turn, began = itertools.cycle(requests), time.perf_counter()

    async def client(place: int) -> None:
        streams = None
        for number in itertools.count(place, CONNECTIONS):
            due = began + number / rate
            if max(due, time.perf_counter()) > began + seconds:  # also where answers do not keep up with the rate
                break
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            asked, request = time.perf_counter(), next(turn)
            for last in (False, True):
                try:
                    streams = streams or await asyncio.open_connection(host, int(port), limit=2**24)
                    streams[1].write(request)
                    status = await answered(streams[0])
                    told.statuses[status] += 1
                    if status != 200 and status not in REFUSED:
                        told.failures.append(f"status {status}")
                    break
                except (OSError, asyncio.IncompleteReadError) as failure:
                    streams = None
                    if last or (isinstance(failure, asyncio.IncompleteReadError) and failure.partial):
                        told.failures.append(repr(failure))
                        break
            told.seconds.append(time.perf_counter() - asked)
        if streams is not None:
            streams[1].close()

    await asyncio.gather(*(client(place) for place in range(CONNECTIONS)))


class Around:
    """What goes on around the load: promotions, events, and workers that end and are started anew."""

    def __init__(self, workspace: Path, url: str, key: str, server: int) -> None:
        self.workspace, self.url, self.key, self.server = workspace, url, key, server
        self.stays = workers_of(server)[0]
        champion = str(read_champion(workspace))
        bundle = read_bundle(bundles_folder(workspace) / champion)
        kept = {name: value for name, value in bundle.manifest.items() if name not in ("model_version", "files")}
        other = write_bundle(workspace, replace(bundle, manifest={**kept, "limits": ["the other one"]}))
        self.models = itertools.cycle((other.model_version, champion))
        self.tables = read_tables(workspace)
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self.over = threading.Event()

    def run(self, every: float) -> None:
        """Take turns until it is over."""
        dice, turn = random.Random(6), itertools.cycle((self.send, self.send, self.promote, self.send, self.restart))
        while not self.over.wait(every):
            try:
                next(turn)(dice)
            except Exception as failure:
                self.failures.append(repr(failure))

    def promote(self, dice: random.Random) -> None:
        """Another champion."""
        now = pd.Timestamp.now("UTC")
        set_champion(self.workspace, next(self.models), by="soak", reason="back and forth", at=now)
        self.counts["promotions"] += 1

    def send(self, dice: random.Random) -> None:
        """A deal's row as it changed."""
        deal = self.tables.get("deals").iloc[dice.randrange(len(self.tables.get("deals")))]
        number = self.counts["events"]
        told_at = to_plain(self.tables.as_of + (number + 1) * pd.Timedelta(minutes=1))
        row = {"deal_id": deal["deal_id"], "created_at": to_plain(deal["created_at"]), "stage": deal["stage"]}
        row |= {"amount": 1000 + number, "updated_at": told_at}
        body = {"events": [{"event_id": f"soak{number}", "table": "deals", "row": row}]}
        for _ in range(2):  # a connection to a worker that ends may be refused: the same event is sent again
            try:
                (result,) = json.loads(call(f"{self.url}/v1/events", self.key, body))["results"]
                break
            except urllib.error.HTTPError as failure:
                if failure.code not in REFUSED:
                    raise
                return
            except OSError:
                self.counts["events sent again"] += 1
        if result["status"] not in ("accepted", "duplicate"):
            raise AssertionError(result)
        self.counts["events"] += 1

    def restart(self, dice: random.Random) -> None:
        """One of the two workers ends, if both are there, and is started anew; the other stays for all the time."""
        workers = workers_of(self.server)
        if len(workers) == 2 and ready(f"{self.url}/readyz"):
            os.kill(next(pid for pid in workers if pid != self.stays), signal.SIGTERM)
            self.counts["restarts"] += 1


def soak(workspace: Path, *, seconds: float, every: float, report_every: float = 60.0) -> list[str]:
    """Serve a workspace under load and say what went wrong; what happened is printed.

    Parameters
    ----------
    seconds : how long.
    every : seconds between two of promotion, event and restart.
    """
    ledger = open_ledger(f"sqlite:///{workspace.resolve() / 'dealcast.db'}")
    key, _ = ledger.create_key(f"soak {time.time():.0f}", ["admin"], now=pd.Timestamp.now("UTC"))
    port = free_port()
    url, told = f"http://127.0.0.1:{port}", Told()
    command = [Path(sys.executable).with_name("dealcast"), "--workspace", workspace, "serve", "--port", str(port)]
    server = subprocess.Popen([*command, "--workers", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (ready(f"{url}/readyz") and len(workers_of(server.pid)) == 2):
            assert server.poll() is None, "the service does not start"
            time.sleep(0.2)
        requests = questions(url, key, read_tables(workspace).get("deals")["deal_id"].tolist()[-1000:])
        peak = measure(url, requests, connections=CONNECTIONS, seconds=min(10.0, seconds / 6)).per_second
        print(f"peak {peak:.0f} a second; now {SHARE_OF_PEAK:.0%} of it for {seconds:.0f} s", flush=True)
        around = Around(workspace, url, key, server.pid)
        beside = threading.Thread(target=around.run, args=(every,))
        beside.start()
        memory = []
        for _ in range(max(int(seconds / report_every), 3)):
            before = len(told.seconds)
            lasts = min(report_every, seconds / 3)
            asyncio.run(ask_steadily(url, requests, SHARE_OF_PEAK * peak, lasts, told))
            memory.append(processes_below(server.pid)[around.stays] / 1024)
            latest = sorted(told.seconds[before:])
            print(
                f"{len(latest) / lasts:.0f} a second, 99 % within {1000 * latest[int(0.99 * len(latest))]:.0f} ms, "
                f"{dict(told.statuses)}, {len(told.failures)} failed, {memory[-1]:.0f} MB in the worker that stays, "
                f"{memory_of(server.pid):.0f} in all, {dict(around.counts)}",
                flush=True,
            )
        around.over.set()
        beside.join()
    finally:
        server.terminate()
        server.wait(120)
        ledger.engine.dispose()
    steady = memory[len(memory) // 3]
    growth = [f"memory grew from {steady:.0f} to {memory[-1]:.0f} MB"] if memory[-1] > MOST_GROWTH * steady else []
    return [*told.failures[:10], *around.failures, *growth]


def questions(url: str, key: str, deal_ids: list[str]) -> list[bytes]:
    """Requests as a CRM sends them: mostly one deal's score, some lists, a deal's page, a forecast now and then."""
    scores = json.loads(call(f"{url}/v1/score", key, {"deal_ids": deal_ids}))["scores"]
    open_ids = [score["deal_id"] for score in scores]
    asked = [request_of(f"{url}/v1/score", {"deal_ids": [deal_id]}, key) for deal_id in open_ids[:40]]
    asked += [request_of(f"{url}/v1/score", {"deal_ids": open_ids[:50]}, key)] * 5
    asked += [request_of(f"{url}/v1/deals/{deal_id}", None, key) for deal_id in open_ids[:4]]
    asked += [request_of(f"{url}/v1/forecast", {"node_type": "company"}, key)]
    random.Random(6).shuffle(asked)
    return asked


def main(minutes: float) -> int:
    """Soak the service and tell what happened, minute by minute."""
    with tempfile.TemporaryDirectory(prefix="dealcast-soak-") as folder:
        workspace = Path(shutil.copytree(WORKSPACE, Path(folder) / "workspace"))
        wrong = soak(workspace, seconds=60 * minutes, every=6.0)
    for each in wrong:
        print(f"WRONG  {each}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 30.0))
