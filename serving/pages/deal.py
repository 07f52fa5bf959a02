"""The page of one deal: its score with its horizons, why, what changed, its life on one line, and what would be if."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from fastapi import Depends, FastAPI, Request
from starlette.responses import Response

from crm.plain import to_plain
from models.reasons import SMALLEST_EFFECT
from serving.callers import Caller
from serving.errors import nobody_sees
from serving.explained import ChangeTold, change_since_published
from serving.given import Asker, Now, Reader
from serving.pages.frame import say_to, show
from serving.pages.imagined import imagine, untouched
from serving.pages.life import life_told
from serving.pages.reasons import tell
from serving.pages.words import UNKNOWN, Say, later
from serving.pipeline import pipeline_of
from serving.rules import Needs
from serving.said import scores_told
from serving.similar import SimilarDeal, similar_deals
from serving.state import State
from serving.timeline import happenings, holder_of, stays

CAUSES = {
    "edit": later("changed on the deal"),
    "time": later("time passed"),
    "model": later("another model"),
}
CATEGORIES = {
    "commit": later("Commit"),
    "most_likely": later("Most likely"),
    "best_case": later("Best case"),
    "pipeline": later("Pipeline"),
    "closed": later("Closed"),
    "omitted": later("Omitted"),
}
OUTCOMES = {"won": later("won"), "lost": later("lost"), "open": later("still open")}
SAID = later("It is kept that you disagree.")
UNASKED = "unasked"
"""What stands for a piece that has not been asked for yet."""
SHOWN_CHANGES, SHOWN_SIMILAR = 6, 6


def add_deal(api: FastAPI) -> None:
    """The page, and the pieces of it that take longer than a look."""

    @api.get("/deals/{deal_id:path}", include_in_schema=False)
    def deal(deal_id: str, caller: Reader, state: Now, request: Request) -> Response:
        return show(request, "deal.html", **deal_values(deal_id, caller, state, request))

    @api.get("/change/{deal_id:path}", include_in_schema=False)
    def change(deal_id: str, caller: Reader, state: Now, request: Request) -> Response:
        told = {"change": change_of(deal_id, caller, state, request)}
        return piece(request, "deal_change.html", caller, state, {"deal_id": deal_id, "causes": CAUSES, **told})

    @api.get("/similar/{deal_id:path}", include_in_schema=False)
    def similar(deal_id: str, caller: Reader, state: Now, request: Request) -> Response:
        must_see(deal_id, caller, state)
        told = similar_told(similar_deals(state, caller.viewer, deal_id), state)
        return piece(request, "deal_similar.html", caller, state, {"deal_id": deal_id, "outcomes": OUTCOMES, **told})

    @api.get("/what_if/{deal_id:path}", include_in_schema=False, dependencies=[Depends(Needs("read"))])
    def what_if(deal_id: str, caller: Asker, state: Now, request: Request) -> Response:
        must_see(deal_id, caller, state)
        told = {"imagined": imagine(deal_id, caller, state, request)}
        score = state.score_for(caller.viewer, deal_id)
        return piece(request, "deal_what_if.html", caller, state, {"deal_id": deal_id, "score": score, **told})


def piece(request: Request, template: str, caller: Caller, state: State, values: dict[str, Any]) -> Response:
    """A piece of the page for htmx; for who has no JavaScript the whole page, with the piece in its place."""
    if request.headers.get("hx-request") == "true":
        return show(request, template, **values)
    return show(request, "deal.html", **{**deal_values(values["deal_id"], caller, state, request), **values})


def must_see(deal_id: str, caller: Caller, state: State) -> str:
    """How a deal stands.

    Raises
    ------
    NotFound
        It does not exist, or the caller may not see it.
    """
    standing = state.standing_seen(caller.viewer, deal_id)
    if standing is None:
        raise nobody_sees("deal", deal_id)
    return standing


def deal_values(deal_id: str, caller: Caller, state: State, request: Request) -> dict[str, Any]:
    """What the page tells of a deal, from memory and the ledger."""
    standing = must_see(deal_id, caller, state)
    score = state.score_for(caller.viewer, deal_id)
    request.app.state.readings.told(caller, scores_told([score] if score else []))
    say = say_to(request)
    happened = happenings(state, deal_id)
    lived = stays(state, deal_id, happened)
    shown = state.shows_score(deal_id)
    asked = (
        {basis: request.app.state.said.scores(deal_id, basis) for basis in ("published", "replayed")} if shown else {}
    )
    said = {basis: rows for basis, rows in asked.items() if rows is not None}
    rows = pipeline_of(state)
    return {
        "deal_id": deal_id,
        "deal": shown_deal(state, deal_id),
        "standing": standing,
        "outcome": OUTCOMES[standing],
        "closing": state.closing_of.get(deal_id),
        "score": score,
        "reasons": bars(say, score["reasons"] if score else []),
        "row": rows.loc[deal_id] if deal_id in rows.index else None,
        "names": names_of(state, deal_id),
        "period": state.tables.calendar.period_of(state.as_of),
        "life": life_told(say, state, happened, lived, said),
        "said_otherwise": said_otherwise(request.app.state.said.overrides(deal_id), caller, state),
        "said": say.gettext(SAID) if request.query_params.get("done") == "disagreed" else "",
        "may_say": standing == "open" and caller.allows("calls"),
        "may_ask": standing == "open" and caller.allows("what_if"),
        "imagined": untouched(say, deal_id, state) if standing == "open" else None,
        "shown": shown,
        "categories": CATEGORIES,
        "causes": CAUSES,
        "outcomes": OUTCOMES,
        "fallback": state.bundle.fallback,
        "change": UNASKED,
        "similar": UNASKED,
    }


def said_otherwise(overrides: pd.DataFrame | None, caller: Caller, state: State) -> list[dict[str, Any]]:
    """What people expected a deal to bring, the latest first: what oneself said, and those whom one manages."""
    rows = [] if overrides is None else overrides.to_dict("records")
    found = [{str(name): value for name, value in row.items()} for row in rows]
    calendar = state.tables.calendar
    return [
        {
            **row,
            "who": state.user_names.get(row["user_id"], row["user_id"] or UNKNOWN),
            "period": calendar.period_holding(row["period_start"]).label,
        }
        for row in reversed(found)
        if state.may_see_owner(caller.viewer, row["user_id"])
    ]


def shown_deal(state: State, deal_id: str) -> dict[str, Any]:
    """A deal's fields, with those that the page names, whether or not they were imported."""
    return {**dict.fromkeys(("name", "owner_id", "account_id")), **holder_of(state, deal_id).deal(deal_id)}


def names_of(state: State, deal_id: str) -> dict[str, str | None]:
    """How the deal's account and owner are called."""
    deal = holder_of(state, deal_id).deal(deal_id)
    found: dict[str, str | None] = {}
    for label, table, key in (("owner", "users", "user_id"), ("account", "accounts", "account_id")):
        named = state.tables.get(table)
        its = deal.get("owner_id" if label == "owner" else key)
        names = named.loc[named[key] == its, "name"] if "name" in named else pd.Series(dtype="str")
        found[label] = to_plain(names.iloc[0]) if len(names) else its
    return found


def bars(say: Say, reasons: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Reasons in the viewer's language, with the length of their bar as a share of the strongest."""
    most = max((abs(each["effect"]) for each in reasons), default=1.0)
    longest = max(most, SMALLEST_EFFECT)
    return [{**each, "text": tell(say, each["text"]), "share": abs(each["effect"]) / longest} for each in reasons]


# -- what changed, and what was alike ----------------------------------------------------------------------------------


def change_of(deal_id: str, caller: Caller, state: State, request: Request) -> dict[str, Any] | None:
    """What changed an open deal's score, as its reader may know it; None where nothing was published before."""
    must_see(deal_id, caller, state)
    if not (state.scores["deal_id"] == deal_id).any() or not state.shows_score(deal_id):
        return None
    follower = request.app.state.follower
    own = caller.viewer is not None and caller.viewer == state.owner_of[deal_id]
    told: ChangeTold | None = change_since_published(
        follower.ledger,
        follower.workspace,
        state.bundle,
        state.tables,
        state.history,
        deal_id=deal_id,
        as_of=state.as_of,
        sources=state.sources,
        audiences=("everyone",) if own else ("everyone", "chain"),
    )
    if told is None:
        return None
    rows = [each.to_dict() for each in told.changes[:SHOWN_CHANGES] if abs(each.effect) >= SMALLEST_EFFECT]
    total = sum(each.effect for each in told.changes)
    rest = total - sum(row["effect"] for row in rows)
    return {"since": told.since, "rows": bars(say_to(request), rows), "rest": rest, "total": total}


def similar_told(found: Sequence[SimilarDeal], state: State) -> dict[str, Any]:
    """The nearest deals with their names, and how all that were looked at ended."""
    deals = state.tables.get("deals").set_index("deal_id")
    shown = [
        {
            "deal_id": each.deal_id,
            "name": to_plain(deals["name"].get(each.deal_id)) if "name" in deals else None,
            "as_of": each.as_of,
            "outcome": each.outcome,
            "ended_at": each.ended_at,
            "days": None if each.ended_at is None else (each.ended_at - each.as_of).total_seconds() / 86_400,
            "likeness": 1.0 - each.distance,
        }
        for each in found[:SHOWN_SIMILAR]
    ]
    counts = {outcome: sum(each.outcome == outcome for each in found) for outcome in OUTCOMES}
    return {"similar": shown, "similar_counts": counts, "similar_total": len(found)}
