"""How long a first sync from Tryton takes, and the next ones: rows a second and the memory of our side.

    python -m benchmarks.bench_sync [DEALS]        # 10,000 by default

A real Tryton 8.0 (`tests/crm/tryton_here.py`) on SQLite, one process, on this machine: nearly all the time
is Tryton's own. The company is entered through Tryton's API, 1,000 opportunities, and multiplied in the database.
"""

import multiprocessing
import os
import resource
import shutil
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "crm"))
from tryton_company import date_back, enter, found_company, invent_lives, utc_now
from tryton_here import PASSWORD, Tryton, installation

from crm.connectors.landing import fetch_and_import
from crm.connectors.tryton import TrytonSettings

DEALS = 10_000
TEMPLATE = 1_000
CHANGED = 100
TABLES = ("sale_opportunity", "sale_opportunity__history")


def a_company(folder: Path, deals: int) -> Tryton:
    """A Tryton with so many opportunities over two years, about five revisions each."""
    crm = Tryton(installation(), folder, "stock")
    with crm.running():
        there = found_company(crm)
        lives = invent_lives(there, min(TEMPLATE, deals), now=utc_now(), seed=7)
        enter(crm, lives)
    date_back(crm, lives)
    multiply(crm.sql(), deals // TEMPLATE)
    return crm


def multiply(connection: sqlite3.Connection, times: int) -> None:
    """The opportunities again and again, each time under other ids and some minutes earlier."""
    for table in TABLES:
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] != "__id"]
        for copy in range(1, times):
            given = {"id": f"id + {copy * TEMPLATE}"}
            for name in ("create_date", "write_date"):
                earlier = f"-{copy * 7 % 1440} minutes"
                given[name] = f"strftime('%Y-%m-%d %H:%M:%S', {name}, '{earlier}') || substr({name}, 20)"
            columns = ", ".join(f'"{name}"' for name in names)
            values = ", ".join(given.get(name, f'"{name}"') for name in names)
            connection.execute(f"INSERT INTO {table} ({columns}) SELECT {values} FROM {table} WHERE id <= {TEMPLATE}")
    connection.commit()
    connection.close()


def sync(url: str, workspace: Path, told: multiprocessing.Queue) -> None:
    """One sync in a process of its own; tells how long it took, rows, calls and the most memory it had, in MB."""
    connector = TrytonSettings(url=url, database="crm", user="admin").open(PASSWORD)
    started, ours = time.monotonic(), time.process_time()
    now = pd.Timestamp.now("UTC").as_unit("us")
    landed = fetch_and_import(workspace, "tryton", connector, anew=False, now=now, progress=lambda step, done: None)
    rows = sum(table["read"] for table in landed.report.tables.values())
    took, ours = time.monotonic() - started, time.process_time() - ours
    told.put((took, ours, rows, connector.api_calls, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def measured(url: str, workspace: Path, what: str) -> None:
    """Sync and print."""
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    process = context.Process(target=sync, args=(url, workspace, told))
    process.start()
    took, ours, rows, calls, memory = told.get()
    process.join()
    print(
        f"{what:32} {took:8.1f} s, of it {ours:6.1f} s ours; {rows:9,} rows, {rows / took:7,.0f} a second; "
        f"{calls:6,} calls; {memory:5.0f} MB",
        flush=True,
    )


def main() -> None:
    """Make the company, sync it, change some, sync again."""
    deals = int(sys.argv[1]) if len(sys.argv) > 1 else DEALS
    folder = Path(tempfile.mkdtemp(prefix="bench-sync-"))
    try:
        crm = a_company(folder, deals)
        with sqlite3.connect(crm.database) as connection:
            counted = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES]
        load = os.getloadavg()[0]
        print(f"{counted[0]:,} opportunities with {counted[1]:,} revisions; load {load:.1f} on {os.cpu_count()} cores")
        with crm.running():
            measured(crm.url, folder / "workspace", "first sync")
            measured(crm.url, folder / "workspace", "nothing changed")
            some = [each["id"] for each in crm.rows("sale.opportunity", ["state"], [["state", "=", "lead"]])][:CHANGED]
            crm.call("sale.opportunity.write", some, {"description": "called back"}, crm.context)
            measured(crm.url, folder / "workspace", f"{len(some)} opportunities changed")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
