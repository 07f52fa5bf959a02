"""The service under load, beside what one would serve a booster with otherwise, on the same machine in one run.

    python -m benchmarks.bench_serving [SECONDS]

Serves a copy of demo-workspace (made by `make demo SERVE=0`). The others serve the boosters of the same champion: one
encoded row in, the intensities of winning and losing out, without calibration, ranges, dates, money, reasons, keys or
log: `mlflow models serve` on a pyfunc of them, a FastAPI application of twenty lines, and a loop. Each server has one
worker. Latencies are as the client sees them, and it shares the processors with the server; the processor's
time that an answer takes is the server's alone, and nearly the same on a busy machine. Exit 1 if a goal is missed:

- by id, more than 1.5 times the answers a second of `mlflow models serve`, at every concurrency;
- what-ifs in bulk within twice the time a deal that the bare steps take: facts to features, `predict` and
  `pred_contrib` of both boosters.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.load import Load, measure, request_of
from benchmarks.soak import WORKSPACE, free_port, memory_of, processor_seconds, ready
from crm.history import build_history, open_deals
from crm.proposals import read_proposals
from crm.store import read_tables
from features.build import build_features
from features.sources import build_sources, overlay_sources
from models.bins import bin_rows, build_grid, read_clocks
from models.bundle import Bundle, bundle_for
from serving.schema import rows_of

CONNECTIONS = (1, 16, 64)
IN_BULK = 100
BY_ID_GOAL = 1.5
BULK_GOAL = 2.0
PARTS = {"history": "deal_history", "activities": "activities", "contacts": "deal_contacts"}

PYFUNC = """
import lightgbm, mlflow, numpy as np

class Boosters(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.boosters = [lightgbm.Booster(model_file=context.artifacts[cause]) for cause in ("won", "lost")]

    def predict(self, context, model_input, params=None):
        rows = np.asarray(model_input, dtype=float)
        return np.column_stack([booster.predict(rows, num_threads=1) for booster in self.boosters])

mlflow.models.set_model(Boosters())
"""

FASTAPI = """
import sys
import lightgbm, numpy as np, uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

boosters = [lightgbm.Booster(model_file=f"{sys.argv[1]}/{cause}.txt") for cause in ("won", "lost")]
api = FastAPI()

class Rows(BaseModel):
    rows: list[list[float | None]]

@api.get("/ping")
async def ping():
    return {}

@api.post("/invocations")
async def predict(asked: Rows):
    rows = np.array(asked.rows, dtype=float)
    return {"predictions": np.column_stack([b.predict(rows, num_threads=1) for b in boosters]).tolist()}

uvicorn.run(api, port=int(sys.argv[2]), log_level="warning", access_log=False)
"""


def main(seconds: float) -> int:
    """Measure everybody, one after the other, and judge the goals."""
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} when this began; each figure {seconds:g} s")
    with tempfile.TemporaryDirectory(prefix="dealcast-bench-") as folder:
        workspace = Path(shutil.copytree(WORKSPACE, Path(folder) / "workspace"))
        tables = read_tables(workspace)
        bundle = bundle_for(workspace, tables.as_of, tables.as_of)
        seen, history = bundle.read_history(tables)
        spine = open_deals(history, tables.as_of)
        rows = encoded_rows(bundle, build_features(seen, history, spine), tables.calendar)
        for cause, intensity in bundle.hazards.intensities.items():
            intensity.trees.save_model(str(Path(folder) / f"{cause}.txt"))
        ours = by_id(workspace, spine["deal_id"].tolist(), seconds)
        theirs = {
            name: serve(Path(folder), rows, seconds)
            for name, serve in (("mlflow models serve", with_mlflow), ("minimal FastAPI", with_fastapi))
        }
        loop(bundle, rows, seconds)
        proposals = [proposal_of(tables, deal_id) for deal_id in spine["deal_id"].head(IN_BULK)]
        each = what_ifs(workspace, proposals, seconds)
        least = bare_seconds(bundle, tables, proposals)
    return judge(ours, theirs["mlflow models serve"], each, least)


def judge(ours: dict[int, Load], theirs: dict[int, Load], each: float, least: float) -> int:
    """Print whether the goals hold; 1 if one does not."""
    ratio = min(ours[at].per_second / theirs[at].per_second for at in CONNECTIONS)
    goals = {
        f"by id {ratio:.2f} times mlflow models serve, at least {BY_ID_GOAL}": ratio >= BY_ID_GOAL,
        f"what-if in bulk {each / least:.2f} times the bare steps, at most {BULK_GOAL:g}": each <= BULK_GOAL * least,
    }
    for goal, holds in goals.items():
        print(f"{'holds ' if holds else 'MISSED'}  {goal}")
    return int(not all(goals.values()))


@contextmanager
def running(command: list[str], url: str, name: str, **environment: str) -> Iterator[int]:
    """A server, until it is not needed any more: its process; its memory is printed at the end."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **environment}
    )
    try:
        while not ready(url):
            assert process.poll() is None, f"{name} does not start"
            time.sleep(0.2)
        yield process.pid
        print(f"{name}: {memory_of(process.pid):.0f} MB resident in all its processes")
    finally:
        process.terminate()
        process.wait(60)


def at_each(name: str, url: str, requests: list[bytes], seconds: float, server: int) -> dict[int, Load]:
    """Measure and print at every concurrency."""
    loads = {}
    for connections in CONNECTIONS:
        before = processor_seconds(server)
        load = loads[connections] = measure(url, requests, connections=connections, seconds=seconds)
        # Warming up counts as well: it is in the processor's time, and so it is counted among the answers here.
        worked = 1000 * (processor_seconds(server) - before) / (len(load.seconds) + load.before)
        print(f"{name:28} {connections:3} at once {load}   {worked:6.2f} ms of processor each", flush=True)
    return loads


@contextmanager
def dealcast(workspace: Path, scopes: str) -> Iterator[tuple[str, str, int]]:
    """The service of a workspace, with one worker: its address and a key."""
    command = [str(Path(sys.executable).with_name("dealcast")), "--workspace", str(workspace)]
    create = [*command, "--json", "keys", "create", f"bench {scopes}", "--scope", scopes]
    key = json.loads(subprocess.run(create, check=True, capture_output=True, text=True).stdout)["key"]
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running(
        [*command, "serve", "--port", str(port)], f"{url}/readyz", "dealcast serve, one worker and who starts it"
    ) as server:
        yield url, key, server


def by_id(workspace: Path, deal_ids: list[str], seconds: float) -> dict[int, Load]:
    """Whole scores with reasons, one deal a request; and the same in bulk."""
    with dealcast(workspace, "read") as (url, key, server):
        one = [request_of(f"{url}/v1/score", {"deal_ids": [deal_id]}, key) for deal_id in deal_ids]
        loads = at_each("dealcast by id", url, one, seconds, server)
        many = [request_of(f"{url}/v1/score", {"deal_ids": deal_ids[:IN_BULK]}, key)]
        at_each(f"dealcast by id, {IN_BULK} deals each", url, many, seconds, server)
    return loads


def what_ifs(workspace: Path, proposals: list[dict], seconds: float) -> float:
    """Proposed deals, one a request and in bulk: seconds a deal in bulk, one request at a time."""
    with dealcast(workspace, "what_if") as (url, key, server):
        one = [request_of(f"{url}/v1/what_if", {"deals": [each]}, key) for each in proposals]
        at_each("dealcast what-if", url, one, seconds, server)
        many = [request_of(f"{url}/v1/what_if", {"deals": proposals}, key)]
        load = measure(url, many, connections=1, seconds=max(seconds, 10))
        print(f"{f'dealcast what-if, {IN_BULK} deals each':28}   1 at once {load}")
    return load.within(0.5) / 1000 / len(proposals)


def with_mlflow(folder: Path, rows: np.ndarray, seconds: float) -> dict[int, Load]:
    """`mlflow models serve` on a pyfunc of the boosters, one row a request."""
    import mlflow

    (folder / "boosters.py").write_text(PYFUNC)
    artifacts = {cause: str(folder / f"{cause}.txt") for cause in ("won", "lost")}
    mlflow.pyfunc.save_model(
        str(folder / "pyfunc"), python_model=str(folder / "boosters.py"), artifacts=artifacts, pip_requirements=[]
    )
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder / "pyfunc"), "-p", str(port)]
    command += ["--env-manager", "local", "--workers", "1"]
    columns = [f"f{place}" for place in range(rows.shape[1])]
    asked = [{"dataframe_split": {"columns": columns, "data": [row]}} for row in listed(rows)]
    with running(
        command, f"{url}/ping", "mlflow models serve", PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ) as server:
        return at_each(
            "mlflow models serve", url, [request_of(f"{url}/invocations", each) for each in asked], seconds, server
        )


def with_fastapi(folder: Path, rows: np.ndarray, seconds: float) -> dict[int, Load]:
    """The bare boosters behind a minimal FastAPI application, one row a request."""
    (folder / "app.py").write_text(FASTAPI)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running(
        [sys.executable, str(folder / "app.py"), str(folder), str(port)], f"{url}/ping", "minimal FastAPI"
    ) as server:
        asked = [request_of(f"{url}/invocations", {"rows": [row]}) for row in listed(rows)]
        return at_each("minimal FastAPI", url, asked, seconds, server)


def listed(rows: np.ndarray) -> list[list[float | None]]:
    """Rows as JSON has them."""
    return [[None if np.isnan(value) else float(value) for value in row] for row in rows]


def loop(bundle: Bundle, rows: np.ndarray, seconds: float) -> None:
    """The bare boosters, row after row, without any server."""
    boosters = [intensity.trees for intensity in bundle.hazards.intensities.values()]
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        for booster in boosters:
            booster.predict(rows[count % len(rows)][None, :], num_threads=1)
        count += 1
    print(f"{'bare boosters in a loop':28}              {count / (time.perf_counter() - began):8.1f} a second")


def encoded_rows(bundle: Bundle, features: pd.DataFrame, calendar) -> np.ndarray:
    """The boosters' input: of every deal the row of its first bin of days ahead."""
    grid = build_grid(features["as_of"], calendar, bundle.hazards.bins)
    encoded = bundle.hazards.encoder.transform(features)
    every = bin_rows(encoded, read_clocks(features), grid)
    return every.reshape(len(features), -1, every.shape[1])[:, 0]


def proposal_of(tables, deal_id: str) -> dict:
    """A stored deal as a caller would send it, unchanged."""

    def rows_in(name: str) -> list[dict]:
        table = tables.get(name)
        shown = table[table["deal_id"] == deal_id]
        return rows_of(shown, [column for column in shown if not column.startswith("_")])

    return {"deal": rows_in("deals")[0], **{part: rows_in(name) for part, name in PARTS.items()}}


def bare_seconds(bundle: Bundle, tables, proposals: list[dict]) -> float:
    """Seconds a deal of what cannot be left out: facts to features, the boosters' values and contributions."""
    seen, history = bundle.read_history(tables)
    stored = build_sources(seen, history)
    known = {each["deal"]["deal_id"] for each in proposals}
    owners = set(seen.get("users")["user_id"])
    few = read_proposals(seen, proposals, tables.as_of, known=known, owners=owners).tables

    def features() -> pd.DataFrame:
        dated = build_history(few)
        sources = overlay_sources(stored, build_sources(few, dated), known)
        return build_features(few, dated, open_deals(dated, tables.as_of), sources=sources)

    def predicted(frame: pd.DataFrame) -> None:
        grid = build_grid(frame["as_of"], tables.calendar, bundle.hazards.bins)
        rows = bin_rows(bundle.hazards.encoder.transform(frame), read_clocks(frame), grid)
        for intensity in bundle.hazards.intensities.values():
            intensity.trees.predict(rows, num_threads=1)
            intensity.trees.predict(rows, num_threads=1, pred_contrib=True)

    frame = features()
    making, predicting = timed(features), timed(lambda: predicted(frame))
    count = len(proposals)
    told = f"features {1000 * making / count:.1f} ms, boosters {1000 * predicting / count:.1f} ms"
    print(f"bare steps a deal, {count} at once: {told}")
    return (making + predicting) / len(proposals)


def timed(step: Callable[[], object], times: int = 5) -> float:
    """The median seconds of a step."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0))
