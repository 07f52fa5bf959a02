"""What keeps the state of a worker the newest: it follows the champion and the data."""

import logging
import threading
import time
from pathlib import Path

from crm.errors import DealcastError
from crm.versions import current_version
from ledger.errors import LedgerError
from ledger.ledger import Ledger
from models.bundle_store import read_champion
from models.holdout import Holdout
from serving import metrics, traces
from serving.background import Background
from serving.state import State, load_state

LOOK_EVERY_SECONDS = 1.0
LOOK_AGAIN_SECONDS = 20.0

log = logging.getLogger("dealcast")


class Follower(Background):
    """Keeps the newest state: looks at the champion and the data every second, loads beside the old, then swaps.

    Attributes
    ----------
    state : what to answer from; None until the first one is loaded.
    stale : newer data or a newer champion is there, but not (or not yet) what `state` shows.
    failure : why the newest could not be loaded.
    """

    def __init__(self, workspace: Path, ledger: Ledger, holdout: Holdout | None = None) -> None:
        super().__init__("follower")
        self.holdout = holdout
        self.workspace = workspace
        self.ledger = ledger
        self.state: State | None = None
        self.stale = False
        self.failure: Exception | None = None
        self._seen: tuple[str | None, str | None] | None = None
        self._look_again_at = 0.0
        self._looking = threading.Lock()
        self._swapping = threading.Lock()

    def _turn(self) -> None:
        self.look()
        self._woken.wait(LOOK_EVERY_SECONDS)

    def look(self) -> None:
        """Load what is new, if anything is; what cannot be loaded leaves the old state standing, and is tried again."""
        try:
            with self._looking:
                self._look()
        except Exception as failure:
            if str(failure) != str(self.failure):  # once, not at every look
                is_bug = not isinstance(failure, DealcastError | LedgerError)
                log.warning("the newest data and model cannot be served: %s", failure, exc_info=is_bug)
            self.failure = failure
            self._look_again_at = time.monotonic() + LOOK_AGAIN_SECONDS
        metrics.stale.set(self.stale)

    @property
    def unserved_champion(self) -> str | None:
        """The champion that could not be loaded, if that is why an older model answers."""
        champion = self._seen and self._seen[0]
        is_served = self.state is None or champion == self.state.bundle.model_version
        return champion if self.failure is not None and not is_served else None

    def show(self, state: State, *, instead_of: State) -> None:
        """Answer from a state with some newer deals, unless another one has been loaded meanwhile."""
        with self._swapping:
            if self.state is instead_of:
                self.state, self.stale = state, True

    def _look(self) -> None:
        seen = (read_champion(self.workspace), current_version(self.workspace))
        if seen == self._seen and (self.failure is None or time.monotonic() < self._look_again_at):
            return
        if seen != self._seen:
            self.failure = None
        self._seen, self.stale = seen, self.state is not None
        began = time.monotonic()
        with traces.span("load data and model"):
            state = load_state(self.workspace, self.ledger, self.state, self.holdout)
        metrics.load_seconds.observe(time.monotonic() - began)
        with self._swapping:
            self.state, self.stale, self.failure = state, False, None
        metrics.tell_scores(state.scores["win_probability"])
        metrics.data_moment.set(state.as_of.timestamp())
        log.info("serving model %s on data %s", state.bundle.model_version, state.tables.data_version)
