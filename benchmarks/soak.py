"""Does the service stay quick and lean under steady load?

    python -m benchmarks.soak [MINUTES]

Serves demo-workspace (made by `make demo SERVE=0`) to eight clients that ask for scores, deals and the forecast, and
prints per minute: requests a second, the slowest hundredth, failures, and the memory of all its processes. Exit 1 if a
request failed or memory grew by more than a tenth after the first minute.
"""

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

WORKSPACE = Path("demo-workspace")
CLIENTS = 8
MOST_GROWTH = 1.10


def dealcast(*arguments: str) -> dict:
    """One command on the demo's workspace: its document."""
    command = [Path(sys.executable).with_name("dealcast"), "--workspace", WORKSPACE, "--json", *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def call(url: str, key: str = "", body: object = None) -> bytes:
    """One request; raises if it is not answered with success."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"x-api-key": key, "content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answered:
        return answered.read()


def ready(url: str) -> bool:
    """Whether the service answers."""
    try:
        return bool(call(f"{url}/readyz"))
    except OSError:
        return False


def ask(
    url: str, key: str, deal_ids: list[str], seconds: list[float], failures: list[str], ended: threading.Event
) -> None:
    """One client: the same three questions, one after the other, until told to end."""
    questions = (("/v1/score", {"deal_ids": deal_ids[:50]}), (f"/v1/deals/{deal_ids[0]}", None), ("/v1/forecast", {}))
    while not ended.is_set():
        for path, body in questions:
            started = time.perf_counter()
            try:
                call(url + path, key, body)
                seconds.append(time.perf_counter() - started)
            except OSError as failure:
                failures.append(f"{path}: {failure}")


def memory_of(parent: int) -> float:
    """Resident megabytes of a process and everything below it."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,rss"], check=True, capture_output=True, text=True).stdout
    rows = [tuple(map(int, line.split())) for line in listed.splitlines()[1:]]
    family = {parent}
    while grown := {pid for pid, above, _ in rows if above in family} - family:
        family |= grown
    return sum(size for pid, _, size in rows if pid in family) / 1024


def main(minutes: int) -> int:
    """Soak the service and tell what happened, minute by minute."""
    deal_ids = [score["deal_id"] for score in dealcast("score")["scores"]]
    key = dealcast("keys", "create", f"soak-{time.time():.0f}", "--scope", "read")
    port = free_port()
    url, ended, memory = f"http://127.0.0.1:{port}", threading.Event(), []
    command = [Path(sys.executable).with_name("dealcast"), "--workspace", WORKSPACE, "serve", "--port", str(port)]
    service = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds: list[float] = []
    failures: list[str] = []
    try:
        while not ready(url):
            time.sleep(0.5)
        clients = [
            threading.Thread(target=ask, args=(url, key["key"], deal_ids, seconds, failures, ended), daemon=True)
            for _ in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        for minute in range(1, minutes + 1):
            before = len(seconds)
            time.sleep(60)
            latest = sorted(seconds[before:])
            memory.append(memory_of(service.pid))
            slowest = latest[int(len(latest) * 0.99)] * 1000 if latest else float("nan")
            print(
                f"minute {minute}: {len(latest) / 60:.0f} requests/s, 99 % within {slowest:.0f} ms, "
                f"{len(failures)} failed, {memory[-1]:.0f} MB",
                flush=True,
            )
        ended.set()
        for client in clients:
            client.join()
    finally:
        service.terminate()
        service.wait(30)
        dealcast("keys", "revoke", key["key_id"])
    return int(bool(failures) or memory[-1] > memory[0] * MOST_GROWTH)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
