"""How long training takes, beside the bare LightGBM fits inside it.

    python -m benchmarks.bench_train [--days 1096] [--deals-per-week 32]

A synthetic company of three years by default. Past fits, features, calibration, baselines and MLflow included, training
should take at most three times what LightGBM alone takes.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import lightgbm
import pandas as pd

from crm.store import write_version
from crm.synthetic import CompanyConfig, export, simulate
from crm.versions import import_lock
from training.fit import train

MOST = 3.0


def main() -> int:
    """Print seconds of training and of the fits inside; exit 1 if the ratio is above the promise."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--days", type=int, default=1096)
    arguments.add_argument("--deals-per-week", type=float, default=32.0)
    chosen = arguments.parse_args()
    tables = export(simulate(CompanyConfig(days=chosen.days, deals_per_week=chosen.deals_per_week)))
    inside = time_calls(lightgbm, "train")
    with TemporaryDirectory() as workspace:
        dated = replace(tables, first_import_at=tables.as_of)
        with import_lock(Path(workspace)):
            write_version(Path(workspace), dated, changed=set(tables.tables), stages_derived=False, currency_given=True)
        report = train(Path(workspace), now=pd.Timestamp.now("UTC"), progress=Steps())
    bare = covered(inside)
    ratio = report.seconds / bare
    print(
        f"{report.bundle.manifest['snapshots']:,} snapshots; training {report.seconds:.1f} s, {len(inside)} bare "
        f"LightGBM fits {bare:.1f} s, ratio {ratio:.2f} (promised: {MOST})"
    )
    return 0 if ratio <= MOST else 1


class Steps:
    """Prints how long each step took."""

    def __init__(self) -> None:
        self.last: tuple[str, float] | None = None

    def __call__(self, step: str, share: float) -> None:
        now = perf_counter()
        if self.last:
            print(f"  {self.last[0]:12} {now - self.last[1]:6.1f} s")
        self.last = (step, now)


def time_calls(module: object, name: str) -> list[tuple[float, float]]:
    """Replace a function by itself with a stopwatch; the list fills with start and end of each call."""
    original, spans = getattr(module, name), []

    def timed(*args: object, **options: object) -> object:
        started = perf_counter()
        try:
            return original(*args, **options)
        finally:
            spans.append((started, perf_counter()))

    setattr(module, name, timed)
    return spans


def covered(spans: list[tuple[float, float]]) -> float:
    """Seconds during which at least one call ran: two that run side by side count once."""
    total, reached = 0.0, 0.0
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


if __name__ == "__main__":
    sys.exit(main())
