"""Who asks: what a request brings (a key, a session, an identity provider's token), and who the caller therefore is."""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs

import pandas as pd
from anyio.to_thread import run_sync
from starlette.requests import Request

from crm.errors import Detail
from ledger.keys import SECRET_PREFIX, SESSION_PREFIX
from ledger.ledger import Ledger
from serving.access import Access
from serving.callers import Caller, UsersByEmail, caller_known
from serving.cookies import READS, SESSION_COOKIE, csrf_token_fits
from serving.errors import Forbidden, Unauthorized
from serving.known_keys import KnownKeys
from serving.oidc import Provider


@dataclass(frozen=True)
class Gate:
    """What tells who asks.

    Attributes
    ----------
    keys : the keys and sessions of the ledger.
    access : what the settings say.
    users : the CRM's user_ids by e-mail; None before data are loaded.
    provider : the identity provider; None if there is none.
    """

    ledger: Ledger
    keys: KnownKeys
    access: Access
    users: Callable[[], UsersByEmail | None]
    provider: Provider | None = None


async def caller_of(request: Request, gate: Gate) -> Caller | None:
    """Who sends the request, by `x-api-key`, a bearer token or a browser's session; None where nobody says.

    Raises
    ------
    Unauthorized
        The key, token or session does not exist, or is over.
    Forbidden
        A browser writes without the token of its own page, or nobody knows which user somebody is.
    """
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    secret = request.headers.get("x-api-key") or (token.strip() if kind.lower() == "bearer" else None)
    if secret is not None and secret.startswith(SESSION_PREFIX):
        raise opens_nothing()  # a session is a browser's: elsewhere it would pass without the token of its page
    from_browser = secret is None
    secret = request.cookies.get(SESSION_COOKIE) if secret is None else secret
    if not secret or (from_browser and not secret.startswith(SESSION_PREFIX)):
        return None
    if gate.provider is not None and not from_browser and not secret.startswith(SECRET_PREFIX):
        who = await run_sync(gate.provider.person_of_bearer, secret, pd.Timestamp.now("UTC"))
        return caller_known(who, gate.access, gate.users())
    found = await gate.keys.key_of(secret)
    if found is None:
        raise opens_nothing()
    if from_browser and request.method not in READS and not csrf_token_fits(request, await token_sent(request)):
        raise Forbidden("The request does not come from a page of this service.")
    return caller_known(found, gate.access, gate.users())


def opens_nothing() -> Unauthorized:
    """The refusal of a key or session that is none."""
    rule = "a key that exists and is neither expired nor revoked"
    return Unauthorized("The key opens nothing.", Detail("x-api-key", None, rule, "ask for a new key"))


async def token_sent(request: Request) -> str | None:
    """The token of its page that a browser sends: scripts in the header `x-csrf-token`, forms as field `csrf_token`."""
    if header := request.headers.get("x-csrf-token"):
        return header
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return None
    return form_of(await request.body()).get("csrf_token")


def form_of(body: bytes) -> dict[str, str]:
    """The fields of a form; of one that is there several times the first."""
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
