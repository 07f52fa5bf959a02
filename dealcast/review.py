"""Looking back: `review`, what was said week by week beside what came, and `backtest`, walking forward over periods."""

import contextlib
import os
from pathlib import Path

import pandas as pd

from crm.calendar import Period
from crm.errors import Detail, NoModel, UsageError
from crm.history import build_history
from crm.store import read_tables
from crm.tables import CrmTables
from dealcast.documents import render_document, write_table
from dealcast.session import Progress, Session
from dealcast.steps import Document, Moment, moment_of, period_asked
from models.bundle import Bundle, bundle_for
from models.callers import TRAITS, caller_traits, tell_callers
from models.replays import published_nodes, replayed_nodes
from models.review import (
    REVIEW_COLUMNS,
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

Said = tuple[pd.DataFrame, str]
"""Forecast rows, and whether they were published or replayed."""


def review(session: Session, *, as_of: str | None, period_start: str | None, progress: Progress) -> Document:
    """Model, calls and baselines at every cut of a period up to a moment, beside what came: the `review` document."""
    progress("read", 0.0)
    tables = read_tables(session.workspace)
    moment = moment_of(tables, as_of)
    period = period_asked(tables.calendar, moment.at, period_start)
    history = build_history(tables)
    cuts = review_cuts(tables.calendar, period, moment.at)
    bundles, notes = _bundles(session, tables, [*cuts, moment.at])
    said = _forecasts(session, tables, cuts, period, bundles, progress)
    progress("calls", 0.6)
    record = caller_record(tables, history, moment.at)
    overrides = session.ledger.overrides(period_start=pd.Timestamp(period.start))
    parts = [empty_rows()]
    for place, cut in enumerate(cuts):
        progress("compare", 0.7 + 0.3 * place / len(cuts))
        nodes, basis = said.get(cut) or (called_nodes(tables, history, cut, period), "replayed")
        at_cut = {"cut": cut, "period": period, "basis": basis, "overrides": overrides}
        parts.append(review_rows(tables, history, nodes, record, **at_cut))
    rows = with_actual(
        pd.concat(parts, ignore_index=True),
        final_bookings(tables, history, period, moment.at),
        latest_bookings(tables, history, period, moment.at),
    )
    if rows["actual"].notna().any() and not moment.is_past:
        _keep_accuracy(session, rows, period, moment.at)
    speaks = bundles.get(moment.at)
    return {
        "as_of": moment.at,
        "period_start": period.start,
        "period_end": period.end,
        "model_version": speaks.model_version if speaks else None,
        "data_version": tables.data_version,
        "out": None,
        "notes": [*_period_notes(tables, period, moment, cuts), *_notes_on(notes, said, cuts)],
        "rows": rows[list(REVIEW_COLUMNS)],
        "callers": _callers(rows, record),
    }


def _callers(rows: pd.DataFrame, record: pd.DataFrame) -> pd.DataFrame:
    """What the calls that stand at the last cut have been worth in the past, caller by caller."""
    if rows.empty:
        return pd.DataFrame(columns=list(TRAITS))
    last = rows[(rows["forecaster"] == "call") & (rows["cut_at"] == rows["cut_at"].max())]
    cut, week = rows["cut_at"].max(), int(rows["week_of_period"].max())
    called = list(zip(last["user_id"], last["category"], strict=True))
    return tell_callers(caller_traits(record, week=week, cut=cut), called, week=week)


def _keep_accuracy(session: Session, rows: pd.DataFrame, period: Period, at: pd.Timestamp) -> None:
    """Write down how right everybody was of a period whose books have closed, where MLflow is installed."""
    with contextlib.suppress(ModuleNotFoundError):
        from training.accuracy import keep_accuracy

        keep_accuracy(session.workspace, rows, period=period, kind="review", at=at)


def _bundles(
    session: Session, tables: CrmTables, moments: list[pd.Timestamp]
) -> tuple[dict[pd.Timestamp, Bundle], dict[pd.Timestamp, str]]:
    """The model that may speak at each moment, and why there is none where there is none."""
    found: dict[pd.Timestamp, Bundle] = {}
    reasons: dict[pd.Timestamp, str] = {}
    by_version: dict[str, Bundle] = {}
    for moment in moments:
        try:
            bundle = bundle_for(session.workspace, moment, tables.as_of)
        except NoModel as none:
            reasons[moment] = " ".join([none.message, *(detail.next_step for detail in none.details)])
            continue
        found[moment] = by_version.setdefault(bundle.model_version, bundle)
    return found, reasons


def _forecasts(
    session: Session,
    tables: CrmTables,
    cuts: list[pd.Timestamp],
    period: Period,
    bundles: dict[pd.Timestamp, Bundle],
    progress: Progress,
) -> dict[pd.Timestamp, Said]:
    """What was said at each cut: published, else replayed by the model of that time, else nothing."""
    said: dict[pd.Timestamp, Said] = {}
    to_replay: dict[str, list[pd.Timestamp]] = {}
    for cut in cuts:
        published = published_nodes(session.ledger, cut=cut, period=period)
        if published is not None:
            said[cut] = published, "published"
        elif cut in bundles:
            to_replay.setdefault(bundles[cut].model_version, []).append(cut)
    for place, moments in enumerate(to_replay.values()):
        progress("replay", 0.1 + 0.5 * place / len(to_replay))
        bundle = bundles[moments[0]]
        seen, history = bundle.read_history(tables)
        replays = replayed_nodes(session.ledger, bundle, seen, history, cuts=moments, period=period, now=session.now)
        said |= {cut: (nodes, "replayed") for cut, nodes in replays.items()}
    return said


def _notes_on(reasons: dict[pd.Timestamp, str], said: dict[pd.Timestamp, Said], cuts: list[pd.Timestamp]) -> list[str]:
    """For the cuts without a model row: how many, and the reason of the first."""
    silent = [cut for cut in cuts if cut not in said]
    return [f"No model row at {len(silent)} of {len(cuts)} cuts. {reasons[silent[0]]}"] if silent else []


def _period_notes(tables: CrmTables, period: Period, moment: Moment, cuts: list[pd.Timestamp]) -> list[str]:
    if not cuts:
        return [f"No Monday 09:00 of the period {period.label} had come by then: there is nothing to review."]
    closed_at = books_close_at(tables.calendar, period)
    if closed_at > moment.at:
        return [f"The books of {period.label} close on {tables.calendar.local_day(closed_at)}: actuals are unknown."]
    return []


def backtest(
    session: Session, *, periods: int, out: Path | None, workers: int | None = None, progress: Progress
) -> Document:
    """Walk forward over past periods and write down who was right: the `backtest` document.

    Raises
    ------
    UsageError : this installation cannot train, or the folder cannot be made.
    """
    try:
        from training.accuracy import keep_backtest
        from training.backtest import run_backtest
    except ModuleNotFoundError as missing:
        detail = Detail("installation", missing.name, "a backtest trains, which needs the extra `train`", _INSTALL)
        raise UsageError("This installation can score and serve, but not train.", detail) from None
    progress("read", 0.0)
    tables = read_tables(session.workspace)
    folder = out or session.workspace / "backtest"
    if folder.exists() and not folder.is_dir():
        detail = Detail("--out", str(folder), "a folder; it is made where there is none", "Name a folder.")
        raise UsageError(f"{folder} is not a folder.", detail)
    found = run_backtest(
        tables,
        session.ledger,
        folder,
        now=session.now,
        periods=periods,
        workers=workers or os.cpu_count() or 1,
        progress=progress,
    )
    document = {
        "as_of": tables.as_of,
        "data_version": tables.data_version,
        "periods": list(found.periods),
        "notes": list(found.notes),
        "scoreboard": found.scoreboard,
        "differences": found.differences,
        "out": folder,
    }
    write_table(found.rows[list(REVIEW_COLUMNS)], folder / "rows.parquet")
    for name in ("scoreboard", "differences"):
        write_table(document[name], folder / f"{name}.csv")
    (folder / "backtest.json").write_text(render_document(document), "utf-8")
    keep_backtest(session.workspace, tables, found, folder, at=session.now)
    return document


_INSTALL = "pip install 'dealcast[train]'"
