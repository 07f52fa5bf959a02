"""Walk forward over past periods: train with what was known then, forecast every week, compare with what came.

A model is trained once a period, at its start, and forecasts at each Monday 09:00 of it. Each period is written down
when it is done: a run that was stopped goes on with the next one.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from crm.calendar import Period
from crm.errors import DataUnusable, Detail
from crm.history import DealHistory, build_history
from crm.tables import CrmTables
from features.catalogue import feature_set_hash
from ledger.ledger import Ledger
from models.bundle import write_bundle
from models.replays import replayed_nodes
from models.revenue_baselines import first_day
from models.review import (
    books_close_at,
    called_nodes,
    caller_record,
    empty_rows,
    final_bookings,
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
    history = build_history(tables)
    record = caller_record(tables, history, tables.as_of)
    done = []
    for place, period in enumerate(walked):
        step = f"{period.label} ({place + 1} of {len(walked)})"
        progress(step, place / len(walked))
        kept = _Kept(folder / "periods" / str(period.start), _identity(tables, period, seed))
        if not kept.is_done():
            kept.write(*_walk(tables, history, record, ledger, folder, period=period, seed=seed, now=now))
        done.append(kept.read())
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


def _walk(
    tables: CrmTables,
    history: DealHistory,
    record: pd.DataFrame,
    ledger: Ledger,
    folder: Path,
    *,
    period: Period,
    seed: int,
    now: pd.Timestamp,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """One period: what is told of it, and its review rows."""
    cuts = review_cuts(tables.calendar, period, tables.as_of)
    nodes, note = {}, None
    version: str | None = None
    try:
        bundle = write_bundle(folder, fit_bundle(tables, period.start_at, seed=seed, history=history).bundle)
    except DataUnusable as unusable:
        note = f"{period.label} has no model: {unusable.message}"
    else:
        version = bundle.model_version
        seen, dated = bundle.read_history(tables)
        nodes = replayed_nodes(ledger, bundle, seen, dated, cuts=cuts, period=period, now=now)
    parts = [empty_rows()]
    for cut in cuts:
        said = nodes[cut] if cut in nodes else called_nodes(tables, history, cut, period)
        parts.append(review_rows(tables, history, said, record, cut=cut, period=period, basis="replayed"))
    actual = final_bookings(tables, history, period, tables.as_of)
    company = actual.loc[actual["node_type"] == "company", "actual"].item()
    told = {"period_start": str(period.start), "actual": company, "model_version": version}
    trained_as_of = instant_text(period.start_at) if version else None
    return {**told, "trained_as_of": trained_as_of, "note": note}, with_actual(pd.concat(parts), actual)


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
