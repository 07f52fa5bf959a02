"""Scores of deals as somebody proposes them: the store with these deals in it, for one answer."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from crm.errors import Detail, UsageError
from crm.history import DealHistory, build_history, open_deals
from crm.plain import to_plain
from crm.proposals import Proposals, read_proposals
from crm.tables import CrmTables
from features.sources import FeatureSources, build_sources, overlay_sources
from ledger.ledger import Ledger
from models.bundle import Bundle, bundle_for
from models.scorer import score_deals
from serving import traces
from serving.errors import TooLarge, asked_in
from serving.schema import SCORE_COLUMNS, WhatIfRequest, rows_of
from serving.state import State, changed_since, published_earlier

MOST_PROPOSALS = 100


@dataclass(frozen=True)
class Ground:
    """What proposals stand on: the model of a moment, and the store as this model sees it."""

    bundle: Bundle
    tables: CrmTables
    sources: FeatureSources


def answer_what_if(
    asked: WhatIfRequest, state: State, ledger: Ledger, *, workspace: Path, viewer: str | None
) -> dict[str, Any]:
    """The `what_if` answer.

    Parameters
    ----------
    viewer : the user with whose eyes the caller sees; a deal or an owner that this user may not see does not exist.

    Raises
    ------
    TooLarge
        More than `MOST_PROPOSALS` deals.
    UsageError
        `as_of` is no moment, the data do not reach it, or no model was trained by then.
    """
    if len(asked.deals) > MOST_PROPOSALS:
        rule = f"at most {MOST_PROPOSALS} deals in a call"
        detail = Detail("deals", str(len(asked.deals)), rule, "ask in several calls")
        raise TooLarge(f"{len(asked.deals)} deals are too many for one call.", detail)
    as_of = moment_asked(state, asked.as_of)
    ground = ground_at(state, workspace, as_of)
    ids = [one.deal.get("deal_id") for one in asked.deals]
    known = {each for each in ids if isinstance(each, str) and state.may_see_deal(viewer, each)}
    owners = {owner for owner in state.known_owners if state.may_see_owner(viewer, owner)}
    proposed = [one.model_dump() for one in asked.deals]
    with traces.span("read proposals", deals=len(proposed)):
        proposals = read_proposals(ground.tables, proposed, as_of, known=known, owners=owners)
    with traces.span("score proposals"):
        scores, closed = score_proposals(ground, proposals, known=known)
    scores = changed_since(scores, earlier_of(known & proposals.place_of.keys(), state, ledger, as_of))
    owner_of = owners_given(proposals)
    told = []
    for score in rows_of(scores, SCORE_COLUMNS):
        index = proposals.place_of[score["deal_id"]]
        if owner_of[score["deal_id"]] in state.withheld_owners:
            closed[index] = [WITHHELD]
            continue
        seen = state.told_to(viewer, owner_of[score["deal_id"]], score)
        told.append({**seen, "index": index, "warnings": list(proposals.warnings.get(index, []))})
    errors = {**proposals.errors, **closed}
    return {
        "as_of": to_plain(as_of),
        "model_version": ground.bundle.model_version,
        "data_version": ground.tables.data_version,
        "scores": sorted(told, key=lambda score: score["index"]),
        "errors": [
            {"index": index, "details": [detail.to_dict() for detail in errors[index]]} for index in sorted(errors)
        ],
    }


def earlier_of(deal_ids: set[str], state: State, ledger: Ledger, as_of: pd.Timestamp) -> pd.DataFrame:
    """What had been published of stored deals a week before; the ledger is asked where memory does not know."""
    if as_of == state.as_of and deal_ids <= set(state.earlier.index):
        return state.earlier.loc[sorted(deal_ids)]
    return published_earlier(sorted(deal_ids), ledger, as_of)


WITHHELD = Detail(
    "owner_id", None, "the owner's team is not one of those that see no scores (a holdout)", "wait until it is over"
)


def moment_asked(state: State, as_of: str | None) -> pd.Timestamp:
    """The moment a caller asks about: none is the data's.

    Raises
    ------
    UsageError
        Not a moment, or later than the data's.
    """
    at = state.as_of if as_of is None else state.tables.calendar.parse_moment(as_of, where="as_of")
    if at > state.as_of:
        detail = Detail("as_of", as_of, f"not later than the data's moment, {to_plain(state.as_of)}", "leave it out")
        raise UsageError("Nothing is known about that moment yet.", detail)
    return at


def ground_at(state: State, workspace: Path, as_of: pd.Timestamp) -> Ground:
    """The champion and what it sees; for a moment before its training, the model of that time."""
    if state.bundle.trained_as_of <= as_of:
        return Ground(state.bundle, state.tables, state.sources)
    with asked_in("as_of", to_plain(as_of)):
        bundle = bundle_for(workspace, as_of, state.as_of)
    tables, history = bundle.read_history(state.tables)
    return Ground(bundle, tables, build_sources(tables, history))


def score_proposals(
    ground: Ground, proposals: Proposals, *, known: set[str]
) -> tuple[pd.DataFrame, dict[int, list[Detail]]]:
    """The scores of the proposals that are open deals, and, by index, what is wrong with the others."""
    history: DealHistory = build_history(proposals.tables)
    spine = open_deals(history, proposals.tables.as_of)
    replaced = known & proposals.place_of.keys()
    sources = overlay_sources(
        ground.sources, build_sources(proposals.tables, history, bulk=ground.sources.bulk), replaced
    )
    scores = score_deals(ground.bundle, proposals.tables, history, spine, sources=sources)
    rule = f"a deal that is open at {to_plain(proposals.tables.as_of)}"
    closed = partial(Detail, rule=rule, next_step="give it an open stage, and its history up to there")
    stages = proposals.tables.get("deals").set_index("deal_id")["stage"]
    scored = set(spine["deal_id"])
    return scores, {
        index: [closed(f"deals[{index}].deal.stage", to_plain(stages[deal_id]))]
        for deal_id, index in proposals.place_of.items()
        if deal_id not in scored
    }


def owners_given(proposals: Proposals) -> dict[str, str | None]:
    """The owner of each proposed deal; None where unknown."""
    deals = proposals.tables.get("deals")
    if "owner_id" not in deals:
        return dict.fromkeys(deals["deal_id"])
    return {deal_id: to_plain(owner) for deal_id, owner in zip(deals["deal_id"], deals["owner_id"], strict=True)}
