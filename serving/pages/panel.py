"""The card of a deal, small enough to stand inside a CRM's own page."""

from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from serving.callers import Caller
from serving.given import Now
from serving.pages.deal import OUTCOMES, bars, must_see, shown_deal
from serving.pages.frame import say_to, show
from serving.pages.words import Say
from serving.panel import PanelReader, framed
from serving.said import scores_told
from serving.state import State

SHOWN_REASONS = 3


def add_panel(api: FastAPI) -> None:
    """The card alone, without the frame of the other pages."""

    @api.get("/panel/{deal_id:path}", include_in_schema=False)
    def panel(deal_id: str, caller: PanelReader, state: Now, request: Request) -> Response:
        return framed(show_panel(deal_id, caller, state, request), request)


def show_panel(deal_id: str, caller: Caller, state: State, request: Request) -> Response:
    """The card as a page, and written down that its number was told.

    Raises
    ------
    NotFound
        The deal does not exist, or the caller may not see it.
    """
    standing = must_see(deal_id, caller, state)
    values = panel_values(say_to(request), deal_id, caller.viewer, state, standing=standing)
    request.app.state.readings.told(caller, scores_told([values["score"]] if values["score"] else []))
    return show(request, "panel.html", **values)


def panel_values(say: Say, deal_id: str, viewer: str | None, state: State, *, standing: str) -> dict[str, Any]:
    """What the card tells to a user's eyes (None: the whole company's)."""
    score = state.score_for(viewer, deal_id)
    return {
        "deal_id": deal_id,
        "deal": shown_deal(state, deal_id),
        "score": score,
        "outcome": OUTCOMES[standing],
        "closing": state.closing_of.get(deal_id),
        "reasons": bars(say, score["reasons"][:SHOWN_REASONS] if score else []),
        "period": state.tables.calendar.period_of(state.as_of),
    }
