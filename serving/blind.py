"""Calling blind: who has to call for a period sees the model's number for what the call covers only afterwards."""

import numpy as np
import pandas as pd
from starlette.requests import Request

from crm.calendar import Period
from ledger.ledger import Ledger
from models.forecaster import QUANTILES
from serving.callers import Caller
from serving.said import nodes_of
from serving.state import State

MODELS_WORD = ("open_pipeline", "not_yet_created", "mean", *QUANTILES, "probability_of_quota")
"""The columns of a forecast row that the model says; what is won, called and asked for is known anyway."""


def has_to_call(ledger: Ledger, caller: Caller, state: State, period: Period, *, blind_calls: bool) -> bool:
    """Whether calls are blind here and the caller, a user who may call, has not called for the period yet."""
    if not blind_calls or caller.user_id is None or not caller.allows("calls"):
        return False
    return not has_called(ledger, caller.user_id, state, period)


def has_called(ledger: Ledger, user_id: str, state: State, period: Period) -> bool:
    """Whether a user called for a period by the data's moment, or since then through the service."""
    start = pd.Timestamp(period.start)
    calls = state.tables.get("forecast_calls")
    in_data = (calls["user_id"] == user_id) & (calls["period_start"] == start) & (calls["submitted_at"] <= state.as_of)
    return bool(in_data.any()) or ledger.has_called(user_id, period_start=start)


def nodes_seen(nodes: pd.DataFrame, request: Request, caller: Caller, state: State, period: Period) -> pd.DataFrame:
    """The forecast rows that the caller may see, without the model's word where the caller has to call first."""
    seen = state.visible_nodes(nodes, caller.viewer)
    app = request.app.state
    if caller.user_id and has_to_call(app.ledger, caller, state, period, blind_calls=app.blind_calls):
        return without_models_word(seen, state, caller.user_id, period)
    return seen


def models_word_told(nodes: pd.DataFrame) -> pd.DataFrame:
    """The rows that tell the model's word: those that a reading is written down of."""
    return nodes[nodes["mean"].notna()]


def without_models_word(nodes: pd.DataFrame, state: State, user_id: str, period: Period) -> pd.DataFrame:
    """Forecast rows without the model's numbers of what a user's call covers: the own node and everything below it."""
    covered = {(str(node.node_type), str(node.node_id)) for node in nodes_of(state, user_id, period)}
    people = state.subtree_of.get(user_id, frozenset({user_id}))
    places = zip(nodes["node_type"], nodes["node_id"], strict=True)
    hidden = [place in covered or (place[0] in ("rep", "manager") and place[1] in people) for place in places]
    seen = nodes.copy()
    seen.loc[np.array(hidden, dtype=bool), [name for name in MODELS_WORD if name in nodes]] = np.nan
    return seen
