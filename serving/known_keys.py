"""Keys that were seen lately: looked up in the ledger at most once a second, and good for a while without it."""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass

import pandas as pd
from anyio.to_thread import run_sync

from ledger.errors import LedgerUnavailable
from ledger.keys import ApiKey, Person, hash_of
from ledger.ledger import Ledger

FRESH_SECONDS = 1.0
"""So long a key may still open after it was revoked, while the ledger answers."""
PATIENCE_SECONDS = 1.0
"""So long a request waits for the ledger where it is known what the ledger said before."""
STANDS_SECONDS = 600.0
"""So long that stands while the ledger does not answer."""
MOST_KEYS = 10_000


@dataclass(frozen=True)
class Known:
    """What the ledger said of a secret, and when it was asked (on the monotonic clock)."""

    key: ApiKey | Person
    at: float


@dataclass(frozen=True)
class Look:
    """A question to the ledger that is not answered yet, and since when."""

    answer: asyncio.Future[ApiKey | Person | None]
    since: float


class KnownKeys:
    """The keys of one ledger, remembered by the hash of their secret; all calls come from one event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._looks: dict[str, Look] = {}

    async def key_of(self, secret: str) -> ApiKey | Person | None:
        """The key that a secret opens now, or who a browser's session stands for, or None.

        Raises
        ------
        LedgerUnavailable
            The ledger does not answer, and did not speak of this secret within the last ten minutes.
        """
        name = hash_of(secret)
        known = self._known.get(name)
        if known is None or time.monotonic() - known.at > FRESH_SECONDS:
            known = await self._asked(name, secret, known)
        return known.key if known is not None and known.key.opens_at(pd.Timestamp.now("UTC")) else None

    async def _asked(self, name: str, secret: str, known: Known | None) -> Known | None:
        """What the ledger says, or, if it does not answer, said within the last minutes."""
        if known is not None and time.monotonic() - known.at > STANDS_SECONDS:
            known = None
        look = self._looks.get(name)
        if look is None:
            answer = asyncio.ensure_future(run_sync(self._look, name, secret))
            look = self._looks[name] = Look(answer, time.monotonic())
            answer.add_done_callback(lambda done: self._note(name, done))
        patience = None if known is None else max(look.since + PATIENCE_SECONDS - time.monotonic(), 0)
        try:
            key = await asyncio.wait_for(asyncio.shield(look.answer), patience)
        except (LedgerUnavailable, TimeoutError):
            if known is None:
                raise
            return known
        # Not what is remembered: who asks just when the answer came may be here before it is.
        return None if key is None else Known(key, look.since)

    def _look(self, name: str, secret: str) -> ApiKey | Person | None:
        return self.ledger.authenticate(secret, now=pd.Timestamp.now("UTC"))

    def _note(self, name: str, answer: "asyncio.Future[ApiKey | Person | None]") -> None:
        """Remember what the ledger said; that it said nothing changes nothing."""
        look = self._looks.pop(name)
        if answer.cancelled() or answer.exception() is not None:
            return
        key = answer.result()
        self._known.pop(name, None)
        if key is not None:
            self._known[name] = Known(key, look.since)
        while len(self._known) > MOST_KEYS:
            self._known.popitem(last=False)
