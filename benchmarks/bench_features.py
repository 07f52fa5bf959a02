"""What declaring features costs: the compiled statement beside a query written by hand for the same columns.

    python -m benchmarks.bench_features [--days 1096] [--rounds 7]

Both run in one process, in turn, over the same Arrow relations of a synthetic company's weekly snapshots, and must give
the same values. Also: one deal alone, all open deals now, and the share of the work that a data version pays once.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa

from crm.history import build_history, open_deals, snapshot_spine
from crm.synthetic import CompanyConfig, export, simulate
from features.build import build_features, spine_relations
from features.catalogue import CATALOGUE
from features.compiler import compile_features
from features.engines import run_on_duckdb
from features.live import LiveFeatures
from features.sources import build_sources

MOST = 1.5
MOST_ALONE_MS = 40
Result = TypeVar("Result")

BY_HAND = Path(__file__).with_name("by_hand.sql").read_text(encoding="utf-8")
RECORDED = {
    **{name: name for name in ("activity", "contact", "line", "outcome")},
    **{field: f"change:{field}" for field in ("stage", "close_date", "amount", "owner_id", "forecast_category")},
    **{side: f"activity:direction={side}" for side in ("inbound", "outbound")},
    **{column: f"activity:{column}" for column in ("contact_id", "duration_minutes")},
    "meeting": "activity:type=meeting",
    "role": "contact:role",
}
"""What each instant in braces in the hand-written query is the beginning of, as a key of `Inputs.since`."""


def main() -> int:
    """Print seconds, the ratio and the latencies; exit 1 if the ratio is above the promise or a value differs."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--days", type=int, default=1096)
    arguments.add_argument("--rounds", type=int, default=7)
    chosen = arguments.parse_args()
    tables = export(simulate(CompanyConfig(days=chosen.days)))
    history, seconds_history = timed(lambda: build_history(tables))
    sources, seconds_sources = timed(lambda: build_sources(tables, history))
    spine = snapshot_spine(history, tables.calendar.moments(tables.get("deals")["created_at"].min(), tables.as_of))
    relations = {**sources.relations, **spine_relations(sources, spine)}
    compiled, by_hand = compile_features(CATALOGUE, sources.inputs), BY_HAND.format(**first_rows(sources.inputs.since))
    values = run_on_duckdb(compiled, relations)
    assert_equal(values, run_on_duckdb(by_hand, relations))
    unknown = [feature.name for feature in CATALOGUE if values[feature.name].null_count == len(values)]

    seconds: dict[str, list[float]] = {"compiled": [], "by hand": []}
    for _ in range(chosen.rounds):
        for name, statement in (("compiled", compiled), ("by hand", by_hand)):
            seconds[name].append(timed(partial(run_on_duckdb, statement, relations))[1])
    ratio = median(ours / theirs for ours, theirs in zip(seconds["compiled"], seconds["by hand"], strict=True))
    print(f"{len(spine):,} snapshots, {len(CATALOGUE)} features, equal values; load {os.getloadavg()[0]:.1f}")
    print(f"  of which unknown throughout, so hardly compared: {', '.join(unknown) or 'none'}")
    for name, taken in seconds.items():
        print(f"  {name:24}{median(taken):8.3f} s   ({min(taken):.3f} to {max(taken):.3f})")
    print(f"  ratio {ratio:.2f} (promised: {MOST})")

    def built(some: pd.DataFrame) -> float:
        return median(timed(lambda: build_features(tables, history, some, sources=sources))[1] for _ in range(7))

    now = open_deals(history, tables.as_of)
    rest = built(spine)
    print(
        f"  build_sources           {seconds_sources:8.3f} s   {seconds_sources / (seconds_sources + rest):.0%} of "
        f"build_features; build_history {seconds_history:.3f} s; both once per data version"
    )
    print(f"  {len(now):4} open deals now     {built(now) * 1000:8.0f} ms")
    live, seconds_live = timed(lambda: LiveFeatures(sources, tables.as_of))
    asked = [list(deal_ids) for deal_ids in np.array_split(now["deal_id"], len(now))]
    alone = [timed(partial(live.of, deal_ids))[1] for deal_ids in asked]
    slow = np.quantile(alone, 0.9)
    print(
        f"  one deal alone          {median(alone) * 1000:8.0f} ms   (promised: {MOST_ALONE_MS}; 90 % within "
        f"{slow * 1000:.0f} ms; {seconds_live:.2f} s once per data version; from scratch "
        f"{built(now.head(1)) * 1000:.0f} ms)"
    )
    return 0 if ratio <= MOST and median(alone) * 1000 <= MOST_ALONE_MS else 1


def timed(act: Callable[[], Result]) -> tuple[Result, float]:
    """What it returns, and the seconds it takes."""
    begun = perf_counter()
    return act(), perf_counter() - begun


def first_rows(since: Mapping[str, float]) -> dict[str, str]:
    """When each source begins, as SQL; NULL where it never does."""
    return {name: repr(since[source]) if source in since else "NULL" for name, source in RECORDED.items()}


def assert_equal(left: pa.Table, right: pa.Table) -> None:
    """The same values in every column, unknown where unknown."""
    for name in (feature.name for feature in CATALOGUE):
        ours, theirs = (table[name].to_pandas() for table in (left, right))
        if ours.dtype == "float64":
            np.testing.assert_allclose(ours, theirs.astype("float64"), rtol=1e-7, atol=1e-9, err_msg=name)
        else:
            pd.testing.assert_series_equal(ours, theirs, check_names=False, obj=name)


if __name__ == "__main__":
    sys.exit(main())
