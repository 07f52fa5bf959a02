"""Walk forward over past periods: train with what was known then, forecast every week, compare with what came.

A model is trained once a period, at its start, and forecasts at each Monday 09:00 of it. Each period is written down
when it is done: a run that was stopped goes on with the next one.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

from crm.calendar import Period
from crm.errors import DataUnusable, Detail
from crm.history import DealHistory, build_history
from crm.tables import CrmTables
from features.catalogue import feature_set_hash
from ledger.ledger import Ledger, open_ledger
from models.bundle import write_bundle
from models.replays import replayed_nodes
from models.revenue_baselines import first_day
from models.review import (
    books_close_at,
    called_nodes,
    caller_record,
    empty_rows,
    final_bookings,
    latest_bookings,
    review_cuts,
    review_rows,
    with_actual,
)
from training.card import instant_text
from training.fit import SEED, Progress, fit_bundle
from training.scoreboard import build_scoreboard, compare_with_model, judged_rows

PERIODS = 4


@dataclass(frozen=True)
class Backtest:
    """What a backtest found.

    Attributes
    ----------
    periods : one of each: period_start, actual (the company's bookings), model_version, trained_as_of (None where there
        was nothing to learn from yet).
    rows : the review rows of all periods, with all quantiles.
    scoreboard, differences : see `training.scoreboard`.
    notes : what is less than was asked for.
    """

    periods: tuple[dict[str, Any], ...]
    rows: pd.DataFrame
    scoreboard: pd.DataFrame
    differences: pd.DataFrame
    notes: tuple[str, ...]


def run_backtest(
    tables: CrmTables,
    ledger: Ledger,
    folder: Path,
    *,
    now: pd.Timestamp,
    periods: int = PERIODS,
    seed: int = SEED,
    workers: int = 1,
    progress: Progress = lambda step, share: None,
) -> Backtest:
    """Walk forward over the last periods whose books have closed.

    Parameters
    ----------
    ledger : keeps every forecast made here as `replayed`.
    folder : finished periods lie in its `periods/`, their models in its `bundles/`; what lies there of other data,
        other features or another seed is done anew.
    now : when replays are written down; nothing that is fitted depends on it.
    periods : how many, at least 1; fewer where the data do not reach back so far.
    workers : processes, a period each at a time; 1 walks in this one. What is found does not depend on it.

    Raises
    ------
    DataUnusable
        If no whole period had ended and its books closed.
    """
    walked = ended_periods(tables)[-periods:]
    if not walked:
        rule = "a backtest needs a whole period whose books have closed"
        detail = Detail("deals", instant_text(tables.as_of), rule, "Import an export that reaches further back.")
        raise DataUnusable("No period can be looked back on yet.", detail)
    kept = {period: _Kept(folder / "periods" / str(period.start), _identity(tables, period, seed)) for period in walked}
    missing = [period for period in walked if not kept[period].is_done()]
    walk = _Walk(tables, folder, seed, now)
    steps = walk.in_processes(missing, ledger, workers) if workers > 1 else walk.one_by_one(missing, ledger)
    for period, place in steps:
        latest = "" if period is None else f"{period.label} done, "
        progress(f"{latest}{len(walked) - len(missing) + place} of {len(walked)}", (place + 0.5) / (len(missing) + 1))
    done = [kept[period].read() for period in walked]
    progress("compare", 1.0)
    rows = pd.concat([rows for _, rows in done], ignore_index=True)
    judged = judged_rows(rows)
    said = tuple(told for told, _ in done)
    notes = [] if len(walked) == periods else [f"{periods} periods were asked for; the data hold {len(walked)}."]
    notes += [told["note"] for told in said if told["note"]]
    return Backtest(
        periods=tuple({name: told[name] for name in _TOLD} for told in said),
        rows=rows,
        scoreboard=build_scoreboard(judged),
        differences=compare_with_model(judged),
        notes=tuple(notes),
    )


_TOLD = ("period_start", "actual", "model_version", "trained_as_of")


def ended_periods(tables: CrmTables) -> list[Period]:
    """The periods that the data hold from their first day on and whose books have closed, oldest first."""
    first = first_day(tables)
    found = tables.calendar.periods_between(first, tables.as_of)
    return [each for each in found if each.start_at >= first and books_close_at(tables.calendar, each) <= tables.as_of]


@dataclass(frozen=True)
class _Walk:
    """What walking over a period takes; each is written down when it is done."""

    tables: CrmTables
    folder: Path
    seed: int
    now: pd.Timestamp

    def one_by_one(self, periods: Sequence[Period], ledger: Ledger) -> Iterator[tuple[Period | None, int]]:
        """Walk in this process; gives each period when it is done, and how many are (at first none)."""
        yield None, 0
        if not periods:
            return
        history = build_history(self.tables)
        record = caller_record(self.tables, history, self.tables.as_of)
        for place, period in enumerate(periods, start=1):
            self.over(period, history, record, ledger)
            yield period, place

    def in_processes(
        self, periods: Sequence[Period], ledger: Ledger, workers: int
    ) -> Iterator[tuple[Period | None, int]]:
        """Walk in several processes; gives each period when it is done, and how many are (at first none)."""
        yield None, 0
        if not periods:
            return
        url = ledger.engine.url.render_as_string(hide_password=False)
        with ProcessPoolExecutor(min(workers, len(periods)), mp_context=get_context("spawn")) as pool:
            walking = {pool.submit(_walk_alone, self, period, url): period for period in periods}
            try:
                for place, walked in enumerate(as_completed(walking), start=1):
                    walked.result()
                    yield walking[walked], place
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def over(self, period: Period, history: DealHistory, record: pd.DataFrame, ledger: Ledger) -> None:
        """Train at a period's start, forecast every week of it, compare with what came, and write that down."""
        tables = self.tables
        cuts = review_cuts(tables.calendar, period, tables.as_of)
        nodes, note = {}, None
        version: str | None = None
        try:
            fitted = fit_bundle(tables, period.start_at, seed=self.seed, history=history)
        except DataUnusable as unusable:
            note = f"{period.label} has no model: {unusable.message}"
        else:
            bundle = write_bundle(self.folder, fitted.bundle)
            version = bundle.model_version
            seen, dated = bundle.read_history(tables)
            nodes = replayed_nodes(ledger, bundle, seen, dated, cuts=cuts, period=period, now=self.now)
        parts = [empty_rows()]
        for cut in cuts:
            said = nodes[cut] if cut in nodes else called_nodes(tables, history, cut, period)
            parts.append(review_rows(tables, history, said, record, cut=cut, period=period, basis="replayed"))
        actual = final_bookings(tables, history, period, tables.as_of)
        latest = latest_bookings(tables, history, period, tables.as_of)
        company = actual.loc[actual["node_type"] == "company", "actual"].item()
        told = {
            "period_start": str(period.start),
            "actual": company,
            "model_version": version,
            "trained_as_of": instant_text(period.start_at) if version else None,
            "note": note,
        }
        kept = _Kept(self.folder / "periods" / str(period.start), _identity(tables, period, self.seed))
        kept.write(told, with_actual(pd.concat(parts, ignore_index=True), actual, latest))


def _walk_alone(walk: _Walk, period: Period, ledger_url: str) -> None:
    """Walk over one period in a process of its own."""
    ledger = open_ledger(ledger_url)
    try:
        history = build_history(walk.tables)
        walk.over(period, history, caller_record(walk.tables, history, walk.tables.as_of), ledger)
    finally:
        ledger.engine.dispose()


def _identity(tables: CrmTables, period: Period, seed: int) -> dict[str, Any]:
    """What a finished period depends on."""
    return {
        "data_version": tables.data_version,
        "data_as_of": instant_text(tables.as_of),
        "feature_set_hash": feature_set_hash(),
        "seed": seed,
        "period_end": str(period.end),
    }


@dataclass(frozen=True)
class _Kept:
    """A finished period on disk: rows, then what is told of it, which says that the rows are whole."""

    stem: Path
    identity: dict[str, Any]

    def is_done(self) -> bool:
        path = self.stem.with_suffix(".json")
        return path.is_file() and json.loads(path.read_text("utf-8"))["of"] == self.identity

    def write(self, told: dict[str, Any], rows: pd.DataFrame) -> None:
        self.stem.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"of": self.identity, **told}, indent=1, allow_nan=False) + "\n"
        self._replace(".parquet", lambda path: rows.to_parquet(path, index=False))
        self._replace(".json", lambda path: path.write_text(text, "utf-8"))

    def read(self) -> tuple[dict[str, Any], pd.DataFrame]:
        told = json.loads(self.stem.with_suffix(".json").read_text("utf-8"))
        rows = pd.read_parquet(self.stem.with_suffix(".parquet"))
        return told, pd.concat([empty_rows(), rows]).astype(empty_rows().dtypes.to_dict())

    def _replace(self, suffix: str, write: Callable[[Path], object]) -> None:
        unfinished = self.stem.with_suffix(f".unfinished{suffix}")
        write(unfinished)
        os.replace(unfinished, self.stem.with_suffix(suffix))
