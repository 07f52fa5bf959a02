"""What every route may ask for: who asks, with what scope, and the state to answer from."""

from typing import Annotated, Any

import pandas as pd
from fastapi import Depends, Request

from crm.errors import Detail, NoModel
from crm.plain import to_plain
from serving.callers import Caller
from serving.follower import Follower
from serving.rules import Needs
from serving.state import State


async def state_now(request: Request) -> State:
    """The state of this moment; a request reads it once and keeps to it."""
    return state_of(request.app.state.follower)


def state_of(follower: Follower) -> State:
    """What a worker answers from.

    Raises
    ------
    NoModel
        Nothing could be loaded yet, and why.
    """
    if follower.state is not None:
        return follower.state
    failure = follower.failure
    if isinstance(failure, NoModel):
        raise failure
    reason = "see the service's log" if failure else "the model is being loaded; try again in a moment"
    message = getattr(failure, "message", None) or "The service is not ready."
    details = getattr(failure, "details", ()) or (Detail("/readyz", None, "data and a champion are loaded", reason),)
    raise NoModel(message, *details)


def is_stale(request: Request) -> bool:
    """Whether more has happened than the scores show, or nobody can say because the database is gone."""
    state = request.app.state
    return bool(state.follower.stale or state.worker.waiting.events > 0 or not state.readings.ledger_answers)


Reader = Annotated[Caller, Depends(Needs("read"))]
Sender = Annotated[Caller, Depends(Needs("events"))]
Speaker = Annotated[Caller, Depends(Needs("calls"))]
Asker = Annotated[Caller, Depends(Needs("what_if"))]
Now = Annotated[State, Depends(state_now)]


def head_of(state: State) -> dict[str, Any]:
    """What every answer says of where it comes from."""
    versions = {"model_version": state.bundle.model_version, "data_version": state.tables.data_version}
    return {"as_of": to_plain(state.as_of), **versions}


def wall_clock() -> pd.Timestamp:
    """Now, as the ledger keeps it."""
    return pd.Timestamp.now("UTC").as_unit("us")
