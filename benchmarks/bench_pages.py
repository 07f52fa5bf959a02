"""What the web pages cost: how long they take beside the JSON they show, and how much a browser loads at first.

    python -m benchmarks.bench_pages [--deals 400000]

A made-up company (some 20,000 open deals of 400,000, a rep for every 300) is served by the champion of demo-workspace
(made by `make demo SERVE=0`), in this process. Exits 1 if a page takes more than half a second, what changed a score (a
piece that follows its page) more than twice a what-if, or a first load weighs more than 500 kB.
"""

import argparse
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
from starlette.testclient import TestClient

from benchmarks.big_company import write_company
from benchmarks.big_company_tables import AS_OF
from benchmarks.soak import WORKSPACE
from ledger.ledger import Publication, open_ledger
from models.bundle import read_bundle, write_bundle
from models.bundle_store import bundles_folder, read_champion, set_champion
from serving.api import create_api
from serving.follower import Follower
from serving.pages.assets import LIBRARIES, content

TIMES = 15
MOST_SECONDS, MOST_WHAT_IFS, MOST_BYTES = 0.5, 2.0, 500_000
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
        key = open_ledger(url).create_key("bench", ["read", "what_if"], now=now)[0]
        with TestClient(create_api(workspace, url), headers={"x-api-key": key}) as client:
            while client.get("/readyz").status_code != 200:
                time.sleep(0.5)
            publish_a_week_ago(client.app.state.follower)  # type: ignore[attr-defined]
            return judge(client)


def publish_a_week_ago(follower: Follower) -> None:
    """Let the ledger hold scores of a week before, so that what changed since can be told."""
    state, at = follower.state, follower.state.as_of - pd.Timedelta(days=7)
    head = Publication("scores", "published", at, at, state.bundle.model_version, state.tables.data_version)
    follower.ledger.publish_scores(head, state.scores.assign(as_of=at))


def judge(client: TestClient) -> int:
    """Time pages and their JSON, weigh the first one, and say whether that is what was promised."""
    first = time.perf_counter()
    client.post("/v1/forecast", json={})
    print(f"the forecast, worked out once for a data version: {time.perf_counter() - first:.2f} s")
    nodes = client.post("/v1/forecast", json={}).json()["nodes"]
    api = median_of(lambda: client.post("/v1/forecast", json={}))
    page = median_of(lambda: client.get("/review", headers=SEEN))
    reps = sum(node["node_type"] == "rep" for node in nodes)
    print(f"{reps} reps, {len(nodes)} nodes: review page {page:.3f} s, its JSON {api:.3f} s, ratio {page / api:.2f}")
    slowest = max(page, *beside(client))
    changed, what_if = piece_of(client)
    weight = weight_of(client)
    print(f"first load of the review, compressed: {weight / 1000:.0f} kB (most: {MOST_BYTES / 1000:.0f})")
    return int(slowest > MOST_SECONDS or changed > MOST_WHAT_IFS * what_if or weight > MOST_BYTES)


def beside(client: TestClient) -> Iterator[float]:
    """The seconds of the pages of deals, each printed with those of the JSON that tells the same."""
    ids = client.app.state.follower.state.scores["deal_id"].tolist()  # type: ignore[attr-defined]
    one, fifty = ids[0], {"deal_ids": ids[:50], "explain": False}
    for name, path, ask in (
        (f"the list of {len(ids)} open deals", "/deals?view=all", lambda: client.post("/v1/score", json=fifty)),
        ("the list where rep and model disagree", "/deals", lambda: client.post("/v1/score", json=fifty)),
        ("a deal", f"/deals/{one}", lambda: client.get(f"/v1/deals/{one}")),
    ):
        began = time.perf_counter()
        client.get(path, headers=SEEN).raise_for_status()
        first = time.perf_counter() - began
        page, api = median_of(lambda path=path: client.get(path, headers=SEEN)), median_of(ask)
        print(f"{name}: page {page:.3f} s (the first {first:.2f}), its JSON {api:.3f} s, ratio {page / api:.2f}")
        yield page


def piece_of(client: TestClient) -> tuple[float, float]:
    """The seconds of what changed a deal's score, and of a what-if of the deal, printed."""
    one = client.app.state.follower.state.scores["deal_id"].iloc[0]  # type: ignore[attr-defined]
    what_if = {"deals": [{"deal": client.get(f"/v1/deals/{one}").json()["deal"]}]}
    api = median_of(lambda: client.post("/v1/what_if", json=what_if).raise_for_status())
    piece = median_of(lambda: client.get(f"/change/{one}", headers={**SEEN, "hx-request": "true"}).raise_for_status())
    print(f"what changed a deal's score: {piece:.3f} s, {piece / api:.2f} times a what-if of the deal ({api:.3f} s)")
    return piece, api


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
