"""The record of who did what when: keys made and ended, sign-ins, refusals, promotions, exports. Never changed."""

from typing import Any

import pandas as pd
from sqlalchemy import Connection, Engine, select

from ledger.database import reading, writing
from ledger.tables import audit_entry


class Audit:
    """The record in one database."""

    engine: Engine

    def record(self, who: str, action: str, about: str | None = None, *, at: pd.Timestamp, **details: Any) -> None:
        """Write down that somebody did something.

        Parameters
        ----------
        who : a key's id, the pseudonym of a person, the name of an account on this machine, or a network address.
        action : what was done, in two or three words, such as "key created".
        about : what it was done to: an id.
        details : what else is worth knowing; never a secret.
        """
        with writing(self.engine) as connection:
            enter(connection, who, action, about, at=at, **details)

    def recorded(self, last: int | None = None) -> list[dict[str, Any]]:
        """What was written down, oldest first: number, at, who, action, about, details.

        Parameters
        ----------
        last : so many of the newest; None for all.
        """
        query = select(audit_entry).order_by(audit_entry.c.number.desc()).limit(last)
        with reading(self.engine) as connection:
            rows = connection.execute(query).mappings().all()
        return [{**row, "at": pd.Timestamp(row["at"])} for row in reversed(rows)]


def enter(
    connection: Connection, who: str, action: str, about: str | None = None, *, at: pd.Timestamp, **details: Any
) -> None:
    """The same within a transaction: what is done and the record of it are there, or neither is."""
    row = {"at": at, "who": who, "action": action, "about": about, "details": details}
    connection.execute(audit_entry.insert(), row)
