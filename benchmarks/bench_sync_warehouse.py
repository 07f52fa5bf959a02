"""What a first sync of a large warehouse takes.

    python -m benchmarks.bench_sync_warehouse [DEALS]

Makes a SQLite database in the shape in which Fivetran lands Salesforce in history mode (100,000 deals, ten states and
four tasks each, loaded over a week), syncs it into an empty workspace and then again after 1 % of the deals moved on.
Prints rows a second and the peak memory of the syncs.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

STAGES = ("Talk", "Offer", "Proof", "Terms", "Signed", "Lost")
STATES, TASKS = 10, 4
BEGIN = datetime(2023, 1, 2)  # noqa: DTZ001 - a warehouse's timestamps have no zone
LOADED = datetime(2026, 6, 1)  # noqa: DTZ001
KINDS = {
    "opportunity_history": "id text, stage_name text, amount double, close_date timestamp, owner_id text, "
    "_fivetran_start timestamp, _fivetran_active boolean, _fivetran_synced timestamp",
    "opportunity": "id text, name text, stage_name text, amount double, close_date timestamp, owner_id text, "
    "created_date timestamp, is_closed boolean, is_won boolean, is_deleted boolean, _fivetran_active boolean, "
    "_fivetran_synced timestamp",
    "task": "id text, what_id text, owner_id text, completed_date_time timestamp, created_date timestamp, "
    "task_subtype text, is_closed boolean, is_deleted boolean, _fivetran_synced timestamp",
    "opportunity_stage": "master_label text, sort_order integer, is_closed boolean, is_won boolean, "
    "_fivetran_active boolean",
}
MOVED = "stage_name = 'Terms', amount = 5000, is_closed = 0, is_won = 0"


def main(deals: int) -> int:
    """Make the warehouse, sync it twice and tell."""
    with tempfile.TemporaryDirectory() as folder:
        database = f"sqlite:///{folder}/warehouse.db"
        engine = sa.create_engine(database)
        fill(engine, deals)
        command = [str(Path(sys.executable).with_name("dealcast")), "--workspace", f"{folder}/workspace", "--json"]
        subprocess.run(
            [*command, "connect", "warehouse", f"database={database}"], check=True, stdout=subprocess.DEVNULL
        )
        tell("first sync", *measured([*command, "sync"]))
        move_on(engine, deals // 100)
        tell("after 1 % moved", *measured([*command, "sync"]))
    return 0


def fill(engine: sa.Engine, deals: int) -> None:
    """The tables, with all their rows."""
    with engine.begin() as connection:
        for name, columns in KINDS.items():
            connection.exec_driver_sql(f"CREATE TABLE {name} ({columns})")
        for place, stage in enumerate(STAGES):
            insert(connection, "opportunity_stage", [(stage, place, place > 3, stage == "Signed", True)])
        for start in range(0, deals, 10_000):
            some = [rows_of(number) for number in range(start, min(start + 10_000, deals))]
            for name in ("opportunity", "opportunity_history", "task"):
                insert(connection, name, [row for rows in some for row in rows[name]])


def rows_of(number: int) -> dict[str, list[tuple[Any, ...]]]:
    """A deal with its past and its tasks."""
    deal, owner = f"006{number:012d}AAA", f"005{number % 200:012d}AAA"
    born = BEGIN + timedelta(minutes=number * 10)
    loaded = text(LOADED - timedelta(minutes=number * 997 % 10_080))
    end = STAGES[4 + number % 2] if number % 4 else STAGES[3]
    past = list(states(number, born, end))
    history = [
        (deal, stage, amount, text(close), owner, text(at), place == STATES - 1, loaded)
        for place, (at, stage, amount, close) in enumerate(past)
    ]
    _, stage, amount, close = past[-1]
    now = (deal, f"Deal {number}", stage, amount, text(close), owner, text(born), end in STAGES[4:], end == "Signed")
    tasks = [
        (f"00T{number * TASKS + place:012d}AAA", deal, owner, text(at), text(at), "Call", True, False, loaded)
        for place, (at, *_) in enumerate(past[:TASKS])
    ]
    return {"opportunity": [(*now, False, True, loaded)], "opportunity_history": history, "task": tasks}


def states(number: int, born: datetime, end: str) -> Iterator[tuple[datetime, str, float, datetime]]:
    """When a deal changed, and into what: stages, now and then its amount, its close date every other time."""
    for place in range(STATES):
        stage = end if place == STATES - 1 else STAGES[min(place // 3, 3)]
        close = born + timedelta(days=60 + 14 * (place // 2))
        yield born + timedelta(days=9 * place), stage, 1000.0 + number % 900 + 10 * (place // 4), close


def move_on(engine: sa.Engine, deals: int) -> None:
    """The first deals get another state, loaded a day later."""
    later, at = text(LOADED + timedelta(days=1)), text(LOADED + timedelta(hours=20))
    with engine.begin() as connection:
        for number in range(deals):
            deal = f"006{number:012d}AAA"
            owner = f"005{number % 200:012d}AAA"
            state = (deal, "Terms", 5000.0, text(LOADED + timedelta(days=90)), owner, at, True, later)
            insert(connection, "opportunity_history", [state])
            connection.exec_driver_sql(
                f"UPDATE opportunity SET {MOVED}, _fivetran_synced = ? WHERE id = ?", (later, deal)
            )


def insert(connection: sa.Connection, name: str, rows: list[tuple[Any, ...]]) -> None:
    """Rows into a table."""
    connection.exec_driver_sql(f"INSERT INTO {name} VALUES ({', '.join('?' * len(rows[0]))})", rows)


def text(at: datetime) -> str:
    """A timestamp as SQLite keeps it."""
    return f"{at:%Y-%m-%d %H:%M:%S.%f}"


def measured(command: list[str]) -> tuple[dict[str, Any], float, float]:
    """A command's document, its seconds, and the peak memory in MB of the largest child so far."""
    began = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    return json.loads(done.stdout), seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def tell(what: str, document: dict[str, Any], seconds: float, peak_mb: float) -> None:
    """One line."""
    rows = sum(counts["read"] for counts in document["tables"].values())
    fetched = ", ".join(f"{name} {counts['read']:,}" for name, counts in document["tables"].items())
    pace = f"{rows / seconds:,.0f} rows/s, peak so far {peak_mb:,.0f} MB"
    print(f"{what}: {rows:,} rows in {seconds:.1f} s, {pace} ({fetched})")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
