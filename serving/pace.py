"""How often one may ask, and fail: counted a minute at a time, in memory, by each process that serves."""

import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from crm.errors import Detail
from serving.access import Access
from serving.errors import RateLimited


class Pace:
    """The counts of one process."""

    def __init__(self, access: Access) -> None:
        self._counts = FixedWindowRateLimiter(MemoryStorage())
        self._asked = RateLimitItemPerMinute(access.requests_per_minute) if access.requests_per_minute else None
        self._failed = RateLimitItemPerMinute(access.failures_per_minute)

    def ask(self, key_id: str) -> None:
        """Count a request of a key or person.

        Raises
        ------
        RateLimited
            It was one too many within the minute.
        """
        if self._asked is not None and not self._counts.hit(self._asked, "asked", key_id):
            raise self._too_many(
                self._asked, "asked", key_id, f"at most {self._asked.amount} requests a minute of a key"
            )

    def fail(self, who: str) -> bool:
        """Count a refusal of an address or key; whether it is not one too many."""
        return self._counts.hit(self._failed, "failed", who)

    def check_failures(self, who: str) -> None:
        """Refuse an address that brought too many wrong keys.

        Raises
        ------
        RateLimited
            Until the minute is over.
        """
        if not self._counts.test(self._failed, "failed", who):
            raise self._too_many(self._failed, "failed", who, f"at most {self._failed.amount} wrong keys a minute")

    def _too_many(self, item: RateLimitItemPerMinute, kind: str, who: str, rule: str) -> RateLimited:
        ends = self._counts.get_window_stats(item, kind, who).reset_time
        seconds = max(1, math.ceil(ends - time.time()))
        failure = RateLimited("That is too often.", Detail("x-api-key", None, rule, f"wait {seconds} seconds"))
        failure.retry_after = seconds
        return failure
