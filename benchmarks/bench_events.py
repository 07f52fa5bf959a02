"""How soon is an event in the scores?

    python -m benchmarks.bench_events [EVENTS]

Serves a copy of demo-workspace (made by `make demo SERVE=0`) and sends it deals' rows, one after the other. Prints for
each when it was answered, when the deal's score showed it, and when all other scores had followed, in seconds.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from benchmarks.soak import WORKSPACE, call, free_port, ready
from crm.plain import to_plain
from crm.store import read_tables

LOOK_EVERY_SECONDS = 0.05


def main(events: int) -> int:
    """Send the events and tell what happened."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(shutil.copytree(WORKSPACE, Path(folder) / "workspace"))
        command = [str(Path(sys.executable).with_name("dealcast")), "--workspace", str(workspace)]
        create = [*command, "--json", "keys", "create", "bench", "--scope", "read,events"]
        key = json.loads(subprocess.run(create, check=True, capture_output=True, text=True).stdout)["key"]
        port = free_port()
        serve = [*command, "serve", "--port", str(port)]
        service = subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            send(workspace, f"http://127.0.0.1:{port}", key, events)
        finally:
            service.terminate()
            service.wait(60)
    return 0


def send(workspace: Path, url: str, key: str, events: int) -> None:
    """Send rows of open deals, each with an amount of its own, and watch for it."""
    while not ready(f"{url}/readyz"):
        time.sleep(0.5)
    tables = read_tables(workspace)
    deals = tables.get("deals").set_index("deal_id")

    def scored(*deal_ids: str) -> dict:
        return json.loads(call(f"{url}/v1/score", key, {"deal_ids": list(deal_ids), "explain": False}))

    open_deals = [score["deal_id"] for score in scored(*deals.index[-1000:])["scores"]]
    for place, deal_id in enumerate(open_deals[:events], start=1):
        told_at = to_plain(tables.as_of + place * pd.Timedelta(minutes=10))
        row = {"deal_id": deal_id, "created_at": to_plain(deals.loc[deal_id, "created_at"]), "amount": 5000 + place}
        row |= {"stage": deals.loc[deal_id, "stage"], "currency": tables.calendar.base_currency, "updated_at": told_at}
        began = time.perf_counter()
        call(f"{url}/v1/events", key, {"events": [{"event_id": str(place), "table": "deals", "row": row}]})
        seconds = {"answered": time.perf_counter() - began}
        while scored(deal_id)["scores"][0]["amount_base"] != 5000 + place:
            time.sleep(LOOK_EVERY_SECONDS)
        seconds["shown"] = time.perf_counter() - began
        while scored(deal_id)["stale"]:
            time.sleep(LOOK_EVERY_SECONDS)
        seconds["all followed"] = time.perf_counter() - began
        print(", ".join(f"{what} {value:.2f}" for what, value in seconds.items()), flush=True)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 12))
