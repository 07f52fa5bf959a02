"""The door every request passes: its number, its size, its line in the log, safe headers on the answer."""

import json
import logging
import re
import time
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import metrics
from serving.errors import answer_bug, error_answer

MOST_BYTES = 4 * 2**20
SAFE_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
}

SAFE = [(name.encode(), value.encode()) for name, value in SAFE_HEADERS.items()]

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
                message["headers"] = safe_headers(message["headers"], request.state.request_id)
            await send(message)

        try:
            await (too_large(request) or self.app)(scope, limited(receive), send_safely)
        except Exception as failure:
            if status:  # the answer had begun: nothing can be said any more
                raise
            await answer_bug(request, failure)(scope, receive, send_safely)
        finally:
            write_down(request, status, time.perf_counter() - started)


def safe_headers(headers: Iterable[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """An answer's headers, with the safe ones that it does not set itself and the request's number."""
    given = list(headers)
    names = {name.lower() for name, _ in given}
    safe = [each for each in SAFE if each[0] not in names]
    return [*given, *safe, (b"x-request-id", request_id.encode())]


def request_id_of(request: Request) -> str:
    """The number the caller gave the request, if it is a plain word, else a new one."""
    given = request.headers.get("x-request-id", "")
    return given if re.fullmatch(r"[\w.-]{1,64}", given, re.ASCII) else uuid.uuid4().hex


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
    metrics.tell_request(route, request.method, status, seconds)
    caller = getattr(request.state, "caller", None)
    line = {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "request_id": request.state.request_id,
        "method": request.method,
        "path": request.url.path,
        "status": status,
        "milliseconds": round(1000 * seconds, 1),
        "key_id": None if caller is None else caller.key_id,
    }
    access_log.info(json.dumps(line))
