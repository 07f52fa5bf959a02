"""Signing in and out with a browser: by key, by the link that `serve` prints, by the company's identity provider."""

import secrets
from dataclasses import asdict
from typing import Any

import pandas as pd
from anyio.to_thread import run_sync
from fastapi import Depends, FastAPI, Request
from starlette.responses import RedirectResponse, Response

from crm.errors import DealcastError, Detail, NotFound
from ledger.keys import ApiKey, Person
from ledger.ledger import Ledger
from serving.auth import Gate, caller_of, form_of
from serving.callers import caller_known
from serving.cookies import SESSION_COOKIE, VISIT_COOKIE, csrf_token, csrf_token_fits, csrf_token_of, set_cookie
from serving.errors import Unauthorized
from serving.oidc import Provider, Trip, begin_trip
from serving.pages.frame import show
from serving.rules import OPEN, address_of

LINK, WAY = "sign_in", "oidc"
"""What tickets are for: the link that `serve` prints, and the way to the identity provider and back."""
LINK_LASTS, WAY_LASTS = pd.Timedelta(minutes=15), pd.Timedelta(minutes=10)
HERE = Person("", "this machine", "admin")
"""Who came by the link that `serve` printed on this machine: whoever can run it can make any key."""
CALLBACK = "/login/oidc/callback"


def add_sign_in(api: FastAPI) -> None:
    """The ways in, and out."""
    opened: dict[str, Any] = {"include_in_schema": False, "dependencies": [Depends(OPEN)]}

    @api.get("/login", **opened)
    async def login(request: Request) -> Response:
        if token := request.query_params.get("token"):
            return await signed_in_by_link(request, token)
        return login_page(request)

    @api.post("/login", **opened)
    async def signed_in(request: Request) -> Response:
        return await signed_in_by_key(request, form_of(await request.body()))

    @api.get("/login/oidc", **opened)
    def to_provider(request: Request) -> Response:
        return sent_to_provider(request)

    @api.get(CALLBACK, **opened)
    def back(request: Request) -> Response:
        return back_from_provider(request)

    @api.post("/logout", **opened)
    async def signed_out(request: Request) -> Response:
        form = form_of(await request.body())
        token = request.cookies.get(SESSION_COOKIE)
        if token and csrf_token_fits(request, request.headers.get("x-csrf-token") or form.get("csrf_token")):
            await run_sync(gate_of(request).ledger.close_session, token)
            answer: Response = RedirectResponse("/login", 303)
            answer.delete_cookie(SESSION_COOKIE, path="/")
            return answer
        return login_page(request)


def gate_of(request: Request) -> Gate:
    """What tells who asks."""
    gate: Gate = request.app.state.gate
    return gate


def login_page(request: Request, *, alert: str = "", status: int = 200) -> Response:
    """The form that asks for a key, and the way to the identity provider, if there is one."""
    token, visit = csrf_token_of(request), None
    if not token:
        visit = secrets.token_urlsafe(32)
        token = csrf_token(visit)
    provider = gate_of(request).provider is not None
    onward = next_page(request.query_params.get("next"))
    values = {"alert": alert, "csrf_token": token, "provider": provider, "onward": onward}
    answer = show(request, "login.html", status=status, **values)
    if visit:
        set_cookie(answer, VISIT_COOKIE, visit, is_secure=is_secure(request))
    return answer


async def signed_in_by_key(request: Request, form: dict[str, str]) -> Response:
    """Take the key from the form and give the browser a session."""
    gate = gate_of(request)
    if not csrf_token_fits(request, form.get("csrf_token")):
        return login_page(request, alert="The form was too old. Try again.", status=403)
    now = pd.Timestamp.now("UTC")
    key = await run_sync(lambda: gate.ledger.authenticate(form.get("key", "").strip(), now=now))
    if not isinstance(key, ApiKey):
        request.state.refused = "sign-in"
        return login_page(request, alert="This key opens nothing: it does not exist, or its time is over.", status=401)
    return await run_sync(lambda: signed_in(request, key, form.get("next"), now))


async def signed_in_by_link(request: Request, token: str) -> Response:
    """Take the token of the link that `serve` printed, which is good once."""
    gate, now = gate_of(request), pd.Timestamp.now("UTC")
    if await run_sync(lambda: gate.ledger.spend_ticket(LINK, token, now=now)) is not None:
        return await run_sync(lambda: signed_in(request, HERE, None, now))
    try:
        already = await caller_of(request, gate)
    except DealcastError:
        already = None
    if already is not None:  # the browser had looked at the link before it was followed
        return RedirectResponse("/", 303)
    request.state.refused = "sign-in"
    return login_page(request, alert="This link was used before, or is too old: start the service again.", status=401)


def sent_to_provider(request: Request) -> Response:
    """Go to the identity provider; what comes back must be of this browser and of this sign-in."""
    gate, provider = gate_of(request), provider_of(request)
    visit = request.cookies.get(VISIT_COOKIE) or secrets.token_urlsafe(32)
    trip = begin_trip(public_address(request) + CALLBACK)
    content = {**asdict(trip), "visit": csrf_token(visit), "next": next_page(request.query_params.get("next"))}
    state = gate.ledger.issue_ticket(WAY, content, lasts=WAY_LASTS, now=pd.Timestamp.now("UTC")).token
    answer = RedirectResponse(provider.url_for(trip, state), 303)
    set_cookie(answer, VISIT_COOKIE, visit, is_secure=is_secure(request))
    return answer


def back_from_provider(request: Request) -> Response:
    """Come back from the identity provider with its code.

    Raises
    ------
    Unauthorized
        The sign-in was not begun in this browser, or the provider did not let the person in.
    """
    gate, provider, now = gate_of(request), provider_of(request), pd.Timestamp.now("UTC")
    asked = request.query_params
    begun = gate.ledger.spend_ticket(WAY, asked.get("state", ""), now=now)
    visit = request.cookies.get(VISIT_COOKIE, "")
    if begun is None or not secrets.compare_digest(csrf_token(visit), begun["visit"]) or "code" not in asked:
        request.state.refused = "sign-in"
        rule = "a sign-in begun in this browser within the last ten minutes, and not refused by the provider"
        raise Unauthorized("The sign-in is not taken.", Detail("state", None, rule, "begin again at /login"))
    trip = Trip(**{name: begun[name] for name in ("nonce", "verifier", "redirect_uri")})
    person = provider.person_with(asked["code"], trip, now)
    return signed_in(request, person, begun["next"], now)


def signed_in(request: Request, who: ApiKey | Person, onward: str | None, now: pd.Timestamp) -> Response:
    """Give the browser a session, if it is known who that is, and write it down.

    Raises
    ------
    Forbidden
        Nobody, or several, have the person's e-mail.
    """
    gate = gate_of(request)
    caller = caller_known(who, gate.access, gate.users())
    request.state.caller = caller
    session = gate.ledger.open_session(who, now=now)
    gate.ledger.record(caller.key_id, "signed in", caller.user_id, at=now, address=address_of(request))
    answer = RedirectResponse(next_page(onward), 303)
    set_cookie(answer, SESSION_COOKIE, session, is_secure=is_secure(request))
    return answer


def next_page(path: str | None) -> str:
    """Where to go after signing in: a path of this service, never an address of somebody else's."""
    inside = path and path.startswith("/") and not path.startswith(("//", "/\\", "/login")) and path.isprintable()
    return path if inside and path else "/"


def provider_of(request: Request) -> Provider:
    """The identity provider.

    Raises
    ------
    NotFound
        The settings name none.
    """
    provider = gate_of(request).provider
    if provider is None:
        raise NotFound("There is no identity provider: see [oidc] in docs/settings.md.")
    return provider


def public_address(request: Request) -> str:
    """Where browsers reach the service."""
    return gate_of(request).access.public_url or str(request.base_url).rstrip("/")


def is_secure(request: Request) -> bool:
    """Whether browsers reach the service by https."""
    return public_address(request).startswith("https:")


def link_for(ledger: Ledger, address: str, *, now: pd.Timestamp) -> str:
    """A link by which a browser on this machine signs in once."""
    ticket = ledger.issue_ticket(LINK, {}, lasts=LINK_LASTS, now=now)
    return f"{address}/login?token={ticket.token}"
