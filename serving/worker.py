"""From the inbox to the data: accepted events become a data version, and the deals they touch are scored and published.

One worker at a time folds, whatever number of processes serve a workspace: the one that holds the lock on a file of it,
which goes with its process. How far events were folded is part of the data version that holds them, so one that is
killed at any moment leaves nothing half done, and the next goes on where it stopped.
"""

import fcntl
import json
import logging
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from crm.errors import DealcastError
from crm.events import CrmEvent
from crm.overlay import CannotFold, fold_events
from crm.thinning import thin_out
from crm.versions import current_version, read_manifest
from ledger.errors import LedgerError
from ledger.inbox import Event, Waiting
from ledger.ledger import Ledger, Publication
from serving import metrics, traces
from serving.background import Background
from serving.follower import Follower
from serving.fresh import score_newer
from serving.state import FEW_DEALS, State

LOOK_EVERY_SECONDS = 1.0
LONGEST_REST_SECONDS = 30.0
THIN_OUT_EVERY_SECONDS = 600.0
VERSIONS_STAND = pd.Timedelta(hours=2)
"""No reader takes longer over one data version."""
MOST_AT_ONCE = 10_000
QUICK_TABLES = {"deals", "deal_history", "activities", "deal_contacts", "leads", "forecast_calls"}
"""Rows of these change the scores of the deals they name, and of others only through their owners and accounts."""

log = logging.getLogger("dealcast")


class Worker(Background):
    """Folds what waits in the inbox, in a thread.

    Attributes
    ----------
    waiting : events that were accepted but are not in the data yet.
    """

    def __init__(self, workspace: Path, ledger: Ledger, follower: Follower) -> None:
        super().__init__("worker")
        self.workspace = workspace
        self.ledger = ledger
        self.follower = follower
        self.waiting = Waiting(0, None)
        self._failure = ""
        self._published: Callable[[], State | None] = lambda: None  # a state of old is not kept alive for this
        self._thinned_at = time.monotonic()

    def wake(self) -> None:
        """Something was accepted: do not wait for the next look."""
        self.waiting = Waiting(max(self.waiting.events, 1), self.waiting.since)
        super().wake()

    def has_published(self, state: State | None) -> bool:
        """Whether this is the state after which nothing was left to publish."""
        return self._published() is state

    def _turn(self) -> None:
        started = time.monotonic()
        try:
            did_something = self.work()
            self._failure = ""
        except Exception as failure:
            did_something = False
            if str(failure) != self._failure:  # once, not at every look
                is_bug = not isinstance(failure, DealcastError | LedgerError)
                log.warning("events wait: %s", failure, exc_info=is_bug)
            self._failure = str(failure)
        if did_something:  # leave as much time to others as it took
            self._stopped.wait(min(time.monotonic() - started, LONGEST_REST_SECONDS))
        else:
            self._woken.wait(LOOK_EVERY_SECONDS)

    def work(self) -> bool:
        """Fold what waits and publish what that changed, if nobody else is at it; whether events were folded."""
        if current_version(self.workspace) is None:
            return False
        self._count()
        if not self.waiting.events and self.has_published(self.follower.state):
            return False
        with self._alone() as alone:
            if not alone:
                return False
            did_something = self._fold_all()
            if did_something and not self._stopped.is_set():
                self._show_newer()
                self.follower.wake()
            if not self._stopped.is_set():  # what is folded is safe; the next worker publishes it
                self._publish_touched()
            if did_something and time.monotonic() > self._thinned_at + THIN_OUT_EVERY_SECONDS:
                self._thinned_at = time.monotonic()
                thin_out(self.workspace, before=pd.Timestamp.now("UTC") - VERSIONS_STAND)
        self._count()
        return did_something

    def _through(self) -> int:
        """The number of the last event in the data; 0 where they were made with another inbox, longer than this one."""
        through = read_manifest(self.workspace).folded.through
        return through if through <= self.ledger.last_event() else 0

    def _count(self) -> None:
        waiting = self.ledger.events_waiting(self._through())
        self.waiting = waiting
        waited = 0.0 if waiting.since is None else (pd.Timestamp.now("UTC") - waiting.since).total_seconds()
        metrics.events_waiting.set(waiting.events)
        metrics.events_waiting_seconds.set(max(waited, 0.0))  # the clock may have been set back

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether nobody else folds, and nobody will meanwhile."""
        with (self.workspace / "data" / ".folding").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def _fold_all(self) -> bool:
        events = self.ledger.events_after(self._through(), most=MOST_AT_ONCE)
        self._fold([crm_event(event) for event in events])
        return bool(events)

    def _fold(self, events: Sequence[CrmEvent]) -> None:
        """Fold events; one with which the tables cannot be made is left out, so that the others do not wait for it."""
        if not events:
            return
        try:
            with traces.span("fold events", events=len(events)):
                fold_events(self.workspace, events, after=self._through())
        except CannotFold as failure:
            if self._stopped.is_set():
                raise
            if len(events) > 1:
                half = len(events) // 2
                self._fold(events[:half])
                self._fold(events[half:])
                return
            log.error("event %s is set aside: %s", events[0].event_id, failure, exc_info=failure)
            metrics.events_set_aside.inc()
            fold_events(self.workspace, events, after=self._through(), leave_out=True)

    def _show_newer(self) -> None:
        """Score a few touched deals at once, publish and show them; the follower loads everything else meanwhile.

        Those that are shown so already are touched still: of a state that shows them, nothing but the rest is left.
        """
        shown, version = self.follower.state, current_version(self.workspace)
        if shown is None or version is None:
            return
        events = self._events_between(shown.tables.data_version, version)
        touched = frozenset(deal_id for event in events for deal_id in deals_of(event))
        if 0 < len(touched) <= FEW_DEALS and {event.table for event in events} <= QUICK_TABLES:
            newer = score_newer(self.workspace, self.ledger, shown, touched, version)
            self.follower.show(shown.with_newer(newer), instead_of=shown)
            if self._unpublished(newer) <= touched:
                self._publish(newer)

    def _publish_touched(self) -> None:
        """Publish what is not published yet, once everything is loaded."""
        state = self.follower.state
        if state is not None and state.newer is None and not self.has_published(state):
            self._publish(state)
            self._published = weakref.ref(state)

    def _publish(self, state: State) -> None:
        scores = state.scores[state.scores["deal_id"].isin(list(self._unpublished(state)))].reset_index(drop=True)
        if len(scores):
            versions = (state.bundle.model_version, state.tables.data_version)
            now = pd.Timestamp.now("UTC").as_unit("us")
            self.ledger.publish_scores(Publication("scores", "published", state.as_of, now, *versions), scores)

    def _unpublished(self, state: State) -> frozenset[str]:
        """The deals that events have touched since the last publication of scores."""
        said = self.ledger.publications("scores", basis="published")
        events = self._events_between(said[-1].data_version if said else None, state.tables.data_version)
        return frozenset(deal_id for event in events for deal_id in deals_of(event))

    def _events_between(self, earlier: str | None, later: str) -> list[Event]:
        """The events that a data version has and an earlier one had not."""
        first = 0 if earlier is None else folded_through(self.workspace, earlier)
        last = folded_through(self.workspace, later)
        return self.ledger.events_after(first, most=last - first) if first < last else []


def folded_through(workspace: Path, data_version: str) -> int:
    """The number of the last event in a data version, 0 if the version is not of this workspace."""
    try:
        return read_manifest(workspace, data_version).folded.through
    except DealcastError:
        return 0


def crm_event(event: Event) -> CrmEvent:
    """An event of the inbox as the store folds it."""
    assert event.number is not None
    return CrmEvent(event.number, event.event_id, event.table, json.loads(event.content), event.moment)


def deals_of(event: Event) -> list[str]:
    """The deals that an event's row is about."""
    row = json.loads(event.content)
    return [str(row[name]) for name in ("deal_id", "converted_deal_id") if row.get(name) is not None]
