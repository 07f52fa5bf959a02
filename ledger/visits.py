"""Browsers that signed in, and tickets that are good once: sign-in links, panel links, the way to an identity provider.

Like keys, their secrets are random and stored as hashes alone.
"""

import secrets
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from sqlalchemy import Engine, delete

from ledger.database import writing
from ledger.keys import SESSION_LASTS, SESSION_PREFIX, ApiKey, Person, hash_of
from ledger.tables import browser_session, ticket

TICKET_PREFIX = "dt_"


@dataclass(frozen=True)
class Ticket:
    """A secret that opens one thing once."""

    token: str
    expires_at: pd.Timestamp


class Visits:
    """The sessions and tickets in one database."""

    engine: Engine

    def open_session(self, who: ApiKey | Person, *, now: pd.Timestamp) -> str:
        """Sign a browser in: the token of its session, which ends with the key or person, or after half a day."""
        token = SESSION_PREFIX + secrets.token_urlsafe(32)
        ends = now + SESSION_LASTS if who.expires_at is None else min(now + SESSION_LASTS, who.expires_at)
        is_key = isinstance(who, ApiKey)
        row = {
            "token_hash": hash_of(token),
            "key_id": who.key_id if isinstance(who, ApiKey) else None,
            "person": None if is_key else {**asdict(who), "expires_at": None},
            "expires_at": ends,
        }
        with writing(self.engine) as connection:
            connection.execute(delete(browser_session).where(browser_session.c.expires_at <= now))
            connection.execute(browser_session.insert(), row)
        return token

    def close_session(self, token: str) -> None:
        """Sign a browser out."""
        with writing(self.engine) as connection:
            connection.execute(delete(browser_session).where(browser_session.c.token_hash == hash_of(token)))

    def issue_ticket(self, purpose: str, content: dict[str, Any], *, lasts: pd.Timedelta, now: pd.Timestamp) -> Ticket:
        """A ticket for one purpose, good once within its time."""
        token, expires_at = TICKET_PREFIX + secrets.token_urlsafe(32), now + lasts
        row = {"token_hash": hash_of(token), "purpose": purpose, "content": content, "expires_at": expires_at}
        with writing(self.engine) as connection:
            connection.execute(delete(ticket).where(ticket.c.expires_at <= now))
            connection.execute(ticket.insert(), row)
        return Ticket(token, expires_at)

    def spend_ticket(self, purpose: str, token: str, *, now: pd.Timestamp) -> dict[str, Any] | None:
        """What a ticket holds, and its end; None if it does not exist, was spent before, or is too old.

        However many ask at once, one of them gets it.
        """
        mine = (ticket.c.token_hash == hash_of(token)) & (ticket.c.purpose == purpose) & (ticket.c.expires_at > now)
        with writing(self.engine) as connection:
            found: dict[str, Any] | None = connection.execute(
                delete(ticket).where(mine).returning(ticket.c.content)
            ).scalar()
        return found
