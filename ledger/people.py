"""What people say beside the model: calls and overrides, kept for good, each with whether its number had been read.

A *reading* is written down whenever the service tells somebody one of the model's numbers. What somebody submits was
said with the number seen if a reading of it came at or after the number's last publication; as long as it was never
published, any reading counts. What is read elsewhere (command line, files, a CRM) nobody can write down.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from sqlalchemy import ColumnElement, Engine, func, select, true, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from ledger.database import reading, writing
from ledger.inbox import Event, take_in
from ledger.tables import (
    call_entry,
    forecast_entry,
    model_reading,
    override_entry,
    override_note,
    publication,
    score_entry,
)

READINGS_AT_ONCE = 500


@dataclass(frozen=True)
class Score:
    """A deal's score."""

    deal_id: str

    @property
    def name(self) -> str:
        """How a reading of it is kept."""
        return f"score:{self.deal_id}"


@dataclass(frozen=True)
class Node:
    """A node's forecast of a period; `period_start` is its first day."""

    period_start: pd.Timestamp
    node_type: str
    node_id: str

    @property
    def name(self) -> str:
        """How a reading of it is kept."""
        return f"forecast:{self.period_start:%Y-%m-%d}:{self.node_type}:{self.node_id}"


Subject = Score | Node


class People:
    """What people said, in one database."""

    engine: Engine

    def write_readings(self, read_at: Mapping[tuple[str, Subject], pd.Timestamp]) -> None:
        """Write down when each reader was told each number; of each only the last time is kept."""
        dialect = postgresql if self.engine.dialect.name == "postgresql" else sqlite
        told = [{"reader": who, "subject": what.name, "read_at": at} for (who, what), at in read_at.items()]
        told.sort(key=lambda row: (row["reader"], row["subject"]))  # in one order, or two writers wait for each other
        with writing(self.engine) as connection:
            for first in range(0, len(told), READINGS_AT_ONCE):
                insert = dialect.insert(model_reading).values(told[first : first + READINGS_AT_ONCE])
                connection.execute(
                    insert.on_conflict_do_update(
                        index_elements=["reader", "subject"],
                        set_={"read_at": insert.excluded.read_at},
                        where=insert.excluded.read_at > model_reading.c.read_at,
                    )
                )

    def had_seen(self, readers: Collection[str], subjects: Collection[Subject]) -> bool:
        """Whether one of these readers had read one of these numbers since it was last published."""
        by_name = {subject.name: subject for subject in subjects}
        query = select(model_reading.c.subject, func.max(model_reading.c.read_at)).group_by(model_reading.c.subject)
        query = query.where(model_reading.c.reader.in_(list(readers)), model_reading.c.subject.in_(list(by_name)))
        with reading(self.engine) as connection:
            for name, read_at in connection.execute(query).all():
                published_at = connection.execute(_last_published(by_name[name])).scalar()
                if published_at is None or read_at >= published_at:
                    return True
        return False

    def submit_calls(self, calls: Sequence[dict[str, Any]], events: Sequence[Event]) -> None:
        """Keep calls, and the events that bring them to the forecast, all or none.

        Parameters
        ----------
        calls : the columns of `call_entry` but call_id.
        """
        with writing(self.engine) as connection:
            take_in(connection, events)
            connection.execute(call_entry.insert(), list(calls))

    def calls(self) -> pd.DataFrame:
        """Every call submitted to the service, in order: the columns of `call_entry`."""
        with reading(self.engine) as connection:
            rows = connection.execute(select(call_entry).order_by(call_entry.c.call_id)).mappings().all()
        return pd.DataFrame(rows, columns=list(call_entry.c.keys()))

    def has_called(self, user_id: str, *, period_start: pd.Timestamp) -> bool:
        """Whether somebody called for a period through the service."""
        query = select(call_entry.c.call_id).where(
            call_entry.c.user_id == user_id, call_entry.c.period_start == period_start.date()
        )
        with reading(self.engine) as connection:
            return connection.execute(query.limit(1)).first() is not None

    def submit_overrides(self, overrides: Sequence[dict[str, Any]]) -> list[int]:
        """Keep overrides, all or none, and return their numbers.

        Parameters
        ----------
        overrides : the columns of `override_entry` but override_id, and note (None: none).
        """
        numbers = []
        with writing(self.engine) as connection:
            for each in overrides:
                said = {name: value for name, value in each.items() if name != "note"}
                statement = override_entry.insert().values(said).returning(override_entry.c.override_id)
                number = connection.execute(statement).scalar_one()
                numbers.append(number)
                if each["note"]:
                    connection.execute(override_note.insert(), {"override_id": number, "note": each["note"]})
        return numbers

    def overrides(self, *, period_start: pd.Timestamp) -> pd.DataFrame:
        """The overrides of a period, in the order in which they were said.

        Returns
        -------
        DataFrame with the columns of `override_entry`, and note; instants are UTC.
        """
        return self._overrides(override_entry.c.period_start == period_start.date())

    def all_overrides(self, user_id: str | None = None) -> pd.DataFrame:
        """The overrides of one person, or of everybody, of all periods: as `overrides` returns them."""
        return self._overrides(true() if user_id is None else override_entry.c.user_id == user_id)

    def deal_overrides(self, deal_id: str) -> pd.DataFrame:
        """What anybody said otherwise of a deal, in any period: as `overrides` returns it."""
        return self._overrides(override_entry.c.deal_id == deal_id)

    def _overrides(self, which: ColumnElement[bool]) -> pd.DataFrame:
        query = select(override_entry, override_note.c.note).join(override_note, isouter=True).where(which)
        query = query.order_by(override_entry.c.submitted_at, override_entry.c.override_id)
        with reading(self.engine) as connection:
            rows = connection.execute(query).mappings().all()
        frame = pd.DataFrame(rows, columns=[*override_entry.c.keys(), "note"])
        for name in ("submitted_at", "received_at"):
            frame[name] = pd.to_datetime(frame[name], utc=True).astype("datetime64[us, UTC]")
        return frame


def _last_published(subject: Subject) -> Any:
    """When a number was last published."""
    query = select(func.max(publication.c.published_at)).where(publication.c.basis == "published")
    if isinstance(subject, Score):
        return query.join(score_entry).where(score_entry.c.deal_id == subject.deal_id)
    node = tuple_(forecast_entry.c.node_type, forecast_entry.c.node_id) == (subject.node_type, subject.node_id)
    mean = forecast_entry.c.quantity == "mean"
    period = publication.c.period_start == subject.period_start.date()
    return query.join(forecast_entry).where(period, forecast_entry.c.scope == "all", mean, node)
