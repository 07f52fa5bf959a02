"""Features at scale: training frames and the features of all open deals, of ten thousand to a million deals.

    python -m benchmarks.bench_scale [--deals 10000 100000 1000000] [--pandas-up-to 100000] [--keep DIR]

Each size is measured in processes of its own: a company is made, its dated facts are laid out, a weekly snapshot of
every open deal gets all features, written to Parquet; then, in another process, the features of today's open deals.
Promised are, exit code 1 if one is broken: a snapshot costs at most 1.3 times as much at the largest size as at the
smallest (in processor seconds: other work on the machine lengthens the others), the million stays under 6 GB, and the
features of its open deals take less than 60 seconds. Beside it, ordinary vectorised pandas for ten of the columns.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from benchmarks.big_company import write_company
from crm.store import read_tables
from features.frames import count_snapshots, each_frame, write_frames
from features.stored import StoredFacts, lay_out

MOST_RATIO = 1.3
MOST_GB = 6.0
MOST_SECONDS = 60.0
A_MILLION = 1_000_000
COLUMNS = [
    "days_to_close_date",
    "stage_moves",
    "close_date_pushes",
    "amount_changes",
    "activities_30d",
    "inbound_14d",
    "meetings_60d",
    "days_since_last_activity",
    "people_engaged",
    "contacts_known",
]

Measured = dict[str, float]


def main() -> int:
    """Print a table of all sizes; exit 1 if a promise is broken."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--deals", type=int, nargs="+", default=[10_000, 100_000, A_MILLION])
    arguments.add_argument("--pandas-up-to", type=int, default=100_000, metavar="DEALS")
    arguments.add_argument("--keep", type=Path, metavar="DIR", help="where companies are kept for the next run")
    arguments.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.step:
        print(json.dumps(measured(STEPS[chosen.step], chosen.keep, chosen.deals[0])))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        found = {deals: measure(chosen.keep or Path(folder), deals, chosen.pandas_up_to) for deals in chosen.deals}
    broken = broken_promises(found)
    for promise in broken:
        print(f"BROKEN: {promise}")
    return 1 if broken else 0


def measure(folder: Path, deals: int, pandas_up_to: int) -> dict[str, Measured]:
    """All steps of one size, printed as they end."""
    workspace = folder / f"company-{deals}"
    print(f"\n{deals:,} deals", flush=True)
    steps = [name for name in STEPS if deals <= pandas_up_to or name not in ("ten columns", "pandas")]
    if (workspace / "data" / "CURRENT").exists():
        steps.remove("company")
    found: dict[str, Measured] = {}
    for name in steps:
        command = [sys.executable, "-m", "benchmarks.bench_scale", "--step", name, "--deals", str(deals)]
        run = subprocess.run([*command, "--keep", workspace], stdout=subprocess.PIPE, check=True)
        it = found[name] = json.loads(run.stdout)
        rows = f"{it['rows']:>13,.0f} rows {it['rows'] / it['seconds']:>9,.0f} rows/s" if "rows" in it else ""
        print(
            f"  {name:14}{it['seconds']:8.1f} s{it['processor']:8.1f} s processor{it['gb']:6.2f} GB{rows}", flush=True
        )
    cost = snapshot_cost(found)
    print(f"  a snapshot costs {cost * 1e6:.0f} µs of processor time, its share of the facts included", flush=True)
    return found


def snapshot_cost(found: dict[str, Measured]) -> float:
    """Processor seconds a snapshot, from the tables in the store to the frames on disk."""
    return (found["facts"]["processor"] + found["frames"]["processor"]) / found["frames"]["rows"]


def broken_promises(found: dict[int, dict[str, Measured]]) -> list[str]:
    """What was promised and did not come true."""
    broken = []
    ratio = snapshot_cost(found[max(found)]) / snapshot_cost(found[min(found)])
    print(f"\ncost of a snapshot, {max(found):,} deals against {min(found):,}: {ratio:.2f} (promised: {MOST_RATIO})")
    if ratio > MOST_RATIO:
        broken.append(f"a snapshot costs {ratio:.2f} times as much")
    if A_MILLION in found:
        most = max(it["gb"] for it in found[A_MILLION].values())
        seconds = found[A_MILLION]["open deals"]["seconds"]
        print(f"a million deals: {most:.2f} GB (promised: {MOST_GB}), open deals {seconds:.1f} s ({MOST_SECONDS})")
        if most > MOST_GB:
            broken.append(f"a million deals took {most:.2f} GB")
        if seconds > MOST_SECONDS:
            broken.append(f"the features of a million deals' open ones took {seconds:.1f} s")
    return broken


def measured(step: Callable[[Path, int], Measured], workspace: Path, deals: int) -> Measured:
    """Run one step in this process: its seconds, its processor seconds on all cores, the most memory it held."""
    begun, busy = perf_counter(), process_time()
    more = step(workspace, deals)
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return {
        "seconds": perf_counter() - begun,
        "processor": process_time() - busy,
        "gb": int(peak.split()[1]) / 1e6,
        **more,
    }


def make_company(workspace: Path, deals: int) -> Measured:
    """The tables, written into the store."""
    write_company(workspace, deals=deals)
    return {}


def make_facts(workspace: Path, deals: int) -> Measured:
    """The dated facts, laid out from the tables."""
    for folder in (workspace / "frames").glob("*-facts-*"):
        for path in folder.rglob("*.*"):
            path.unlink()
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir()
        folder.rmdir()
    lay_out(workspace)
    return {}


def make_frames(workspace: Path, deals: int) -> Measured:
    """All features of every open deal at every Monday, written to Parquet."""
    facts = lay_out(workspace)
    return {"rows": sum(write_frames(facts, weekly(facts), workspace / "frames" / "benchmark").rows)}


def score_open_deals(workspace: Path, deals: int) -> Measured:
    """All features of the deals that are open now."""
    facts = lay_out(workspace)
    return {"rows": sum(len(frame) for frame in each_frame(facts, [facts.tables.as_of]))}


def make_ten_columns(workspace: Path, deals: int) -> Measured:
    """Of every snapshot the columns that pandas is asked for, too."""
    facts = lay_out(workspace)
    frames = write_frames(facts, weekly(facts), workspace / "frames" / "ten-columns", names=COLUMNS)
    return {"rows": sum(frames.rows)}


def make_them_in_pandas(workspace: Path, deals: int) -> Measured:
    """The same in ordinary vectorised pandas, of the tables in memory; the values are compared."""
    facts = lay_out(workspace)
    paths = sorted((workspace / "frames" / "ten-columns").glob("*.parquet"))
    ours = pd.concat([pq.read_table(path).to_pandas() for path in paths], ignore_index=True)
    assert len(ours) == count_snapshots(facts, weekly(facts))
    begun, busy = perf_counter(), process_time()
    theirs = in_pandas(workspace, ours[["deal_id", "as_of"]])
    seconds, processor = perf_counter() - begun, process_time() - busy
    for name in COLUMNS:
        known = ours[name].notna()
        assert known.mean() > 0.9, f"{name} is hardly ever known"
        np.testing.assert_allclose(ours.loc[known, name], theirs.loc[known, name], rtol=1e-6, atol=1e-6, err_msg=name)
    return {"rows": len(ours), "seconds": seconds, "processor": processor}


def in_pandas(workspace: Path, spine: pd.DataFrame) -> pd.DataFrame:
    """The ten columns for a spine of deal_id and as_of, in its order."""
    tables = read_tables(workspace)
    deals, history = tables.get("deals"), tables.get("deal_history")
    activities, contacts = tables.get("activities"), tables.get("deal_contacts")
    spine = spine.assign(row=np.arange(len(spine))).sort_values("as_of")
    built = pd.DataFrame({"row": np.arange(len(spine))})

    def last(rows: pd.DataFrame, moment: str, column: str) -> pd.Series:
        """The column of each deal's last row at or before the moment."""
        rows = rows[["deal_id", moment, column]].sort_values(moment, kind="stable")
        found = pd.merge_asof(spine, rows, left_on="as_of", right_on=moment, by="deal_id")
        return found.set_index("row")[column].reindex(built["row"])

    def so_far(rows: pd.DataFrame, moment: str) -> pd.Series:
        """How many rows each deal had at the moment."""
        rows = rows.sort_values(moment, kind="stable")
        counted = rows.assign(count=rows.groupby("deal_id").cumcount() + 1)
        return last(counted, moment, "count").fillna(0)

    changed = history[history["old_value"].notna()]
    moved = changed[changed["field"] == "close_date"]
    pushed = moved[pd.to_datetime(moved["new_value"]) > pd.to_datetime(moved["old_value"])]
    dates = history[history["field"] == "close_date"].assign(date=lambda rows: pd.to_datetime(rows["new_value"]))
    today = spine.set_index("row")["as_of"].reindex(built["row"])
    built["days_to_close_date"] = (last(dates, "changed_at", "date") - today.dt.tz_localize(None)).dt.days
    built["stage_moves"] = so_far(changed[changed["field"] == "stage"], "changed_at")
    built["close_date_pushes"] = so_far(pushed, "changed_at")
    built["amount_changes"] = so_far(changed[changed["field"] == "amount"], "changed_at")
    later = activities["logged_at"].where(
        activities["logged_at"] > activities["occurred_at"], activities["occurred_at"]
    )
    activities = activities[["deal_id", "type", "direction", "contact_id"]].assign(known_from=later)
    created = deals.set_index("deal_id")["created_at"].reindex(spine["deal_id"]).array
    began = pd.Series(created, index=spine["row"]).reindex(built["row"])
    latest = last(activities.assign(at=later), "known_from", "at").fillna(began)
    built["days_since_last_activity"] = (today - latest).dt.total_seconds() / 86_400
    pairs = spine.merge(activities, on="deal_id")
    pairs = pairs[pairs["known_from"] <= pairs["as_of"]]
    age = pairs["as_of"] - pairs["known_from"]
    for name, kept in (
        ("activities_30d", age <= pd.Timedelta(days=30)),
        ("inbound_14d", (age <= pd.Timedelta(days=14)) & (pairs["direction"] == "inbound")),
        ("meetings_60d", (age <= pd.Timedelta(days=60)) & (pairs["type"] == "meeting")),
    ):
        built[name] = pairs.loc[kept, "row"].value_counts().reindex(built["row"]).fillna(0)
    built["people_engaged"] = pairs.groupby("row")["contact_id"].nunique().reindex(built["row"]).fillna(0)
    first = contacts.sort_values("added_at").drop_duplicates(["deal_id", "contact_id"])
    built["contacts_known"] = so_far(first, "added_at")
    return built


def weekly(facts: StoredFacts) -> list[pd.Timestamp]:
    """Every Monday of the company's life."""
    return facts.tables.calendar.moments(facts.spells["opened_at"].min(), facts.tables.as_of)


STEPS: dict[str, Callable[[Path, int], Measured]] = {
    "company": make_company,
    "facts": make_facts,
    "frames": make_frames,
    "open deals": score_open_deals,
    "ten columns": make_ten_columns,
    "pandas": make_them_in_pandas,
}


if __name__ == "__main__":
    sys.exit(main())
