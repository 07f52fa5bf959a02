"""Who asks: the key behind a request, the browser that signed in with one, and what each may see."""

import secrets
from urllib.parse import parse_qs

import pandas as pd
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from crm.errors import Detail
from ledger.keys import SESSION_LASTS
from ledger.ledger import Ledger
from serving.access import Access
from serving.callers import Caller, caller_with
from serving.errors import Forbidden, Unauthorized
from serving.known_keys import KnownKeys
from serving.pages.frame import CSRF_COOKIE, show

SESSION_COOKIE = "dealcast_session"
READS = ("GET", "HEAD", "OPTIONS")


async def caller_of(request: Request, keys: KnownKeys, access: Access) -> Caller | None:
    """Who sends the request, by `x-api-key`, a bearer token or a browser's session; None where nobody says.

    Raises
    ------
    Unauthorized
        The key or session does not exist, or is over.
    Forbidden
        A browser writes without the token of its own page.
    """
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    secret = request.headers.get("x-api-key") or (token.strip() if kind.lower() == "bearer" else None)
    from_browser = secret is None
    secret = request.cookies.get(SESSION_COOKIE) if secret is None else secret
    if not secret:
        return None
    key = await keys.key_of(secret)
    if key is None:
        raise Unauthorized(
            "The key opens nothing.",
            Detail("x-api-key", None, "a key that exists and is neither expired nor revoked", "ask for a new key"),
        )
    # Scripts send the token of their page as a header, plain forms in the address they are sent to.
    token_sent = request.headers.get("x-csrf-token") or request.query_params.get("csrf_token")
    if from_browser and request.method not in READS and not csrf_token_fits(request, token_sent):
        raise Forbidden("The request does not come from a page of this service.")
    return caller_with(key, access)


def csrf_token_fits(request: Request, token: str | None) -> bool:
    """Whether a form or script knows what only this service's own pages can read: the token of the browser's cookie."""
    known = request.cookies.get(CSRF_COOKIE)
    return bool(known and token) and secrets.compare_digest(str(known).encode(), str(token).encode())


def login_page(request: Request, *, alert: str = "", status: int = 200) -> Response:
    """The form that asks for a key, with a fresh token."""
    token = secrets.token_urlsafe(32)
    answer = show(request, "login.html", alert=alert, csrf_token=token, status=status)
    set_cookie(answer, request, CSRF_COOKIE, token)
    return answer


def sign_in(request: Request, body: bytes, ledger: Ledger) -> Response:
    """Take the key from the form and give the browser a session."""
    form = parse_qs(body.decode("utf-8", "replace"))
    if not csrf_token_fits(request, form.get("csrf_token", [None])[0]):
        return login_page(request, alert="The form was too old. Try again.", status=403)
    now = pd.Timestamp.now("UTC")
    key = ledger.authenticate(form.get("key", [""])[0].strip(), now=now)
    if key is None:
        return login_page(request, alert="This key opens nothing: it does not exist, or its time is over.", status=401)
    answer = RedirectResponse("/", 303)
    set_cookie(answer, request, SESSION_COOKIE, ledger.open_session(key, now=now))
    set_cookie(answer, request, CSRF_COOKIE, secrets.token_urlsafe(32))
    return answer


def set_cookie(answer: Response, request: Request, name: str, value: str) -> None:
    """A cookie that scripts cannot read and other sites cannot send."""
    answer.set_cookie(
        name,
        value,
        max_age=int(SESSION_LASTS.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
