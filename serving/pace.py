"""How often one may ask, and fail: counted a minute at a time, in memory, by each process that serves.

On the monotonic clock, so that setting the wall clock locks nobody out. With a library for many stores of counts it
took a tenth of a request's time, and a thread for each.
"""

import math
import time
from collections import Counter

from crm.errors import Detail
from serving.access import Access
from serving.errors import RateLimited

WINDOW_SECONDS = 60.0


class Window:
    """Counts by name, which begin anew every minute; all calls come from one event loop."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._counts: Counter[str] = Counter()
        self._ends_at = 0.0

    def count(self, name: str) -> bool:
        """Count once more; whether it is not one too many."""
        self._begin_anew()
        self._counts[name] += 1
        return self._counts[name] <= self.most

    def allows(self, name: str) -> bool:
        """Whether one more would not be too many."""
        self._begin_anew()
        return self._counts[name] < self.most

    @property
    def seconds_left(self) -> int:
        """Seconds until the counts begin anew, at least 1."""
        return max(1, math.ceil(self._ends_at - time.monotonic()))

    def _begin_anew(self) -> None:
        now = time.monotonic()
        if now >= self._ends_at:
            self._counts.clear()
            self._ends_at = now + WINDOW_SECONDS


class Pace:
    """The counts of one process."""

    def __init__(self, access: Access) -> None:
        self._asked = Window(access.requests_per_minute) if access.requests_per_minute else None
        self._failed = Window(access.failures_per_minute)

    def ask(self, key_id: str) -> None:
        """Count a request of a key or person.

        Raises
        ------
        RateLimited
            It was one too many within the minute.
        """
        if self._asked is not None and not self._asked.count(key_id):
            raise too_often(self._asked, f"at most {self._asked.most} requests a minute of a key")

    def fail(self, who: str) -> bool:
        """Count a refusal of an address or key; whether it is not one too many."""
        return self._failed.count(who)

    def check_failures(self, who: str) -> None:
        """Refuse an address that brought too many wrong keys.

        Raises
        ------
        RateLimited
            Until the minute is over.
        """
        if not self._failed.allows(who):
            raise too_often(self._failed, f"at most {self._failed.most} wrong keys a minute")


def too_often(window: Window, rule: str) -> RateLimited:
    """The refusal of what is one too many in a window."""
    seconds = window.seconds_left
    failure = RateLimited("That is too often.", Detail("x-api-key", None, rule, f"wait {seconds} seconds"))
    failure.retry_after = seconds
    return failure
