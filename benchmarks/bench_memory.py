"""Memory of the win model by rows: measured at two sizes, told for thirty million.

    python -m benchmarks.bench_memory [--snapshots 20000 80000] [--rows 30000000]

A row is a snapshot and a bin of days ahead in which it was at risk: what the learners are fitted on. Each size is a
process of its own, with all features of the catalogue, drawn at random; what counts is how the process's largest size
grows with the rows. `fit` takes a frame and fits both learners of both causes; `score` takes a frame and gives its
curves. Training takes at most 80,000 snapshots whatever the company's size: what thirty million rows would need is
told, not needed. Promised are, exit code 1 if one is broken: a fit on as many as that under 4 GB, and scores of thirty
million rows, all held at once, under 24 GB.
"""

import argparse
import json
import resource
import subprocess
import sys

import numpy as np
import pandas as pd

from crm.calendar import Calendar
from features.catalogue import BY_NAME
from models.hazard import HazardModel, fit_hazards
from models.learners import HazardSettings
from training.splits import MAX_SNAPSHOTS

BINS = np.array([0.0, 7, 14, 21, 30, 45, 60, 80, 100, 130, 180, 260, 365])
CALENDAR = Calendar(base_currency="EUR")
FIRST = pd.Timestamp("2023-01-02", tz="UTC")
FEW, WEEKS, SNAPSHOTS_PER_DEAL = 2_000, 150, 10
MOST_GB = {"fit": 4.0, "score": 24.0}
_GB = 1e9


def main() -> int:
    """Print bytes a row and what they come to; exit 1 if a promise is broken."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--snapshots", type=int, nargs=2, default=[20_000, MAX_SNAPSHOTS])
    arguments.add_argument("--rows", type=int, default=30_000_000)
    arguments.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.step:
        print(json.dumps(STEPS[chosen.step](chosen.snapshots[0])))
        return 0
    kept = True
    for step in STEPS:
        (few, small), (many, large) = (measured(step, count) for count in chosen.snapshots)
        each = (large - small) / (many - few)
        print(
            f"{step}: {few:,} rows {small / _GB:.2f} GB, {many:,} rows {large / _GB:.2f} GB: {each:,.0f} bytes a row, "
            f"{chosen.rows:,} rows {(small + each * (chosen.rows - few)) / _GB:.1f} GB"
        )
        promised = large if step == "fit" else small + each * (chosen.rows - few)
        kept = kept and promised <= MOST_GB[step] * _GB
    print("every promise is kept" if kept else "NOT every promise is kept")
    return int(not kept)


def measured(step: str, snapshots: int) -> tuple[int, int]:
    """Rows, and the largest size in bytes of a process that takes the step."""
    command = [sys.executable, "-m", "benchmarks.bench_memory", "--step", step]
    told = subprocess.run(
        [*command, "--snapshots", str(snapshots), "0"], check=True, capture_output=True, text=True
    ).stdout
    rows, size = json.loads(told)
    return rows, size


def fit(snapshots: int) -> tuple[int, int]:
    """Fit on so many; rows are those at risk."""
    features, outcomes = drawn(snapshots)
    _fitted(features, outcomes)
    at_risk = outcomes["days_observed"].to_numpy()[:, None] > BINS[:-1]
    return int(at_risk.sum()), largest_size()


def score(snapshots: int) -> tuple[int, int]:
    """Score so many; rows are all bins of each, with the two that a period's end cuts."""
    model = _fitted(*drawn(FEW))
    curves = model.curves(drawn(snapshots)[0], CALENDAR)
    return curves.won.size, largest_size()


def drawn(snapshots: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Snapshots with every feature, and what became of them."""
    random = np.random.default_rng(7)
    deal = np.arange(snapshots) // SNAPSHOTS_PER_DEAL
    as_of = FIRST + pd.to_timedelta(7 * np.sort(random.integers(0, WEEKS, snapshots)), unit="D")
    columns = {
        name: random.normal(size=snapshots)
        if declared.kind == "number"
        else pd.Series(random.choice(list("ABCDEF"), snapshots), dtype="str")
        for name, declared in BY_NAME.items()
    }
    features = pd.DataFrame({"deal_id": pd.Series(deal).astype("str"), "as_of": as_of.as_unit("us"), **columns})
    outcome = pd.Series(random.choice(["won", "lost", None], snapshots), dtype="str")
    return features, pd.DataFrame({"days_observed": random.exponential(120.0, snapshots), "outcome": outcome})


def largest_size() -> int:
    """Bytes this process took at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _fitted(features: pd.DataFrame, outcomes: pd.DataFrame) -> HazardModel:
    settings = HazardSettings(rounds=20)
    return fit_hazards(features, outcomes, CALENDAR, BINS, catalogue=BY_NAME, seed=7, settings=settings)


STEPS = {"fit": fit, "score": score}

if __name__ == "__main__":
    sys.exit(main())
