"""What CRMs tell of themselves, signed: HubSpot's webhooks come in like events, where its secret is known."""

import json
from collections.abc import Mapping
from typing import Any

from anyio.to_thread import run_sync
from fastapi import Depends, FastAPI, Request
from starlette.responses import JSONResponse, Response

from crm.connectors.hubspot_webhook import SIGNATURE, events_of, is_signed
from crm.errors import Detail, UsageError
from serving.answers import EventsAnswer, answers
from serving.callers import Caller
from serving.errors import Unauthorized
from serving.given import Now, wall_clock
from serving.intake import answer_events
from serving.rules import OPEN
from serving.schema import EventsRequest
from serving.sign_in import public_address
from serving.state import State

HUBSPOT = Caller("HubSpot", "hubspot", ("events",), None, None)


def add_webhooks(api: FastAPI, secret: str | None) -> None:
    """The route of HubSpot's webhooks, if the client secret of its app is known."""
    if not secret:
        return

    @api.post(
        "/v1/webhooks/hubspot",
        summary="Take in what HubSpot's webhooks tell of deals",
        description="Signed by HubSpot (x-hubspot-signature-v3) instead of a key.",
        status_code=202,
        dependencies=[Depends(OPEN)],
        responses=answers(EventsAnswer, "invalid", "unauthorized", status=202),
    )
    async def hubspot(request: Request, state: Now) -> Response:
        body = await request.body()
        query = f"?{request.url.query}" if request.url.query else ""
        uri = public_address(request) + request.url.path + query
        if not is_signed(secret, method=request.method, uri=uri, body=body, headers=request.headers, now=wall_clock()):
            rule = "signed by HubSpot for this address ([service] public_url), within the last five minutes"
            step = "set public_url, and the app's client secret (docs/hubspot.md)"
            raise Unauthorized("HubSpot did not sign this.", Detail(SIGNATURE, None, rule, step))
        answer = await run_sync(take_in, body, state, request)
        if any(result["status"] == "accepted" for result in answer["results"]):
            request.app.state.worker.wake()
        return JSONResponse(answer, 202)


def take_in(body: bytes, state: State, request: Request) -> Mapping[str, Any]:
    """The events that notices tell of, taken in: the `events` answer."""
    try:
        notices = json.loads(body)
        events = events_of(notices, state.tables)
    except (ValueError, TypeError, AttributeError, OverflowError) as wrong:
        detail = Detail(
            "body", None, f"a list of HubSpot's notices ({type(wrong).__name__})", "send it as HubSpot does"
        )
        raise UsageError("This is not what HubSpot sends.", detail) from None
    return answer_events(EventsRequest(events=events), HUBSPOT, state, request.app.state.ledger, now=wall_clock())
