"""Work with a CRM: make the connection, pull what changed, write scores back; each gives the document handed over."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from crm.connectors.base import Connector, OutgoingScore
from crm.connectors.landing import fetch_and_import
from crm.errors import Detail, OtherSideFailed, UsageError
from crm.history import build_history, open_deals
from crm.store import read_tables
from dealcast import connections
from dealcast.holdout import withheld_deals
from dealcast.session import Progress, Session
from features.catalogue import BY_NAME
from ledger.outbox import Waiting, enqueue, forget, parked, settle, unpark, waiting, written

Document = dict[str, Any]
SCORES_AT_ONCE = 200
RANGE = ("win_probability_low", "win_probability_high")
LOOK_EVERY_SECONDS, PAUSE_AFTER_FAILURE_SECONDS = 1.0, 15.0


def connect(session: Session, name: str, given: Sequence[str], *, progress: Progress) -> Document:
    """Make or change a connection, once the CRM behind it has answered: the `connect` document.

    Raises
    ------
    UsageError : a setting is wrong or missing, or there is no secret.
    OtherSideFailed : the CRM does not answer, or does not let us in; the connection stays as it was.
    """
    progress("ask", 0.1)
    connection = connections.asked_connection(session.workspace, name, given)
    with connections.opened(session.workspace, connection) as connector:
        found = connector.survey()
        calls = connector.api_calls
    path = connections.write_connection(session.workspace, connection)
    return {"connection": name, "file": path, **vars(found), "api_calls": calls}


def sync(session: Session, name: str | None, *, full: bool, progress: Progress) -> Document:
    """Pull what changed in the CRM since the last time and import it: the `sync` document.

    Raises
    ------
    OtherSideFailed : the CRM failed; nothing was imported, and the next sync begins where this one did.
    """
    connection = connections.read_connection(session.workspace, name)
    with connections.opened(session.workspace, connection) as connector:
        landed = fetch_and_import(
            session.workspace, connection.name, connector, anew=full, now=session.now, progress=progress
        )
        calls = connector.api_calls
    report = landed.report
    return {
        "connection": connection.name,
        "cursor": landed.cursor,
        "as_of": report.as_of,
        "data_version": report.data_version,
        "tables": report.tables,
        "api_calls": calls,
        "quarantine": report.quarantine,
        "notes": landed.notes,
    }


def push(session: Session, name: str | None, *, again: bool = False, progress: Progress) -> Document:
    """Write the published scores that changed into the CRM: the `push` document.

    What the CRM refuses is kept with its reason and tried again by the next push; refused too often it is parked, and
    tried only when asked (`again`).

    Raises
    ------
    UsageError : nothing was scored yet, or the CRM has no place for scores.
    OtherSideFailed : the CRM failed; what it had taken by then stays taken.
    """
    connection = connections.read_connection(session.workspace, name)
    engine, standing = session.ledger.engine, _standing(session)
    asked = [_outgoing(score) for score in standing]
    ranges = {each["deal_id"]: {name: each[name] for name in RANGE} for each in standing}
    progress("compare", 0.1)
    if again:
        unpark(engine, connection.name)
    unchanged = enqueue(
        engine, connection.name, asked, least_change_points=connection.least_change_points, now=session.now
    )
    to_write = waiting(engine, connection.name)
    failed: dict[str, str] = {}
    with connections.opened(session.workspace, connection) as connector:
        for place in range(0, len(to_write), SCORES_AT_ONCE):
            progress("write", 0.1 + 0.9 * place / len(to_write))
            some = to_write[place : place + SCORES_AT_ONCE]
            refused = connector.push([OutgoingScore(**vars(score), **ranges[score.deal_id]) for score in some])
            settle(engine, connection.name, some, refused, now=pd.Timestamp.now("UTC").as_unit("us"))
            failed |= refused
        written_now = len(to_write) - len(failed)
        withdrawn, kept = _withdraw(session, connection.name, connector)
        calls = connector.api_calls
    return {
        "connection": connection.name,
        "written": written_now,
        "unchanged": unchanged,
        "withdrawn": withdrawn,
        "failed": [{"deal_id": deal_id, "reason": reason} for deal_id, reason in sorted((failed | kept).items())],
        "parked": [
            {"deal_id": deal_id, "reason": why} for deal_id, why in sorted(parked(engine, connection.name).items())
        ],
        "api_calls": calls,
    }


def _withdraw(session: Session, name: str, connector: Connector) -> tuple[int, dict[str, str]]:
    """Take away what the CRM holds of teams that were held out since; how many, and why not, by deal."""
    if not session.settings.access.holdout.share:
        return 0, {}
    engine, tables = session.ledger.engine, read_tables(session.workspace)
    deals = tables.get("deals")
    there = set(deals.loc[deals["deleted_at"].isna(), "deal_id"]) if "deleted_at" in deals else set(deals["deal_id"])
    shown = sorted(written(engine, name) & withheld_deals(session, tables) & there)
    kept = connector.withdraw(shown) if shown else {}
    forget(engine, name, set(shown) - kept.keys())
    return len(shown) - len(kept), kept


def follow(session: Session, name: str | None, *, again: bool = False, progress: Progress) -> Iterator[Document]:
    """Push now, and again whenever scores were published, until interrupted: the `push` document of each.

    A CRM that fails is tried again until it takes them.

    Raises
    ------
    UsageError : as `push`.
    """
    pushed = -1
    while True:
        newest = session.ledger.last_publication() or 0
        pause = LOOK_EVERY_SECONDS
        if newest != pushed:
            session.now = pd.Timestamp.now("UTC").as_unit("us")
            try:
                yield push(session, name, again=again, progress=progress)
                pushed, again = newest, False
            except OtherSideFailed as failure:
                progress(str(failure), 0.0)
                pause = PAUSE_AFTER_FAILURE_SECONDS
        time.sleep(pause)


def _standing(session: Session) -> list[Mapping[str, Any]]:
    """The last published score of every open deal, but of the holdout's none.

    They come from several publications: after events the service publishes the scores of a few deals alone.
    """
    heads = session.ledger.publications("scores", basis="published")
    if not heads:
        raise UsageError(
            "There are no scores to write.", Detail("ledger", None, "scores are published first", "dealcast score")
        )
    tables = read_tables(session.workspace)
    wanted = set(open_deals(build_history(tables), tables.as_of)["deal_id"])
    if session.settings.access.holdout.share:
        wanted -= set(withheld_deals(session, tables))
    found: list[Mapping[str, Any]] = []
    for head in reversed(heads):
        if not wanted:
            break
        scores = session.ledger.scores_of(head)
        found += scores[scores["deal_id"].isin(list(wanted))].to_dict("records")
        wanted -= set(scores["deal_id"])
    return found


def _outgoing(score: Mapping[str, Any]) -> Waiting:
    """A published score as the CRM shows it: whoever sees the deal sees the reasons, so only those meant for all go."""
    for_everyone = [each["text"] for each in score["reasons"] if _is_for_everyone(each["feature"])]
    change = score["score_change"]
    return Waiting(
        deal_id=score["deal_id"],
        win_probability=score["win_probability"],
        score_change=None if pd.isna(change) else change,
        reasons=tuple(for_everyone),
        as_of=score["as_of"],
        model_version=score["model_version"],
    )


def _is_for_everyone(feature: str) -> bool:
    return feature in BY_NAME and BY_NAME[feature].audience == "everyone"
