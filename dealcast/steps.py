"""The steps from an export to a forecast, each giving the document that the command line hands over.

Documents hold frames where the contract has lists of rows; they become rows when they are printed.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from crm.calendar import Calendar, Period
from crm.checks import run_checks
from crm.errors import Detail, UsageError
from crm.history import DealHistory, build_history, open_deals
from crm.ingest import import_folder
from crm.mapping import load_mapping
from crm.plain import to_plain
from crm.store import read_tables
from crm.tables import CrmTables
from dealcast.holdout import withheld_deals
from dealcast.session import Progress, Session
from ledger.ledger import Publication
from models.bundle import Bundle, bundle_for
from models.forecast_look import chances_beyond_scores
from models.forecaster import forecast_nodes
from models.moves import moves_since
from models.replays import bundle_that_spoke
from models.scorer import score_deals
from serving.schema import SCORE_COLUMNS
from serving.state import with_change

Document = dict[str, Any]


def import_tables(
    session: Session, source: Path, *, full: bool, mapping: str | None = None, progress: Progress
) -> Document:
    """Import a folder, perhaps through a mapping file, and check what came of it: the `import` document."""
    read_by = None if mapping is None else load_mapping(mapping)
    report = import_folder(session.workspace, source, full=full, now=session.now, progress=progress, mapping=read_by)
    tables = read_tables(session.workspace)
    progress("check", 0.95)
    return {**report.to_dict(), "findings": run_checks(tables, build_history(tables))}


def check_tables(session: Session) -> Document:
    """The `check` document of the current data version."""
    tables = read_tables(session.workspace)
    fields = {
        name: {"class": known.tracked, "since": known.since, "known_share": known.known_share}
        for name, known in tables.field_classes.items()
    }
    findings = run_checks(tables, build_history(tables))
    return {"as_of": tables.as_of, "data_version": tables.data_version, "fields": fields, "findings": findings}


@dataclass(frozen=True)
class TuningAsked:
    """How many settings to try, for how many minutes (None: no limit), in how many processes (None: one a core)."""

    trials: int = 0
    minutes: float | None = None
    workers: int | None = None


def train_model(
    session: Session,
    *,
    as_of: str | None,
    promote: Literal["auto", "never", "always"],
    tuning: TuningAsked = TuningAsked(),
    progress: Progress,
) -> Document:
    """Train as of a moment and let the gate decide: the `train` document."""
    try:
        from training.fit import train
    except ModuleNotFoundError as missing:
        rule = "training needs the extra `train`"
        detail = Detail("installation", missing.name, rule, "pip install 'dealcast[train]'")
        raise UsageError("This installation can score and serve, but not train.", detail) from None
    moment = None if as_of is None else moment_of(read_tables(session.workspace), as_of).at
    report = train(
        session.workspace,
        as_of=moment,
        promote=promote,
        now=session.now,
        trials=tuning.trials,
        minutes=tuning.minutes,
        workers=tuning.workers,
        by=session.user,
        progress=progress,
    )
    if report.verdict.moves_champion:
        version, reason = report.bundle.model_version, "; ".join(report.verdict.reasons)
        session.ledger.record(session.user, "promoted", version, at=session.now, reason=reason)
    return report.to_dict()


@dataclass(frozen=True)
class Moment:
    """An as-of moment; `is_past` if it lies before the data's moment: nothing said for it is published."""

    at: pd.Timestamp
    is_past: bool


def moment_of(tables: CrmTables, as_of: str | None) -> Moment:
    """The moment a user asks for: a day is its local midnight, none is the data's moment.

    Raises
    ------
    UsageError : not a moment, or later than the data's moment.
    """
    at = tables.as_of if as_of is None else tables.calendar.parse_moment(as_of)
    if at > tables.as_of:
        rule = f"not later than the data's moment, {tables.as_of:%Y-%m-%dT%H:%M:%SZ}"
        raise UsageError(
            "Nothing is known about that moment yet.",
            Detail("--as-of", as_of, rule, "Import newer data, or ask for an earlier moment."),
        )
    return Moment(at, at < tables.as_of)


def period_asked(calendar: Calendar, at: pd.Timestamp, period_start: str | None) -> Period:
    """The period that starts on the day named, or the one that holds the moment.

    Raises
    ------
    UsageError : not a date, or no period starts on it.
    """
    if period_start is None:
        return calendar.period_of(at)
    try:
        return calendar.period_starting(date.fromisoformat(period_start))
    except ValueError:
        detail = Detail("--period-start", period_start, "a date, YYYY-MM-DD", "Write for example 2026-01-01.")
        raise UsageError(f"{period_start!r} is not a date.", detail) from None


@dataclass(frozen=True)
class View:
    """What is known at a moment, and the model that may speak for it."""

    tables: CrmTables
    history: DealHistory
    moment: Moment
    bundle: Bundle

    def scores(self, *, explain: bool) -> pd.DataFrame:
        """The score rows of the deals open at the moment, but for what changed."""
        spine = open_deals(self.history, self.moment.at)
        return score_deals(self.bundle, self.tables, self.history, spine, explain=explain)

    def chances_beyond_scores(self, period: Period) -> pd.Series | None:
        """Each open deal's chance in a period that score rows do not reach; None for the present and the next one."""
        return chances_beyond_scores(self.bundle, self.tables, self.history, as_of=self.moment.at, period=period)

    def document(self, period: Period, **more: object) -> Document:
        """The head that score and forecast documents share."""
        return {
            "as_of": self.moment.at,
            "period_start": period.start,
            "period_end": period.end,
            "model_version": self.bundle.model_version,
            "data_version": self.tables.data_version,
            **more,
            "published": not self.moment.is_past,
        }

    def publication(self, kind: Literal["scores", "forecast"], now: pd.Timestamp) -> Publication:
        """The head under which the ledger keeps what is said."""
        return Publication(kind, "published", self.moment.at, now, self.bundle.model_version, self.tables.data_version)


def view_at(workspace: Path, as_of: str | None) -> View:
    """Read the workspace as of a moment, with the model the contract names for it."""
    tables = read_tables(workspace)
    moment = moment_of(tables, as_of)
    bundle = bundle_for(workspace, moment.at, tables.as_of)
    return View(*bundle.read_history(tables), moment, bundle)


def score(session: Session, *, as_of: str | None, progress: Progress) -> Document:
    """Score the open deals of a moment and publish them unless it is past: the `score` document."""
    progress("read", 0.0)
    view = view_at(session.workspace, as_of)
    progress("score", 0.3)
    scores = with_change(view.scores(explain=True), session.ledger, view.moment.at)[list(SCORE_COLUMNS)]
    if not view.moment.is_past:
        progress("publish", 0.9)
        session.ledger.publish_scores(view.publication("scores", session.now), scores)
    shadow = None if view.moment.is_past else _shadow(session, view, scores)
    period = view.tables.calendar.period_of(view.moment.at)
    document = view.document(period, deals=len(scores))
    scores = scores[~scores["deal_id"].isin(withheld_deals(session, view.tables))].reset_index(drop=True)
    return {**document, "shadow": shadow, "out": None, "scores": scores}


def _shadow(session: Session, view: View, scores: pd.DataFrame) -> Document | None:
    """What the challenger would have said of the same deals; kept, not published."""
    from dealcast.shadow import shadow_score

    champion = view.bundle.model_version
    return shadow_score(
        session.workspace, view.tables, scores, champion=champion, as_of=view.moment.at, now=session.now
    )


def forecast(
    session: Session,
    *,
    as_of: str | None,
    period_start: str | None,
    by: str | None,
    since: str | None = None,
    progress: Progress,
) -> Document:
    """Forecast the bookings of every node and publish them unless the moment is past: the `forecast` document.

    With `since`, also why every node's mean is not what it was then: `since` and `moved`.
    """
    progress("read", 0.0)
    view = view_at(session.workspace, as_of)
    period = period_asked(view.tables.calendar, view.moment.at, period_start)
    before = None if since is None else moment_before(view, since)
    progress("score", 0.3)
    scores = view.scores(explain=False)
    progress("forecast", 0.6)
    nodes = forecast_nodes(
        view.bundle,
        view.tables,
        view.history,
        scores,
        as_of=view.moment.at,
        period=period,
        by=by,
        win_probability=view.chances_beyond_scores(period),
    )
    if not view.moment.is_past:
        progress("publish", 0.9)
        session.ledger.publish_forecast(view.publication("forecast", session.now), nodes)
    document = {**view.document(period), "out": None, "nodes": nodes}
    if before is None:
        return document
    progress("compare", 0.95)
    return {**document, **_moved(session, view, scores, before, period)}


def moment_before(view: View, since: str) -> pd.Timestamp:
    """The moment that a forecast is compared with.

    Raises
    ------
    UsageError : not a moment, or not earlier than the view's.
    """
    at = view.tables.calendar.parse_moment(since)
    if at >= view.moment.at:
        detail = Detail("--since", since, f"earlier than {to_plain(view.moment.at)}", "Name an earlier day.")
        raise UsageError("A forecast is compared with one made before it.", detail)
    return at


def _moved(session: Session, view: View, scores: pd.DataFrame, since: pd.Timestamp, period: Period) -> Document:
    """Why the means moved since an earlier moment, from what the model that spoke then says of it."""
    before = bundle_that_spoke(session.workspace, session.ledger, view.tables, period, since)
    moves = moves_since(
        view.bundle,
        view.tables,
        view.history,
        since=since,
        as_of=view.moment.at,
        period=period,
        before=before,
        scores=scores,
    )
    return {"since": {"as_of": since, "model_version": before.model_version}, "moved": moves.rows()}
