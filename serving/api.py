"""The routes of the service, exactly as the contract writes them."""

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import cast

import pandas as pd
from anyio import move_on_after
from anyio.to_thread import run_sync
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response

from crm.errors import DealcastError
from crm.plain import to_plain
from ledger.errors import LedgerError
from ledger.ledger import open_ledger
from serving import metrics, traces
from serving.access import Access
from serving.answers import (
    Alive,
    CallsAnswer,
    DealAnswer,
    EventsAnswer,
    ForecastAnswer,
    ModelAnswer,
    OverridesAnswer,
    Ready,
    ScoreAnswer,
    WhatIfAnswer,
    answers,
)
from serving.auth import Gate
from serving.callers import UsersByEmail
from serving.door import Door
from serving.errors import answer_explained, answer_http, answer_invalid
from serving.follower import Follower
from serving.forecasts import answer_forecast
from serving.given import Asker, Now, Reader, Sender, Speaker, is_stale, wall_clock
from serving.guard import Guard
from serving.intake import answer_events
from serving.known_keys import KnownKeys
from serving.oidc import Provider
from serving.pages.every import add_pages
from serving.pages.home import or_page
from serving.panel import add_panel_links
from serving.pressure import Pressure
from serving.readiness import Drain, limits_of, readiness
from serving.readings import Readings, Said
from serving.rules import OPEN, Needs, check_rules, describe_keys
from serving.said import answer_calls, answer_overrides, scores_told
from serving.schema import (
    CallsRequest,
    EventsRequest,
    ForecastRequest,
    OverridesRequest,
    ScoreRequest,
    WhatIfRequest,
)
from serving.scores import answer_deal, answer_scores
from serving.sign_in import add_sign_in
from serving.webhooks import add_webhooks
from serving.what_if import answer_what_if
from serving.worker import Worker

LOAD_SECONDS = 60.0
"""So long a worker that starts waits for model and data before it takes requests; then it says that it has none."""

ABOUT = """Win probabilities of deals, and what a period will bring.

Every call but `/livez` and `/readyz` needs a key (`x-api-key`) or a bearer token: a key's secret, or a token of the
company's identity provider. What a caller may not see does not exist (404), in lists and in sums too. Instants are UTC,
money is in base currency, unknown is null. Every failure has one shape (`Failure`)."""


def create_api(
    workspace: Path,
    ledger_url: str,
    access: Access | None = None,
    *,
    client_secret: str | None = None,
    hubspot_secret: str | None = None,
) -> FastAPI:
    """The service of one workspace; the ledger is opened, and the newest state loaded, when the server starts."""

    provider = traces.begin_traces() if traces.are_wanted() else None

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        write_logs_as_lines()
        metrics.forget_the_gone()
        api.state.ledger = open_ledger(ledger_url)
        api.state.keys = KnownKeys(api.state.ledger)
        api.state.follower = Follower(workspace, api.state.ledger, (access or Access()).holdout)
        api.state.gate = gate_for(api, access or Access(), client_secret)
        api.state.worker = Worker(workspace, api.state.ledger, api.state.follower)
        api.state.readings = Readings(api.state.ledger)
        api.state.said = Said(api.state.ledger, api.state.readings)
        threads = (api.state.follower, api.state.worker, api.state.readings)
        with move_on_after(LOAD_SECONDS):  # a worker takes no requests that others can answer and it cannot yet
            await run_sync(api.state.follower.look, abandon_on_cancel=True)
        for thread in threads:
            thread.start()
        yield
        for thread in threads:
            thread.end()
        for thread in threads:
            thread.join()
        api.state.ledger.engine.dispose()
        if provider is not None:
            provider.shutdown()

    api = FastAPI(
        title="dealcast",
        version=version("dealcast"),
        description=ABOUT,
        lifespan=lifespan,
        openapi_url=None,
        redirect_slashes=False,
    )
    api.state.drain = Drain()
    api.state.blind_calls = access is not None and access.blind_calls
    # The last one added is the outermost.
    api.add_middleware(Guard, gate=lambda: cast(Gate, api.state.gate))
    api.add_middleware(Pressure)
    api.add_middleware(Door)
    if provider is not None:
        api.add_middleware(traces.Traced, provider=provider)
    for failure in (DealcastError, LedgerError):
        api.add_exception_handler(failure, or_page(answer_explained))
    api.add_exception_handler(HTTPException, or_page(answer_http))
    api.add_exception_handler(RequestValidationError, or_page(answer_invalid))
    add_scores(api)
    add_forecasts(api)
    add_what_is_told(api)
    add_operations(api)
    add_sign_in(api)
    add_panel_links(api)
    add_webhooks(api, hubspot_secret)
    add_pages(api)
    check_rules(api)
    describe_keys(api)
    return api


def gate_for(api: FastAPI, access: Access, client_secret: str | None) -> Gate:
    """What tells who asks."""
    follower: Follower = api.state.follower
    provider = None if access.oidc is None else Provider(access.oidc, client_secret)

    def users() -> UsersByEmail | None:
        return None if follower.state is None else follower.state.users_by_email

    return Gate(api.state.ledger, api.state.keys, access, users, provider)


# -- routes ----------------------------------------------------------------------------------------------------------


def add_scores(api: FastAPI) -> None:
    """Scores of open deals, and one deal with what was said of it."""

    @api.post("/v1/score", summary="Score open deals by id", responses=answers(ScoreAnswer, "invalid", "too_large"))
    async def score(asked: ScoreRequest, caller: Reader, state: Now, request: Request) -> Response:
        text = answer_scores(asked, caller, state, request.app.state.readings, stale=is_stale(request))
        return Response(text, media_type="application/json")

    @api.post(
        "/v1/what_if",
        summary="Score deals as they would be; nothing is stored",
        responses=answers(WhatIfAnswer, "invalid", "too_large"),
    )
    def what_if(asked: WhatIfRequest, caller: Asker, state: Now, request: Request) -> Response:
        follower: Follower = request.app.state.follower
        answer = answer_what_if(asked, state, follower.ledger, workspace=follower.workspace, viewer=caller.viewer)
        told = [score for score in answer["scores"] if state.may_see_deal(caller.viewer, score["deal_id"])]
        request.app.state.readings.told(caller, scores_told(told))
        return JSONResponse(answer)

    @api.get(
        "/v1/deals/{deal_id:path}",
        summary="One deal, its score, and what was published of it",
        responses=answers(DealAnswer, "not_found", "invalid"),
    )
    def deal(deal_id: str, caller: Reader, state: Now, request: Request) -> Response:
        its = request.app.state
        return JSONResponse(answer_deal(deal_id, caller, state, its.readings, its.said, stale=is_stale(request)))


def add_forecasts(api: FastAPI) -> None:
    """What a period will bring, node by node."""

    @api.post(
        "/v1/forecast",
        summary="Forecast a period's bookings",
        responses=answers(ForecastAnswer, "invalid", "too_large", "not_found"),
    )
    def forecast(asked: ForecastRequest, caller: Reader, state: Now, request: Request) -> Response:
        return JSONResponse(
            answer_forecast(
                asked,
                caller,
                state,
                request.app.state.ledger,
                workspace=request.app.state.follower.workspace,
                readings=request.app.state.readings,
                published_at=request.app.state.said.published_at,
                blind_calls=request.app.state.blind_calls,
            )
        )


def add_what_is_told(api: FastAPI) -> None:
    """What systems and people tell the service; it is written down before the answer."""

    @api.post(
        "/v1/events",
        summary="Tell what changed in the CRM",
        status_code=202,
        responses=answers(EventsAnswer, "invalid", "too_large", status=202),
    )
    def events(asked: EventsRequest, caller: Sender, state: Now, request: Request) -> Response:
        answer = answer_events(asked, caller, state, request.app.state.ledger, now=wall_clock())
        if any(result["status"] == "accepted" for result in answer["results"]):
            request.app.state.worker.wake()
        return JSONResponse(answer, 202)

    @api.post(
        "/v1/calls",
        summary="Submit forecast calls",
        status_code=202,
        responses=answers(CallsAnswer, "invalid", "too_large", "not_found", "conflict", status=202),
    )
    def calls(asked: CallsRequest, caller: Speaker, state: Now, request: Request) -> Response:
        request.app.state.readings.write()
        answer = answer_calls(asked, caller, state, request.app.state.ledger, now=wall_clock())
        request.app.state.worker.wake()
        return JSONResponse(answer, 202)

    @api.post(
        "/v1/overrides",
        summary="Say against the model",
        status_code=202,
        responses=answers(OverridesAnswer, "invalid", "too_large", "not_found", status=202),
    )
    def overrides(asked: OverridesRequest, caller: Speaker, state: Now, request: Request) -> Response:
        request.app.state.readings.write()
        answer = answer_overrides(asked, caller, state, request.app.state.ledger, now=wall_clock())
        return JSONResponse(answer, 202)


def add_operations(api: FastAPI) -> None:
    """The model in use, and what operators ask."""

    @api.get("/v1/model", summary="The model in use and how good it is", responses=answers(ModelAnswer))
    def model(caller: Reader, state: Now, request: Request) -> Response:
        moments = {name: pd.Timestamp(state.card[name]) for name in ("trained_as_of", "promoted_at")}
        limits = [*state.card["limits"], *limits_of(request.app.state.follower)]
        return JSONResponse(to_plain({**state.card, **moments, "limits": limits}))

    @api.get(
        "/livez", summary="Is the process alive?", responses=answers(Alive, rule=False), dependencies=[Depends(OPEN)]
    )
    async def livez() -> Response:
        return JSONResponse({"status": "alive"})

    @api.get("/readyz", summary="Can it answer?", responses=answers(Ready, rule=False), dependencies=[Depends(OPEN)])
    async def readyz(request: Request) -> Response:
        its = request.app.state
        return JSONResponse(readiness(its.follower, its.worker, its.readings, its.drain))

    @api.get("/openapi.json", include_in_schema=False)
    def described(caller: Reader) -> Response:
        return JSONResponse(api.openapi())

    @api.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=PlainTextResponse,
        responses=answers(None),
        dependencies=[Depends(Needs("admin", but_here=True))],
    )
    def exposed() -> Response:
        return PlainTextResponse(metrics.exposition(), media_type=metrics.CONTENT_TYPE)


def write_logs_as_lines() -> None:
    """Send our lines, and nobody else's, to standard error."""
    ours = logging.getLogger("dealcast")
    if not ours.handlers:
        ours.addHandler(logging.StreamHandler(sys.stderr))
        ours.setLevel(logging.INFO)
        ours.propagate = False
