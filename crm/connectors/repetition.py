"""Patience for client libraries that send by urllib3: what may pass is asked again after growing pauses."""

from collections.abc import Callable
from typing import Any

from urllib3.util.retry import Retry

from crm.connectors.transport import LONGEST_ASKED, LONGEST_PAUSE, TRY_AGAIN, Patience


def repeated(patience: Patience, *, noted: Callable[[], None]) -> Retry:
    """How often to ask again, and after which pauses; every request may safely arrive twice, those by POST too.

    Parameters
    ----------
    noted : called for each request that was in vain.
    """

    class Noted(Retry):
        def increment(self, *args: Any, **kwargs: Any) -> Any:
            noted()
            return super().increment(*args, **kwargs)

    return Noted(
        total=patience.tries - 1,
        status_forcelist=TRY_AGAIN,
        allowed_methods=None,
        backoff_factor=patience.pause_seconds,
        backoff_max=LONGEST_PAUSE,
        retry_after_max=int(LONGEST_ASKED),
        raise_on_status=False,
    )
