"""How right callers have been so far: worked out beside the requests, since it reads every week of every period."""

import logging
import threading
from datetime import date

import pandas as pd

from models.review import caller_record
from serving.state import State

log = logging.getLogger("dealcast")


class CallersRecord:
    """The record of all callers as of the data's day; what is known of an earlier day stands meanwhile."""

    def __init__(self) -> None:
        self._known: pd.DataFrame | None = None
        self._day: date | None = None
        self._lock = threading.Lock()
        self._at_work = False

    def of(self, state: State) -> pd.DataFrame | None:
        """See `models.review.caller_record`; None until it has been worked out for the first time."""
        day = state.tables.calendar.local_day(state.as_of)
        with self._lock:
            if day != self._day and not self._at_work:
                self._at_work = True
                threading.Thread(target=self._work_out, args=(state, day), name="record", daemon=True).start()
            return self._known

    def _work_out(self, state: State, day: date) -> None:
        try:
            record = caller_record(state.tables, state.history, state.as_of)
        except Exception as failure:
            log.warning("the record of the callers cannot be worked out: %s", failure, exc_info=failure)
            record = None
        with self._lock:
            self._known, self._day, self._at_work = self._known if record is None else record, day, False
