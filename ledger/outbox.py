"""Scores on their way into a CRM: what is to be written there, what stands there, and what it would not take, and why.

A score waits here from the moment it differs enough from the one the CRM holds until the CRM has taken it. Whoever is
killed in between writes it again: writing twice is as good as once. One that was refused `PARKED_AFTER` times is
parked: it stays here with the reason, and is not tried until somebody asks for it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from sqlalchemy import Engine, bindparam, delete, select, update

from ledger.database import reading, writing
from ledger.tables import outbox

PARKED_AFTER = 5


@dataclass(frozen=True)
class Waiting:
    """A score to be written into a CRM, with where it comes from."""

    deal_id: str
    win_probability: float
    score_change: float | None
    reasons: tuple[str, ...]
    as_of: pd.Timestamp
    model_version: str


def enqueue(
    engine: Engine, connection: str, scores: Sequence[Waiting], *, least_change_points: float, now: pd.Timestamp
) -> int:
    """Let the scores wait that differ from what the CRM holds; what waited for other deals waits no more.

    Parameters
    ----------
    scores : one for every open deal.
    least_change_points : how far (0..100) a score must be from the one written last; 0 writes every other value.

    Returns
    -------
    How many scores need not be written.
    """
    with writing(engine) as begun:
        mine = outbox.c.connection == connection
        columns = (outbox.c.deal_id, outbox.c.written_probability)
        held = {row.deal_id: row.written_probability for row in begun.execute(select(*columns).where(mine))}
        begun.execute(update(outbox).where(mine).values(is_waiting=False))
        changed = [each for each in scores if _differs(held.get(each.deal_id), each, least_change_points)]
        rows = [{**_row(each), "connection": connection, "queued_at": now} for each in changed]
        new = [{**row, "is_waiting": True, "tries": 0} for row in rows if row["deal_id"] not in held]
        known = [_renamed(row) for row in rows if row["deal_id"] in held]
        if new:
            begun.execute(outbox.insert(), new)
        if known:
            this = (mine, outbox.c.deal_id == bindparam("this_deal"))
            fresh: dict[str, Any] = {
                name: bindparam(f"new_{name}") for name in (*_row(changed[0]), "queued_at") if name != "deal_id"
            }
            begun.execute(update(outbox).where(*this).values(is_waiting=True, **fresh), known)
        begun.execute(delete(outbox).where(mine, ~outbox.c.is_waiting, outbox.c.written_at.is_(None)))
    return len(scores) - len(changed)


def waiting(engine: Engine, connection: str) -> list[Waiting]:
    """What is still to be written into a CRM and not parked, by deal_id."""
    names = tuple(Waiting.__dataclass_fields__)
    mine = (outbox.c.connection == connection, outbox.c.is_waiting, outbox.c.tries < PARKED_AFTER)
    query = select(*(outbox.c[name] for name in names)).where(*mine)
    with reading(engine) as begun:
        rows = begun.execute(query.order_by(outbox.c.deal_id)).mappings().all()
    return [Waiting(**{**row, "reasons": tuple(row["reasons"]), "as_of": pd.Timestamp(row["as_of"])}) for row in rows]


def written(engine: Engine, connection: str) -> set[str]:
    """The deals whose score a CRM holds."""
    mine = (outbox.c.connection == connection, outbox.c.written_probability.is_not(None))
    with reading(engine) as begun:
        return set(begun.execute(select(outbox.c.deal_id).where(*mine)).scalars())


def forget(engine: Engine, connection: str, deals: Collection[str]) -> None:
    """Note that a CRM holds no score of these deals any more, and that none waits."""
    this = delete(outbox).where(outbox.c.connection == connection, outbox.c.deal_id == bindparam("this_deal"))
    if deals:
        with writing(engine) as begun:
            begun.execute(this, [{"this_deal": deal_id} for deal_id in deals])


def parked(engine: Engine, connection: str) -> dict[str, str]:
    """What was refused too often to be tried again, with the reason given last, by deal_id."""
    mine = (outbox.c.connection == connection, outbox.c.is_waiting, outbox.c.tries >= PARKED_AFTER)
    with reading(engine) as begun:
        rows = begun.execute(select(outbox.c.deal_id, outbox.c.refused_because).where(*mine)).all()
    return {row.deal_id: str(row.refused_because) for row in rows}


def unpark(engine: Engine, connection: str) -> None:
    """Let what is parked be tried as if it had never been refused."""
    with writing(engine) as begun:
        begun.execute(update(outbox).where(outbox.c.connection == connection).values(tries=0))


def settle(
    engine: Engine, connection: str, tried: Sequence[Waiting], refused: Mapping[str, str], *, now: pd.Timestamp
) -> None:
    """Note what the CRM took; what it refused waits on, with its reason, by deal_id."""
    this = (outbox.c.connection == connection, outbox.c.deal_id == bindparam("this_deal"))
    taken = (
        update(outbox)
        .where(*this)
        .values(
            is_waiting=False, refused_because=None, tries=0, written_at=now, written_probability=bindparam("now_there")
        )
    )
    kept = update(outbox).where(*this).values(tries=outbox.c.tries + 1, refused_because=bindparam("because"))
    done = [{"this_deal": e.deal_id, "now_there": e.win_probability} for e in tried if e.deal_id not in refused]
    left = [{"this_deal": deal_id, "because": because} for deal_id, because in refused.items()]
    with writing(engine) as begun:
        for statement, rows in ((taken, done), (kept, left)):
            if rows:
                begun.execute(statement, rows)


def _differs(there: float | None, score: Waiting, least_change_points: float) -> bool:
    if there is None:
        return True
    points = abs(score.win_probability - there) * 100
    return points > 0 and points >= least_change_points


def _row(score: Waiting) -> dict[str, Any]:
    return {**vars(score), "reasons": list(score.reasons)}


def _renamed(row: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of an update may not be called like its columns."""
    return {"this_deal" if name == "deal_id" else f"new_{name}": value for name, value in row.items()}
