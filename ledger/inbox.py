"""The inbox: rows that systems send, kept durably and in order before anybody is told they were taken in.

Numbers grow in the order in which transactions are committed: whoever has read up to a number has missed nothing
below it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from sqlalchemy import Connection, Engine, Row, func, select

from ledger.database import reading, writing
from ledger.tables import event

INBOX_LOCK = 0x6576656E  # "even": one number, the same for every process that writes to this inbox
Taken = Literal["accepted", "duplicate", "other content"]


@dataclass(frozen=True)
class Event:
    """A row that somebody sent.

    Attributes
    ----------
    event_id : as the sender named it; each is taken in once.
    table, content : the CRM table, and the row as JSON text.
    moment : the latest past timestamp in the row; None if it has none.
    key_id : the key that sent it.
    number : its place in the inbox, once it is there.
    """

    event_id: str
    table: str
    content: str
    moment: pd.Timestamp | None
    received_at: pd.Timestamp
    key_id: str
    number: int | None = None


@dataclass(frozen=True)
class Waiting:
    """How many events were not folded into the data yet, and when the first of them came (None if there is none)."""

    events: int
    since: pd.Timestamp | None


class Inbox:
    """The events in one database."""

    engine: Engine

    def known_events(self, event_ids: Iterable[str]) -> dict[str, Event]:
        """Those of these events that were taken in before, by id."""
        with reading(self.engine) as connection:
            return _known(connection, event_ids)

    def take_in(self, events: Sequence[Event]) -> list[Taken]:
        """Write events down, all in one transaction, and say of each what became of it.

        An id that was taken in before is not taken in again: the same row is a duplicate, another one is told apart.
        """
        with writing(self.engine) as connection:
            return take_in(connection, events)

    def events_after(self, number: int, *, most: int | None = None) -> list[Event]:
        """The events beyond a number, in order."""
        query = select(event).where(event.c.number > number).order_by(event.c.number).limit(most)
        with reading(self.engine) as connection:
            return [_event_of(row) for row in connection.execute(query)]

    def last_event(self) -> int:
        """The number of the event taken in last, 0 before the first."""
        with reading(self.engine) as connection:
            return connection.execute(select(func.max(event.c.number))).scalar() or 0

    def events_waiting(self, after: int) -> Waiting:
        """How much lies beyond a number."""
        query = select(func.count(), func.min(event.c.received_at)).where(event.c.number > after)
        with reading(self.engine) as connection:
            count, since = connection.execute(query).one()
        return Waiting(count, None if since is None else pd.Timestamp(since))


def take_in(connection: Connection, events: Sequence[Event]) -> list[Taken]:
    """`Inbox.take_in` within a transaction that writes."""
    if connection.dialect.name == "postgresql":
        # Without it a number could become visible after a greater one, and be missed.
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({INBOX_LOCK})")
    known = _known(connection, [each.event_id for each in events])
    taken: list[Taken] = []
    new: dict[str, Event] = {}
    for each in events:
        before = known.get(each.event_id) or new.get(each.event_id)
        if before is None:
            new[each.event_id] = each
            taken.append("accepted")
        else:
            taken.append("duplicate" if is_same(before, each) else "other content")
    if new:
        rows = [{**vars(each), "table_name": each.table} for each in new.values()]
        connection.execute(event.insert(), [{k: v for k, v in row.items() if k not in _NOT_GIVEN} for row in rows])
    return taken


_NOT_GIVEN = ("table", "number")


def is_same(one: Event, other: Event) -> bool:
    """Whether two events say the same."""
    return (one.table, one.content) == (other.table, other.content)


def _known(connection: Connection, event_ids: Iterable[str]) -> dict[str, Event]:
    rows = connection.execute(select(event).where(event.c.event_id.in_(list(event_ids))))
    return {row.event_id: _event_of(row) for row in rows}


def _event_of(row: Row[tuple[object, ...]]) -> Event:
    told = dict(row._mapping)
    told["table"] = told.pop("table_name")
    moments = {name: None if told[name] is None else _instant(told[name]) for name in ("moment", "received_at")}
    return Event(**{**told, **moments})


def _instant(stored: object) -> pd.Timestamp:
    return pd.Timestamp(stored).as_unit("us")
