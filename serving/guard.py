"""Who comes in: the caller behind every request, how often one may ask, and the record of whom was refused."""

import logging
from collections.abc import Callable, Sequence
from urllib.parse import quote

import pandas as pd
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crm.errors import DealcastError
from ledger.errors import LedgerError
from serving.auth import Gate, caller_of
from serving.cookies import READS, SESSION_COOKIE
from serving.errors import answer_explained
from serving.pace import Pace
from serving.rules import address_of, nobody_says, rule_for, rule_of

REFUSED = (401, 403)

log = logging.getLogger("dealcast")


class Guard:
    """ASGI middleware that lets in who may come in; the caller is then in `request.state`."""

    def __init__(self, app: ASGIApp, gate: Callable[[], Gate]) -> None:
        self.app = app
        self.gate = gate
        self._pace: Pace | None = None
        self._open_routes: Sequence[BaseRoute] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        heard: list[Message] = []
        status = 0

        async def hear() -> Message:
            heard.append(await receive())
            return heard[-1]

        async def hear_again() -> Message:
            return heard.pop(0) if heard else await receive()

        async def send_noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        # A form's token is in its body: what was read to see it is there again for the route.
        request = Request(scope, hear)
        refusal = await self.refusal(request)
        await (refusal or self.app)(scope, hear_again, send_noting)
        if status in REFUSED:
            await self.write_down(request, status)

    async def refusal(self, request: Request) -> Response | None:
        """None for who may come in."""
        request.state.caller = None
        gate, address = self.gate(), address_of(request)
        pace = self._pace = self._pace or Pace(gate.access)
        rule = rule_for(self.open_routes(request), request)
        try:
            if rule is not None and rule.is_free_for(request):
                if request.method not in READS or "token" in request.query_params:
                    pace.check_failures(address)
                return None
            try:
                request.state.caller = await caller_of(request, gate)
            except DealcastError as failure:
                if failure.code == "unauthorized":
                    pace.check_failures(address)  # who brings a good key is never held back by others' wrong ones
                raise
            if request.state.caller is None:
                raise nobody_says()
            pace.ask(request.state.caller.key_id)
        except (DealcastError, LedgerError) as failure:
            if failure.code == "unauthorized" and is_browser(request):
                return RedirectResponse(f"/login?next={quote(path_asked(request))}", 303)
            return answer_explained(request, failure)
        return None

    def open_routes(self, request: Request) -> Sequence[BaseRoute]:
        """The routes that not everybody needs a key for; every other path, one that does not exist too, needs one."""
        if self._open_routes is None:
            ruled = ((route, rule_of(route)) for route in request.app.routes)
            self._open_routes = [route for route, rule in ruled if rule and rule.opens_without_key]
        return self._open_routes

    async def write_down(self, request: Request, status: int) -> None:
        """Count and record a refusal: of who brought something wrong, or asked for more than the key is made for."""
        caller = request.state.caller
        if caller is None and not brings_something(request):
            return
        who = address_of(request) if caller is None else caller.key_id
        assert self._pace is not None
        if not self._pace.fail(who):
            return
        details = {"status": status, "method": request.method, "address": address_of(request)}
        route = getattr(request.scope.get("route"), "path", None)
        now = pd.Timestamp.now("UTC")
        try:
            await run_sync(lambda: self.gate().ledger.record(who, "refused", route, at=now, **details))
        except LedgerError:
            log.warning("a refusal could not be recorded: the ledger does not answer")


def brings_something(request: Request) -> bool:
    """Whether a request tries to open something: with a key, a token, a session or a form."""
    names = ("x-api-key", "authorization", "x-hubspot-signature-v3")
    is_form = request.method not in READS and request.url.path.startswith("/login")
    tries = is_form or "token" in request.query_params or "state" in request.query_params
    return tries or SESSION_COOKIE in request.cookies or any(name in request.headers for name in names)


def path_asked(request: Request) -> str:
    """The path and query of a request."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def is_browser(request: Request) -> bool:
    """Whether somebody looks at a page, rather than a program at the API."""
    wants_page = "text/html" in request.headers.get("accept", "")
    return wants_page and request.method == "GET" and not request.url.path.startswith("/v1/")
