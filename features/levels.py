"""What owners, accounts, stages … have from all their deals at a moment, kept while the facts stand."""

from collections.abc import Callable, Mapping, Sequence
from threading import Lock

import pandas as pd
import pyarrow as pa

MOMENTS_KEPT = 8

Levels = Mapping[str, pa.Table]
"""By party, the result of its statement (`features.compiler.compile_level`)."""


class KeptLevels:
    """The levels of one data version, of the moments asked for last: they cost what the company costs, not a deal."""

    def __init__(self) -> None:
        self._kept: dict[tuple[pd.Timestamp, tuple[str, ...] | None], Levels] = {}
        self._lock = Lock()

    def of(self, moment: pd.Timestamp, names: Sequence[str] | None, work_out: Callable[[], Levels]) -> Levels:
        """The levels of these features (None: of all) at a moment, worked out if they are not there."""
        asked = (moment, None if names is None else tuple(names))
        with self._lock:
            if asked not in self._kept:
                self._kept[asked] = work_out()
                while len(self._kept) > MOMENTS_KEPT:
                    del self._kept[next(iter(self._kept))]
            return self._kept[asked]
