"""How much the service takes on at once: what is beyond waits a little, and is then refused, so that nobody is slowed.

Every kind of request has places of its own, so that expensive questions never stand before cheap ones. A request that
takes longer than its kind may is answered; what it set going keeps its place until it really ends.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crm.errors import Detail
from serving import metrics
from serving.errors import error_answer

ALWAYS = ("/livez", "/readyz", "/metrics")
"""Operators are answered however much there is to do."""

KIND_OF: Mapping[str, str] = {
    "/v1/what_if": "what_if",
    "/v1/forecast": "forecast",
    "/review": "forecast",
    "/changes": "forecast",
    "/v1/events": "write",
    "/v1/calls": "write",
    "/v1/overrides": "write",
}
COSTLY_PIECES = ("/what_if/", "/change/", "/similar/")
"""Pieces of a deal's page that are computed anew, as `/v1/what_if` is. Every other path is a `read`: out of memory."""

log = logging.getLogger("dealcast")


@dataclass(frozen=True)
class Bounds:
    """How many requests of a kind are worked on at once, how many wait, and how many seconds each may take.

    Attributes
    ----------
    wait_seconds : for a place.
    longest_seconds : until the answer, once it has a place.
    """

    at_once: int
    waiting: int
    wait_seconds: float
    longest_seconds: float


BOUNDS: Mapping[str, Bounds] = {
    "read": Bounds(at_once=24, waiting=500, wait_seconds=5, longest_seconds=15),
    "forecast": Bounds(at_once=4, waiting=100, wait_seconds=10, longest_seconds=60),
    "what_if": Bounds(at_once=2, waiting=30, wait_seconds=10, longest_seconds=60),
    # Longer than a writer waits for SQLite's lock: what the database says comes first, and is certain.
    "write": Bounds(at_once=8, waiting=100, wait_seconds=10, longest_seconds=90),
}


def kind_of(path: str) -> str:
    """What kind of work a path asks for."""
    return "what_if" if path.startswith(COSTLY_PIECES) else KIND_OF.get(path, "read")


class Refused(Exception):
    """No place for a request, and why."""


class Places:
    """The places of one kind; all calls come from one event loop."""

    def __init__(self, kind: str, bounds: Bounds) -> None:
        self.kind, self.bounds = kind, bounds
        self.waiting = 0
        self._free = asyncio.Semaphore(bounds.at_once)

    async def take(self) -> None:
        """Wait for a place.

        Raises
        ------
        Refused
            As many wait already as may, or none became free in time.
        """
        if self._free.locked() and self.waiting >= self.bounds.waiting:
            raise Refused(f"{self.bounds.waiting} requests of this kind wait already")
        self.waiting += 1
        try:
            await asyncio.wait_for(self._free.acquire(), self.bounds.wait_seconds)
        except TimeoutError:
            raise Refused(f"no place became free within {self.bounds.wait_seconds:g} seconds") from None
        finally:
            self.waiting -= 1
        metrics.requests_in_flight.labels(self.kind).inc()

    def leave(self) -> None:
        """Give the place back."""
        metrics.requests_in_flight.labels(self.kind).dec()
        self._free.release()


class Pressure:
    """ASGI middleware that bounds what is worked on, what waits, and how long each request takes."""

    def __init__(self, app: ASGIApp, bounds: Mapping[str, Bounds] = BOUNDS) -> None:
        self.app = app
        self._places = {kind: Places(kind, its) for kind, its in bounds.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in ALWAYS:
            await self.app(scope, receive, send)
            return
        places = self._places[kind_of(scope["path"])]
        try:
            await places.take()
        except Refused as why:
            await refuse(places.kind, str(why))(scope, receive, send)
            return
        answer = Answer(send)
        work = asyncio.ensure_future(self.app(scope, receive, answer.send))
        work.add_done_callback(lambda _: places.leave())
        try:
            done, _ = await asyncio.wait([work], timeout=places.bounds.longest_seconds)
        except asyncio.CancelledError:  # whoever waits for the answer gave up
            work.cancel()
            raise
        if done or answer.begun:
            await work
            return
        answer.is_late = True
        work.add_done_callback(lambda late: note_late(Request(scope), late))
        await too_slow(places.kind, places.bounds)(scope, receive, send)


class Answer:
    """What a request is answered with; once it `is_late`, nothing of it is sent any more."""

    def __init__(self, send: Send) -> None:
        self.begun = False
        self.is_late = False
        self._send = send

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on."""
        if not self.is_late:
            self.begun = True
            await self._send(message)


def refuse(kind: str, why: str) -> Response:
    """The answer to a request for which there is no place."""
    metrics.requests_refused.labels(kind, "no place").inc()
    detail = Detail(kind, None, why, "ask again after the seconds that Retry-After names, with fewer requests at once")
    return error_answer("unavailable", "The service has too much to do.", (detail,), headers={"Retry-After": "1"})


def too_slow(kind: str, bounds: Bounds) -> Response:
    """The answer to a request that took too long; what was to be written may have been, or may yet be."""
    metrics.requests_refused.labels(kind, "too slow").inc()
    step = "ask again later"
    if kind == "write":
        step += "; events with the same event_id, which are taken in once; calls and overrides may have been kept"
    detail = Detail(kind, None, f"answered within {bounds.longest_seconds:g} seconds", step)
    return error_answer("unavailable", "The answer took too long.", (detail,), headers={"Retry-After": "5"})


def note_late(request: Request, work: asyncio.Future[None]) -> None:
    """Say in the log how a request ended that nobody waits for any more."""
    failure = None if work.cancelled() else work.exception()
    request_id = getattr(request.state, "request_id", None)
    log.warning("request %s ended after its answer was due", request_id, exc_info=failure)
