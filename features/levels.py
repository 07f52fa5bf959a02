"""What owners, accounts, stages … have from all their deals at a moment, kept while the facts stand."""

from collections.abc import Callable, Mapping, Sequence
from threading import Lock

import pyarrow as pa

MOMENTS_KEPT = 8

Levels = Mapping[str, pa.Table]
"""By party, the result of `features.compiler.compile_level`."""


class KeptLevels:
    """The levels of one data version, of the moments asked for last: they cost what the company costs, not a deal."""

    def __init__(self) -> None:
        self._kept: dict[tuple[float, tuple[str, ...]], Levels] = {}
        self._lock = Lock()

    def of(self, moment: float, names: Sequence[str], work_out: Callable[[], Levels]) -> Levels:
        """The levels of these features at a moment (epoch seconds), worked out if they are not there."""
        asked = (moment, tuple(names))
        with self._lock:
            if asked not in self._kept:
                self._kept[asked] = work_out()
                while len(self._kept) > MOMENTS_KEPT:
                    del self._kept[next(iter(self._kept))]
            return self._kept[asked]
