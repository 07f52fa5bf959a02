"""Panel links: a deal as one user may see it, inside the CRM's own page, by a link that is minted for each view.

The CRM's server mints a link for the user who looks at a record, with a key of the scope `panel` that never reaches a
browser. The link opens one page once within five minutes; no log, no referrer and no record of the CRM keeps it.
"""

from typing import Annotated, Any
from urllib.parse import quote

import pandas as pd
from anyio.to_thread import run_sync
from fastapi import Depends, FastAPI, Request
from starlette.responses import JSONResponse, Response

from crm.errors import Detail
from crm.plain import to_plain
from serving.answers import PanelLinkAnswer, answers
from serving.auth import Gate
from serving.callers import Caller, viewer_for
from serving.errors import Unauthorized, nobody_sees
from serving.given import Now, wall_clock
from serving.rules import Needs
from serving.schema import PanelLinkRequest
from serving.state import State

PURPOSE = "panel"
LASTS = pd.Timedelta(minutes=5)
CONTENT_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'none'; base-uri 'none'; frame-ancestors {ancestors}"
)

Minter = Annotated[Caller, Depends(Needs("panel"))]


class PanelLink(Needs):
    """The rule of the panel: by a link it opens to the user for whom that was minted, else to who may read."""

    async def __call__(self, request: Request) -> Caller | None:
        """The user of the link, or who is signed in.

        Raises
        ------
        Unauthorized
            There is no such link for this deal, or it was used, or is too old; or there is none, and nobody says who
            asks.
        """
        if not self.is_free_for(request):
            return await super().__call__(request)
        gate: Gate = request.app.state.gate
        token, now = request.query_params["token"], pd.Timestamp.now("UTC")
        found = await run_sync(lambda: gate.ledger.spend_ticket(PURPOSE, token, now=now))
        if found is None or found["deal_id"] != request.path_params["deal_id"]:
            step = "open the record in the CRM again: it asks for a new one"
            detail = Detail("token", None, "a link of this deal, not used before, at most five minutes old", step)
            raise Unauthorized("This link opens nothing.", detail)
        user_id = str(found["user_id"])
        caller = Caller(user_id, str(found["key_id"]), ("read",), user_id, viewer_for(user_id, gate.access))
        request.state.caller = caller
        return caller


PanelReader = Annotated[Caller, Depends(PanelLink("read", by_link=True))]


def add_panel_links(api: FastAPI) -> None:
    """Minting them."""

    @api.post(
        "/v1/panel_links",
        summary="Mint a link to a deal's panel for one view of one user",
        status_code=201,
        responses=answers(PanelLinkAnswer, "invalid", "too_large", "not_found", status=201),
    )
    def mint(asked: PanelLinkRequest, caller: Minter, state: Now, request: Request) -> Response:
        return JSONResponse(minted(asked, caller, state, request.app.state.gate), 201)


def framed(answer: Response, request: Request) -> Response:
    """An answer that the CRM's pages may show in a frame, if the settings name them; no other page may."""
    ancestors = " ".join(request.app.state.gate.access.frame_ancestors) or "'none'"
    answer.headers["content-security-policy"] = CONTENT_POLICY.format(ancestors=ancestors)
    return answer


def minted(asked: PanelLinkRequest, caller: Caller, state: State, gate: Gate) -> dict[str, Any]:
    """The answer to who wants a link.

    Raises
    ------
    NotFound
        There is no such user or deal, or the caller or the user may not see it.
    """
    users = state.tables.get("users")["user_id"]
    if not (users == asked.user_id).any() or not state.may_see_owner(caller.viewer, asked.user_id):
        raise nobody_sees("user", asked.user_id, where="user_id")
    eyes = (caller.viewer, viewer_for(asked.user_id, gate.access))
    if any(state.standing_seen(each, asked.deal_id) is None for each in eyes):
        raise nobody_sees("deal", asked.deal_id, where="deal_id")
    content = {"deal_id": asked.deal_id, "user_id": asked.user_id, "key_id": caller.key_id}
    ticket = gate.ledger.issue_ticket(PURPOSE, content, lasts=LASTS, now=wall_clock())
    path = f"/panel/{quote(asked.deal_id, safe='')}?token={ticket.token}"
    return {"url": gate.access.public_url + path, "expires_at": to_plain(ticket.expires_at.floor("s"))}
