"""Answers about open deals from memory: the scores of many by id, and one deal with what was published of it."""

import json
from typing import Any

from serving.callers import Caller
from serving.errors import nobody_sees
from serving.given import head_of
from serving.readings import Readings, Said
from serving.said import scores_told
from serving.schema import ScoreRequest, rows_of
from serving.state import State

HISTORY = ("as_of", "published_at", "win_probability", "period_win_probability", "model_version")


def answer_scores(asked: ScoreRequest, caller: Caller, state: State, readings: Readings, *, stale: bool) -> bytes:
    """The `score` answer as JSON; a score that was asked for before is not written anew."""
    seen = [deal_id for deal_id in asked.deal_ids if state.may_see_deal(caller.viewer, deal_id)]
    scores = [score for deal_id in seen if (score := state.score_for(caller.viewer, deal_id))]
    readings.told(caller, scores_told(scores))
    hidden = [i for i in seen if i in state.score_of and not state.shows_score(i)]
    known = {deal_id for deal_id in seen if deal_id in state.score_of or deal_id in state.closing_of}
    head = {**head_of(state), "stale": stale}
    rest = {
        "unknown": [deal_id for deal_id in asked.deal_ids if deal_id not in known],
        "closed": [state.closing_of[i] for i in seen if i in state.closing_of and i not in state.score_of],
        **({"withheld": hidden} if hidden else {}),
    }
    texts = b",".join(score_text(state, score, explain=asked.explain) for score in scores)
    return b'%s,"scores":[%s],%s' % (json_text(head)[:-1], texts, json_text(rest)[1:])


def score_text(state: State, score: dict[str, Any], *, explain: bool) -> bytes:
    """A Score as JSON; that of a stored one is kept for as long as the state is."""
    asked = (score["deal_id"], explain)
    is_stored = score is state.score_of.get(score["deal_id"])  # else it is a copy, with fewer reasons
    if is_stored and asked in state.score_texts:
        return state.score_texts[asked]
    text = json_text(score if explain else {**score, "reasons": []})
    if is_stored:
        state.score_texts[asked] = text
    return text


def json_text(document: dict[str, Any]) -> bytes:
    """A document as every answer is written."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def answer_deal(
    deal_id: str, caller: Caller, state: State, readings: Readings, said: Said, *, stale: bool
) -> dict[str, Any]:
    """The answer about one deal.

    Raises
    ------
    NotFound
        It does not exist, or the caller may not see it.
    """
    standing = state.standing_seen(caller.viewer, deal_id)
    if standing is None:
        raise nobody_sees("deal", deal_id)
    score = state.score_for(caller.viewer, deal_id)
    readings.told(caller, scores_told([score] if score else []))
    published = said.scores(deal_id) if state.shows_score(deal_id) else None
    return {
        "deal": state.deal(deal_id),
        "state": standing,
        "score": score,
        "history": [] if published is None else rows_of(published, HISTORY),
        "stale": stale,
    }
