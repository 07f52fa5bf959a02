"""API keys: a secret shown once and stored only as its hash, with scopes, an owner and an end."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from sqlalchemy import Engine, select, update

from ledger.audit import enter
from ledger.database import reading, writing
from ledger.errors import LedgerError, Trouble
from ledger.tables import api_key, browser_session

SCOPES = ("read", "what_if", "events", "calls", "panel", "admin")
SECRET_PREFIX = "dc_"
SESSION_PREFIX = "ds_"
SESSION_LASTS = pd.Timedelta(hours=12)


@dataclass(frozen=True)
class ApiKey:
    """A key as it may be shown: everything but the secret.

    Attributes
    ----------
    scopes : what it may do; `admin` may do everything.
    user_id : the CRM user whose eyes the key has; None sees the whole company.
    expires_at, revoked_at : the moment from which it opens nothing; None means never.
    """

    key_id: str
    name: str
    scopes: tuple[str, ...]
    user_id: str | None
    created_at: pd.Timestamp
    expires_at: pd.Timestamp | None
    revoked_at: pd.Timestamp | None

    def opens_at(self, moment: pd.Timestamp) -> bool:
        """Whether the key is neither expired nor revoked at the moment."""
        return all(end is None or moment < end for end in (self.expires_at, self.revoked_at))

    def allows(self, scope: str) -> bool:
        """Whether the key may do what the scope covers."""
        return scope in self.scopes or "admin" in self.scopes


@dataclass(frozen=True)
class Person:
    """Somebody who signed in without a key.

    Attributes
    ----------
    email : verified, in small letters; empty for who came by the link that `serve` printed.
    name : to be greeted with.
    authority : executive, revops or admin, given by groups of the identity provider; None if none.
    expires_at : the moment from which it opens nothing; None: its session says.
    """

    email: str
    name: str
    authority: str | None = None
    expires_at: pd.Timestamp | None = None

    def opens_at(self, moment: pd.Timestamp) -> bool:
        """Whether it is not over at the moment."""
        return self.expires_at is None or moment < self.expires_at


class KeyRing:
    """The keys in one database."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def create_key(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        user_id: str | None = None,
        expires_at: pd.Timestamp | None = None,
        by: str = "(unknown)",
        now: pd.Timestamp,
    ) -> tuple[str, ApiKey]:
        """Make a key and return its secret, which nobody can read again, beside what is stored of it.

        Raises
        ------
        LedgerError
            The name is empty or held by a key in use, a scope does not exist, or none is given.
        """
        unknown = [scope for scope in scopes if scope not in SCOPES]
        if unknown or not scopes:
            told, rule = ", ".join(unknown) or "(none)", f"scopes are of {', '.join(SCOPES)}"
            raise LedgerError(f"Scope {told} does not exist.", Trouble("--scope", told, rule, "Choose from these."))
        if not name.strip():
            trouble = Trouble("NAME", name, "a key has a name", "Say who or what will use it.")
            raise LedgerError("A key needs a name.", trouble)
        if any(key.name == name and key.opens_at(now) for key in self.list_keys()):
            rule, step = "keys in use have names of their own", "Choose another name, or revoke that key first."
            raise LedgerError(f"A key named {name} is in use.", Trouble("NAME", name, rule, step))
        secret = SECRET_PREFIX + secrets.token_urlsafe(32)
        key = ApiKey(
            key_id="key_" + secrets.token_hex(6),
            name=name,
            scopes=tuple(scope for scope in SCOPES if scope in scopes),
            user_id=user_id,
            created_at=now,
            expires_at=expires_at,
            revoked_at=None,
        )
        with writing(self.engine) as connection:
            row = {**vars(key), "scopes": list(key.scopes), "secret_hash": hash_of(secret)}
            connection.execute(api_key.insert(), row)
            enter(connection, by, "key created", key.key_id, at=now, scopes=list(key.scopes), user_id=user_id)
        return secret, key

    def authenticate(self, secret: str, *, now: pd.Timestamp) -> ApiKey | Person | None:
        """The key that a secret opens at the moment, or who signed in with the session that it stands for, or None.

        Both are hashed before the look-up, so no comparison's duration tells anything about what is stored;
        256 random bits need no slow hash.
        """
        with reading(self.engine) as connection:
            query = select(api_key).where(api_key.c.secret_hash == hash_of(secret))
            if secret.startswith(SESSION_PREFIX):
                mine = browser_session.c.token_hash == hash_of(secret)
                mine &= browser_session.c.expires_at > now
                row = connection.execute(select(browser_session).where(mine)).mappings().first()
                if row is None:
                    return None
                if row["person"] is not None:
                    return Person(**{**row["person"], "expires_at": pd.Timestamp(row["expires_at"])})
                query = select(api_key).where(api_key.c.key_id == row["key_id"])
            row = connection.execute(query).mappings().first()
        key = None if row is None else key_of(row)
        return key if key is not None and key.opens_at(now) else None

    def list_keys(self) -> list[ApiKey]:
        """Every key ever made, oldest first."""
        with reading(self.engine) as connection:
            rows = connection.execute(select(api_key).order_by(api_key.c.created_at, api_key.c.key_id)).mappings().all()
        return [key_of(row) for row in rows]

    def revoke_key(self, key_id_or_name: str, *, by: str = "(unknown)", now: pd.Timestamp) -> ApiKey:
        """End a key from this moment on and return it; a key already revoked stays as it was.

        Raises
        ------
        LedgerError
            No key has this id or name.
        """
        named = [key for key in self.list_keys() if key_id_or_name in (key.key_id, key.name)]
        if not named:
            trouble = Trouble("KEY_ID|NAME", key_id_or_name, "a key that was created", "See `dealcast keys list`.")
            raise LedgerError(f"There is no key {key_id_or_name}.", trouble)
        ended = [key.key_id for key in named if key.revoked_at is None]
        with writing(self.engine) as connection:
            connection.execute(update(api_key).where(api_key.c.key_id.in_(ended)).values(revoked_at=now))
            for key_id in ended:
                enter(connection, by, "key revoked", key_id, at=now)
        return next(key for key in reversed(self.list_keys()) if key.key_id == named[-1].key_id)


def hash_of(secret: str) -> str:
    """What is stored of a secret: its sha256, in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def key_of(row: Any) -> ApiKey:
    """A stored row as the key it is."""
    moments = ("created_at", "expires_at", "revoked_at")
    instants = {name: None if row[name] is None else pd.Timestamp(row[name]) for name in moments}
    return ApiKey(row["key_id"], row["name"], tuple(row["scopes"]), row["user_id"], **instants)
