"""Who has been right so far: worked out beside the requests, since it reads every week of every period that is over."""

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

import pandas as pd

from ledger.ledger import Ledger
from models.review import caller_record
from models.track_record import judged_chances, judged_reviews
from serving.state import State

log = logging.getLogger("dealcast")


@dataclass(frozen=True)
class Record:
    """What is known of who was right; each part is None until it has been worked out.

    Attributes
    ----------
    calls : `models.review.caller_record`.
    chances : `models.track_record.judged_chances`.
    reviews : `models.track_record.judged_reviews`; `has_baselines`: the baselines are in it.
    """

    calls: pd.DataFrame | None = None
    chances: pd.DataFrame | None = None
    reviews: pd.DataFrame | None = None
    has_baselines: bool = False


class TrackRecord:
    """The record as of the data's day; what is known of an earlier day stands meanwhile.

    Baselines, which take the longest, are worked out once somebody has asked for them.
    """

    def __init__(self) -> None:
        self._known = Record()
        self._done: tuple[date | None, bool] = (None, False)
        self._lock = threading.Lock()
        self._at_work = False

    def of(self, state: State, ledger: Ledger, *, baselines: bool = False) -> Record:
        """What is known by now."""
        wanted = (state.tables.calendar.local_day(state.as_of), baselines or self._done[1])
        with self._lock:
            if wanted != self._done and not self._at_work:
                self._at_work = True
                work = (state, ledger, wanted)
                threading.Thread(target=self._work_out, args=work, name="record", daemon=True).start()
            return self._known

    def _work_out(self, state: State, ledger: Ledger, wanted: tuple[date, bool]) -> None:
        try:
            for known in stages(state, ledger, self._known, is_new=wanted[0] != self._done[0], baselines=wanted[1]):
                self._known = known
        except Exception as failure:
            log.warning("the record of who was right cannot be worked out: %s", failure, exc_info=failure)
        with self._lock:
            self._done, self._at_work = wanted, False


def stages(state: State, ledger: Ledger, known: Record, *, is_new: bool, baselines: bool) -> Iterator[Record]:
    """The record as it grows, what is quick to work out first."""
    at = (state.tables, state.history)
    if is_new or known.calls is None:
        known = replace(known, calls=caller_record(*at, state.as_of))
        yield known
        known = replace(known, chances=judged_chances(ledger, state.history, state.tables.calendar, state.as_of))
        yield known
        if not known.has_baselines:
            known = replace(known, reviews=judged_reviews(*at, ledger, known.calls, state.as_of, baselines=False))
            yield known
    if baselines and known.calls is not None:
        reviews = judged_reviews(*at, ledger, known.calls, state.as_of, baselines=True)
        yield replace(known, reviews=reviews, has_baselines=True)
