"""What a browser holds: its session, and the token without which it may not write."""

import hmac
import secrets
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ledger.keys import SESSION_LASTS

SESSION_COOKIE = "dealcast_session"
VISIT_COOKIE = "dealcast_visit"
"""A random word that a browser gets with the form it signs in with."""
READS = ("GET", "HEAD", "OPTIONS")
LONGEST_FORM = 100_000


def csrf_token(held: str) -> str:
    """The token that goes with what a browser's cookie holds; no other site can read either."""
    return hmac.digest(held.encode(), b"csrf", "sha256").hex()


def csrf_token_of(request: Request) -> str:
    """The token for a page's forms, and for its scripts' header `x-csrf-token`; empty without a cookie."""
    held = request.cookies.get(SESSION_COOKIE) or request.cookies.get(VISIT_COOKIE)
    return csrf_token(held) if held else ""


def csrf_token_fits(request: Request, sent: str | None) -> bool:
    """Whether a form or script knows what only this service's own pages can read."""
    known = csrf_token_of(request)
    return bool(known and sent) and secrets.compare_digest(known.encode(), str(sent).encode())


def set_cookie(answer: Response, name: str, value: str, *, is_secure: bool) -> None:
    """A cookie that scripts cannot read and other sites cannot send with what they post.

    Lax, not strict: a plain link to a deal in a CRM's record opens signed in. Nothing is written by following links.
    """
    seconds = int(SESSION_LASTS.total_seconds())
    options: dict[str, Any] = {"httponly": True, "samesite": "lax", "secure": is_secure, "path": "/"}
    answer.set_cookie(name, value, max_age=seconds, **options)
