"""Who was told which of the model's numbers, written down beside answering: reads go on while the database is gone."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import TypeVar

import pandas as pd

from crm.calendar import Period
from crm.errors import DealcastError
from ledger.errors import LedgerError, LedgerUnavailable
from ledger.ledger import Basis, Ledger
from ledger.people import Subject
from serving import metrics
from serving.background import Background
from serving.callers import Caller
from serving.said import reader_of
from serving.state import State

LOOK_EVERY_SECONDS = 1.0
MOST_KEPT = 1000
"""So many answers of the ledger of each kind are remembered."""
SILENT_SECONDS = 4.0
"""A ledger that has not answered for so long is gone."""

Key = TypeVar("Key")
Answer = TypeVar("Answer")

log = logging.getLogger("dealcast")


class Said:
    """What was published: as the ledger says or, while it does not answer, said last."""

    def __init__(self, ledger: Ledger, readings: "Readings") -> None:
        self.ledger = ledger
        self.readings = readings
        self._forecasts: OrderedDict[tuple[object, ...], pd.Timestamp | None] = OrderedDict()
        self._scores: OrderedDict[tuple[str, Basis], pd.DataFrame] = OrderedDict()
        self._overrides: OrderedDict[str, pd.DataFrame] = OrderedDict()
        self._lock = threading.Lock()

    def published_at(self, period: Period, state: State) -> pd.Timestamp | None:
        """When the forecast that a state gives of a period was published last; None if it was not."""
        model, start = state.bundle.model_version, pd.Timestamp(period.start)

        def ask() -> pd.Timestamp | None:
            said = self.ledger.publications("forecast", basis="published", period_start=start, as_of=state.as_of)
            return next((each.published_at for each in reversed(said) if each.model_version == model), None)

        return self._said(self._forecasts, (model, start, state.as_of), ask)

    def scores(self, deal_id: str, basis: Basis = "published") -> pd.DataFrame | None:
        """What was published of a deal (`Ledger.score_history`); None if the ledger is gone and never said it."""
        return self._said(self._scores, (deal_id, basis), lambda: self.ledger.score_history(deal_id, basis=basis))

    def overrides(self, deal_id: str) -> pd.DataFrame | None:
        """What people said otherwise of a deal; None if the ledger is gone and never said it."""
        return self._said(self._overrides, deal_id, lambda: self.ledger.deal_overrides(deal_id))

    def _said(self, known: OrderedDict[Key, Answer], asked: Key, ask: Callable[[], Answer]) -> Answer | None:
        if not self.readings.ledger_answers:  # nobody waits for a ledger that is known to be gone
            return known.get(asked)
        try:
            answer = ask()
        except LedgerUnavailable:
            return known.get(asked)
        with self._lock:
            known[asked] = answer
            known.move_to_end(asked)
            while len(known) > MOST_KEPT:
                known.popitem(last=False)
        return answer


class Readings(Background):
    """Writes readings down in a thread: each once, until something is published anew.

    What cannot be written waits in memory. As it looks into the ledger every second, it knows whether that answers.
    """

    def __init__(self, ledger: Ledger) -> None:
        super().__init__("readings")
        self.ledger = ledger
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._waiting: dict[tuple[str, Subject], pd.Timestamp] = {}
        self._written: set[tuple[str, Subject]] = set()
        self._since: int | None = None
        self._answered_at = time.monotonic()
        self._failure = ""

    @property
    def ledger_answers(self) -> bool:
        """Whether the ledger took what was to be written lately."""
        return not self._failure and time.monotonic() - self._answered_at < SILENT_SECONDS

    def told(self, caller: Caller, subjects: Collection[Subject]) -> None:
        """Note what a caller is about to be told; it is written within moments."""
        reader = reader_of(caller)
        now = pd.Timestamp.now("UTC").as_unit("us")
        readings = dict.fromkeys(((reader, subject) for subject in subjects), now)
        with self._lock:
            self._waiting.update(readings)
            is_new = not readings.keys() <= self._written
        if is_new:
            self.wake()

    def write(self) -> None:
        """Write down what waits.

        Raises
        ------
        LedgerUnavailable
            The ledger does not answer; what waits goes on waiting.
        """
        with self._writing:
            with self._lock:
                taken, self._waiting = self._waiting, {}
            try:
                last = self.ledger.last_publication()
                is_same = last == self._since
                new = {each: at for each, at in taken.items() if not is_same or each not in self._written}
                if new:
                    self.ledger.write_readings(new)
            except BaseException:
                with self._lock:
                    self._waiting = {**taken, **self._waiting}
                raise
            with self._lock:
                # After a publication everything is written once more: what was just written may be of before it.
                if is_same:
                    self._written.update(new)
                else:
                    self._written.clear()
            self._since = last
            self._answered_at = time.monotonic()

    def _turn(self) -> None:
        try:
            self.write()
            self._failure = ""
        except Exception as failure:
            if not self._failure:  # once, not at every look
                is_bug = not isinstance(failure, DealcastError | LedgerError)
                log.warning("what was read cannot be written down: %s", failure, exc_info=is_bug)
            self._failure = str(failure)
        metrics.database_answers.set(self.ledger_answers)
        if self._failure:
            self._stopped.wait(LOOK_EVERY_SECONDS)
        else:
            self._woken.wait(LOOK_EVERY_SECONDS)
