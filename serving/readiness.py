"""Whether a worker can answer, and how well: its model, its data and its database, each with its state."""

import signal
import threading
from dataclasses import dataclass
from types import FrameType
from typing import Any

import pandas as pd

from crm.errors import Detail, NoModel
from serving.follower import Follower
from serving.given import head_of, state_of
from serving.readings import Readings
from serving.state import State
from serving.worker import Worker


@dataclass
class Drain:
    """Whether this worker is about to end: it answers what comes, and says that it wants no more."""

    has_begun: bool = False

    def begin_on_sigterm(self, seconds: float) -> None:
        """Begin when told to end, and end so many seconds later: time for whoever sends requests to look elsewhere."""
        if threading.current_thread() is not threading.main_thread():
            return
        end = signal.getsignal(signal.SIGTERM)

        def begin(number: int, frame: FrameType | None) -> None:
            self.has_begun = True
            if callable(end):
                threading.Timer(seconds, end, (number, frame)).start() if seconds else end(number, frame)

        signal.signal(signal.SIGTERM, begin)


def readiness(follower: Follower, worker: Worker, readings: Readings, drain: Drain) -> dict[str, Any]:
    """The `/readyz` answer of a worker that can answer: `ready`, or `degraded` where one of its checks is not `ok`.

    Raises
    ------
    NoModel
        The worker cannot answer: it is about to end, or has no model and data.
    """
    if drain.has_begun:
        detail = Detail("/readyz", "draining", "a worker that is not about to end", "ask again: another one answers")
        raise NoModel("The service is about to end.", detail)
    state = state_of(follower)
    checks = {
        "model": model_check(follower, state),
        "data": data_check(follower, worker, state),
        "database": {"state": "ok" if readings.ledger_answers else "gone"},
    }
    well = all(check["state"] == "ok" for check in checks.values())
    return {"status": "ready" if well else "degraded", **head_of(state), "checks": checks}


def model_check(follower: Follower, state: State) -> dict[str, Any]:
    """`ok`, or `old`: another model is the champion, but cannot be served."""
    unserved = follower.unserved_champion
    told = {"model_version": state.bundle.model_version}
    if unserved is None:
        return {"state": "ok", **told}
    return {"state": "old", **told, "champion": unserved, "because": str(follower.failure)}


def data_check(follower: Follower, worker: Worker, state: State) -> dict[str, Any]:
    """`ok`; `behind` where events or newer data are not in the scores yet, with how old the data's moment is."""
    behind = follower.stale or worker.waiting.events > 0
    age = (pd.Timestamp.now("UTC") - state.as_of).total_seconds()
    return {"state": "behind" if behind else "ok", "age_hours": round(age / 3600, 2), "waiting": worker.waiting.events}


def limits_of(follower: Follower) -> list[str]:
    """What the model's card does not say itself: that it answers in the place of another one, and why."""
    unserved = follower.unserved_champion
    return [] if unserved is None else [f"The champion {unserved} cannot be served: {follower.failure}"]
