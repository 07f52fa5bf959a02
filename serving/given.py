"""What every route may ask for: who asks, with what scope, and the state to answer from."""

from typing import Annotated, Any

import pandas as pd
from fastapi import Depends, Request

from crm.errors import DealcastError, Detail, NoModel
from crm.plain import to_plain
from ledger.errors import LedgerError
from serving.callers import Caller
from serving.rules import Needs
from serving.state import Follower, State


def state_now(request: Request) -> State:
    """The state of this moment; a request reads it once and keeps to it."""
    follower: Follower = request.app.state.follower
    if follower.state is not None:
        return follower.state
    if isinstance(follower.failure, DealcastError | LedgerError):
        raise NoModel(follower.failure.message, *getattr(follower.failure, "details", ()))
    reason = "see the service's log" if follower.failure else "the model is being loaded; try again in a moment"
    raise NoModel("The service is not ready.", Detail("/readyz", None, "data and a champion are loaded", reason))


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
