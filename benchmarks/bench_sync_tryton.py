"""How long a first sync from Tryton takes, and the next ones: rows a second, the memory of our side, nothing lost.

    python -m benchmarks.bench_sync_tryton [DEALS] [stock]     # 100,000 by default; stock: a Tryton without our module

A real Tryton 8.0 (`tests/crm/tryton_here.py`) on SQLite, one process, on this machine. The company is entered through
Tryton's API, 1,000 opportunities, and multiplied in the database. What was synced is then held against Tryton's own
tables: every deal, and for each field how often its history says that it changed. Exits 1 if anything differs.
"""

import multiprocessing
import os
import resource
import shutil
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "crm"))
from tryton_company import date_back, enter, found_company, invent_lives, utc_now
from tryton_here import PASSWORD, Tryton, installation

from crm.connectors.landing import fetch_and_import
from crm.connectors.tryton import TrytonSettings
from crm.store import read_tables

DEALS = 100_000
TEMPLATE = 1_000
CHANGED = 100
TABLES = ("sale_opportunity", "sale_opportunity__history")


CHANGES = """
    SELECT count(*) FROM (
        SELECT {value} AS value, lag({value}) OVER past AS before, row_number() OVER past AS place
        FROM sale_opportunity__history AS deal
        WHERE deal.create_date IS NOT NULL
        WINDOW past AS (PARTITION BY deal.id ORDER BY coalesce(deal.write_date, deal.create_date), deal.__id)
    ) WHERE CASE WHEN place = 1 THEN value IS NOT NULL ELSE value IS NOT before END
"""


def a_company(folder: Path, deals: int, template: str) -> Tryton:
    """A Tryton with so many opportunities over two years, about six revisions each."""
    crm = Tryton(installation(), folder, template)
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


def worked(process_id: int) -> float:
    """Seconds that a process has had of a processor."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(crm: Tryton, workspace: Path, what: str) -> None:
    """Sync and print, with what Tryton and we had of a processor: on a machine that is shared that says more."""
    theirs = worked(crm.process.pid)
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    process = context.Process(target=sync, args=(crm.url, workspace, told))
    process.start()
    took, ours, rows, calls, memory = told.get()
    process.join()
    print(
        f"{what:32} {took:8.1f} s; worked: Tryton {worked(crm.process.pid) - theirs:6.1f} s, we {ours:6.1f} s; "
        f"{rows:9,} rows, {rows / took:7,.0f} a second; "
        f"{calls:6,} calls; {memory:5.0f} MB",
        flush=True,
    )


def lost(crm: Tryton, workspace: Path, template: str) -> list[str]:
    """What Tryton's own tables say and the workspace does not."""
    tables = read_tables(workspace)
    fields = tables.get("deal_history")["field"].value_counts()
    own = "WHEN deal.stage IS NOT NULL THEN 'own ' || deal.stage" if template == "scored" else ""
    values = {
        "stage": f"CASE WHEN deal.state IN ('won', 'lost', 'cancelled') THEN deal.state {own} ELSE deal.state END",
        "amount": "deal.amount",
        "close_date": "deal.end_date",
        "owner_id": "deal.employee",
    }
    with closing(sqlite3.connect(crm.database)) as connection:
        deals = "SELECT count(DISTINCT id) FROM sale_opportunity__history"
        told = {"deals": connection.execute(deals).fetchone()[0]}
        for field, value in values.items():
            told[field] = connection.execute(CHANGES.format(value=value)).fetchone()[0]
    held = {"deals": len(tables.get("deals")), **{field: int(fields[field]) for field in values}}
    print("in the workspace as in Tryton's tables: " + ", ".join(f"{name} {held[name]:,}" for name in held))
    return [
        f"{name}: Tryton has {told[name]:,}, the workspace {held[name]:,}" for name in told if told[name] != held[name]
    ]


def main() -> int:
    """Make the company, sync it, hold it against Tryton's tables, change some, sync again."""
    template = "stock" if "stock" in sys.argv else "scored"
    deals = next((int(word) for word in sys.argv[1:] if word.isdigit()), DEALS)
    folder = Path(tempfile.mkdtemp(prefix="bench-sync-"))
    try:
        crm = a_company(folder, deals, template)
        with closing(sqlite3.connect(crm.database)) as connection:
            counted = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES]
        load = os.getloadavg()[0]
        print(f"{counted[0]:,} opportunities with {counted[1]:,} revisions; load {load:.1f} on {os.cpu_count()} cores")
        with crm.running():
            measured(crm, folder / "workspace", "first sync")
            differences = lost(crm, folder / "workspace", template)
            measured(crm, folder / "workspace", "nothing changed")
            some = [each["id"] for each in crm.rows("sale.opportunity", ["state"], [["state", "=", "lead"]])][:CHANGED]
            crm.call("sale.opportunity.write", some, {"description": "called back"}, crm.context)
            measured(crm, folder / "workspace", f"{len(some)} opportunities changed")
    finally:
        shutil.rmtree(folder)
    print("\n".join(differences) or "nothing is missing")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
