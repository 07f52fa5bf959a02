"""API keys of the service, made and ended on the command line."""

from collections.abc import Sequence
from typing import Any

from crm.errors import Detail, UsageError
from crm.store import read_tables
from crm.versions import current_version
from dealcast.session import Session
from ledger.keys import ApiKey


def create(session: Session, name: str, scopes: Sequence[str], user_id: str | None = None) -> dict[str, Any]:
    """Make a key: the `keys create` document, the only place where its secret is ever shown.

    Raises
    ------
    UsageError : the user is not in the imported users.
    LedgerError : the name is taken, or a scope does not exist.
    """
    if user_id is not None and current_version(session.workspace):
        users = read_tables(session.workspace).get("users")
        if not (users["user_id"] == user_id).any():
            detail = Detail("--user", user_id, "a user_id of the imported users", "Import the user, or correct the id.")
            raise UsageError(f"There is no user {user_id}.", detail)
    wanted = [scope.strip() for scope in scopes]
    secret, key = session.ledger.create_key(name, wanted, user_id=user_id, by=session.user, now=session.now)
    return {"key": secret, **_shown(key)}


def list_all(session: Session) -> dict[str, Any]:
    """Every key, without its secret."""
    return {"keys": [_shown(key) for key in session.ledger.list_keys()]}


def revoke(session: Session, key_id_or_name: str) -> dict[str, Any]:
    """End a key at once."""
    return _shown(session.ledger.revoke_key(key_id_or_name, by=session.user, now=session.now))


def _shown(key: ApiKey) -> dict[str, Any]:
    return {
        "key_id": key.key_id,
        "name": key.name,
        "scopes": key.scopes,
        "user": key.user_id,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }
