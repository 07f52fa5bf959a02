"""The door every request passes: its number, its size, its line in the log, safe headers on the answer; and its key."""

import ipaddress
import json
import logging
import re
import time
import uuid
from collections.abc import Callable

import pandas as pd
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crm.errors import DealcastError, Detail
from ledger.errors import LedgerError
from serving import metrics
from serving.auth import Caller, caller_of
from serving.errors import Unauthorized, answer_bug, answer_explained, error_answer
from serving.known_keys import KnownKeys

MOST_BYTES = 4 * 2**20
OPEN_PATHS = ("/livez", "/readyz", "/login", "/choose")
OPEN_FILES = "/static/"
SAFE_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
}

access_log = logging.getLogger("dealcast.access")


class Door:
    """ASGI middleware around everything: a number, a size that may be, a line in the log, safe headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request = Request(scope, receive)
        request.state.request_id = request_id_of(request)
        status = 0

        async def send_safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in {**SAFE_HEADERS, "x-request-id": request.state.request_id}.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await (too_large(request) or self.app)(scope, limited(receive), send_safely)
        except Exception as failure:
            if status:  # the answer had begun: nothing can be said any more
                raise
            await answer_bug(request, failure)(scope, receive, send_safely)
        finally:
            write_down(request, status, time.perf_counter() - started)


class Guard:
    """ASGI middleware that lets in who may come in; the caller is then in `request.state`."""

    def __init__(self, app: ASGIApp, keys: Callable[[], KnownKeys]) -> None:
        self.app = app
        self.keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await (await self.refusal(Request(scope)) or self.app)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def refusal(self, request: Request) -> Response | None:
        """None for who may come in."""
        path = request.url.path
        request.state.caller = None
        if path in OPEN_PATHS or path.startswith(OPEN_FILES):
            return None
        try:
            caller = await caller_of(request, self.keys())
            request.state.caller = caller
            if path == "/metrics":
                if not is_on_this_machine(request):
                    must_be_admin(caller)
            elif caller is None:
                raise Unauthorized(
                    "A key is needed.", Detail("x-api-key", None, "a key is sent", "send x-api-key: dc_…")
                )
        except (DealcastError, LedgerError) as failure:
            if failure.code == "unauthorized" and is_browser(request):
                return RedirectResponse("/login", 303)
            return answer_explained(request, failure)
        return None


def must_be_admin(caller: Caller | None) -> None:
    """Refuse anyone without the scope admin."""
    if caller is None:
        raise Unauthorized("A key with the scope admin is needed.")
    caller.must_have("admin")


def request_id_of(request: Request) -> str:
    """The number the caller gave the request, if it is a plain word, else a new one."""
    given = request.headers.get("x-request-id", "")
    return given if re.fullmatch(r"[\w.-]{1,64}", given, re.ASCII) else uuid.uuid4().hex


def is_browser(request: Request) -> bool:
    """Whether somebody looks at a page, rather than a program at the API."""
    wants_page = "text/html" in request.headers.get("accept", "")
    return wants_page and request.method == "GET" and not request.url.path.startswith("/v1/")


def is_on_this_machine(request: Request) -> bool:
    """Whether the request comes from this machine itself, not through a proxy on it."""
    if any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip", "via")):
        return False
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def too_large(request: Request) -> Response | None:
    """The answer to a body that says itself that it is too large."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > MOST_BYTES:
        return error_answer("too_large", f"The body has {length} bytes; {MOST_BYTES} are the most.")
    return None


def limited(receive: Receive) -> Receive:
    """`receive`, until more has come than a body may have."""
    taken = 0

    async def receive_so_much() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MOST_BYTES:
            raise HTTPException(413, f"The body has more than {MOST_BYTES} bytes.")
        return message

    return receive_so_much


def write_down(request: Request, status: int, seconds: float) -> None:
    """One line of JSON and one count for the request: never its body, its query or its key's secret."""
    route = getattr(request.scope.get("route"), "path", "(none)")
    metrics.requests_total.labels(route, request.method, str(status)).inc()
    metrics.request_seconds.labels(route).observe(seconds)
    caller = getattr(request.state, "caller", None)
    line = {
        "at": pd.Timestamp.now("UTC").isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "request_id": request.state.request_id,
        "method": request.method,
        "path": request.url.path,
        "status": status,
        "milliseconds": round(1000 * seconds, 1),
        "key_id": None if caller is None else caller.key.key_id,
    }
    access_log.info(json.dumps(line))
