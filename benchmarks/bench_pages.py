"""What the web pages cost: how long the review takes beside the JSON it shows, and how much a browser loads at first.

    python -m benchmarks.bench_pages [--deals 400000]

A made-up company (some 20,000 open deals of 400,000, a rep for every 300) is served by the champion of demo-workspace
(made by `make demo SERVE=0`), in this process. Exits 1 if the review page takes more than half a second, or a first
load weighs more than 500 kB.
"""

import argparse
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
from starlette.testclient import TestClient

from benchmarks.big_company import write_company
from benchmarks.big_company_tables import AS_OF
from benchmarks.soak import WORKSPACE
from ledger.ledger import open_ledger
from models.bundle import read_bundle, write_bundle
from models.bundle_store import bundles_folder, read_champion, set_champion
from serving.api import create_api
from serving.pages.assets import LIBRARIES, content

TIMES = 15
MOST_SECONDS, MOST_BYTES = 0.5, 500_000
SEEN = {"accept-encoding": "gzip", "accept": "text/html"}


def main() -> int:
    """Print medians of the page and of its JSON, and the bytes of a first load."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--deals", type=int, default=400_000)
    chosen = arguments.parse_args()
    logging.getLogger("dealcast").addHandler(logging.NullHandler())  # else each request is a line
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "workspace"
        write_company(workspace, deals=chosen.deals, seed=1)
        bundle = read_bundle(bundles_folder(WORKSPACE) / str(read_champion(WORKSPACE)))
        kept = {key: value for key, value in bundle.manifest.items() if key not in ("model_version", "files")}
        manifest = {**kept, "trained_as_of": AS_OF.isoformat()}  # a model answers for no moment before its training
        version = write_bundle(workspace, replace(bundle, manifest=manifest)).model_version
        now = pd.Timestamp.now("UTC")
        set_champion(workspace, version, by="bench", reason="bench", at=now)
        url = f"sqlite:///{workspace}/dealcast.db"
        key = open_ledger(url).create_key("bench", ["read"], now=now)[0]
        with TestClient(create_api(workspace, url), headers={"x-api-key": key}) as client:
            while client.get("/readyz").status_code != 200:
                time.sleep(0.5)
            return judge(client)


def judge(client: TestClient) -> int:
    """Time both, weigh the page, and say whether that is what was promised."""
    first = time.perf_counter()
    client.post("/v1/forecast", json={})
    print(f"the forecast, worked out once for a data version: {time.perf_counter() - first:.2f} s")
    nodes = client.post("/v1/forecast", json={}).json()["nodes"]
    api = median_of(lambda: client.post("/v1/forecast", json={}))
    page = median_of(lambda: client.get("/review", headers=SEEN))
    reps = sum(node["node_type"] == "rep" for node in nodes)
    print(f"{reps} reps, {len(nodes)} nodes: review page {page:.3f} s, its JSON {api:.3f} s, ratio {page / api:.2f}")
    weight = weight_of(client)
    print(f"first load of the review, compressed: {weight / 1000:.0f} kB (most: {MOST_BYTES / 1000:.0f})")
    return int(page > MOST_SECONDS or weight > MOST_BYTES)


def median_of(ask: Callable[[], object]) -> float:
    """The median of some timings, the first left out."""
    seconds = []
    for _ in range(TIMES + 1):
        began = time.perf_counter()
        ask()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def weight_of(client: TestClient) -> int:
    """The bytes of the page and of everything it loads, as they travel."""
    with client.stream("GET", "/review", headers=SEEN) as answer:
        page = sum(len(part) for part in answer.iter_raw())
    return page + sum(len(content(name)[1]) for name in ("style.css", "pages.js", "charts.js", "mark.svg", *LIBRARIES))


if __name__ == "__main__":
    sys.exit(main())
