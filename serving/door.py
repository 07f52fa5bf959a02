"""The door every request passes: its number, its size, its line in the log, safe headers on the answer; and its key."""

import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Sequence

import pandas as pd
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crm.errors import DealcastError
from ledger.errors import LedgerError
from serving import metrics
from serving.access import Access
from serving.auth import caller_of
from serving.errors import answer_bug, answer_explained, error_answer
from serving.known_keys import KnownKeys
from serving.rules import nobody_says, rule_for, rule_of

MOST_BYTES = 4 * 2**20
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

    def __init__(self, app: ASGIApp, keys: Callable[[], KnownKeys], access: Access | None = None) -> None:
        self.app = app
        self.keys = keys
        self.access = access or Access()
        self._open_routes: Sequence[BaseRoute] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await (await self.refusal(Request(scope)) or self.app)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def refusal(self, request: Request) -> Response | None:
        """None for who may come in."""
        request.state.caller = None
        rule = rule_for(self.open_routes(request), request)
        if rule is not None and rule.is_free_for(request):
            return None
        try:
            request.state.caller = await caller_of(request, self.keys(), self.access)
            if request.state.caller is None:
                raise nobody_says()
        except (DealcastError, LedgerError) as failure:
            if failure.code == "unauthorized" and is_browser(request):
                return RedirectResponse("/login", 303)
            return answer_explained(request, failure)
        return None

    def open_routes(self, request: Request) -> Sequence[BaseRoute]:
        """The routes that not everybody needs a key for; every other path, one that does not exist too, needs one."""
        if self._open_routes is None:
            ruled = ((route, rule_of(route)) for route in request.app.routes)
            self._open_routes = [route for route, rule in ruled if rule and (rule.scope is None or rule.but_here)]
        return self._open_routes


def request_id_of(request: Request) -> str:
    """The number the caller gave the request, if it is a plain word, else a new one."""
    given = request.headers.get("x-request-id", "")
    return given if re.fullmatch(r"[\w.-]{1,64}", given, re.ASCII) else uuid.uuid4().hex


def is_browser(request: Request) -> bool:
    """Whether somebody looks at a page, rather than a program at the API."""
    wants_page = "text/html" in request.headers.get("accept", "")
    return wants_page and request.method == "GET" and not request.url.path.startswith("/v1/")


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
        "key_id": None if caller is None else caller.key_id,
    }
    access_log.info(json.dumps(line))
