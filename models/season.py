"""The season: how lively each month of the year is beside an average one."""

from dataclasses import dataclass

import numpy as np

from models.bins import BinGrid

MONTHS = 12


@dataclass(frozen=True)
class Season:
    """How many times as often as in an average month deals move on, and are won, in January, February, …

    Losses have none: a deal that nobody decides on in August is not lost in August either.
    """

    months: tuple[float, ...] = (1.0,) * MONTHS

    def of_bins(self, grid: BinGrid) -> np.ndarray:
        """(g, m) the mean over the days of each bin; 1 for a bin without any."""
        midnights = grid.moments.astype("datetime64[D]")
        since = (grid.moments - midnights) / np.timedelta64(1, "D")
        ahead = np.arange(int(grid.edges.max(initial=0.0)) + 2)
        month = (midnights[:, None] + ahead).astype("datetime64[M]").astype(int) % MONTHS
        by_day = np.array(self.months)[month]
        until = np.hstack([np.zeros((len(by_day), 1)), np.cumsum(by_day, axis=1)])
        at = grid.edges + since[:, None]
        day = at.astype(int)
        passed = np.take_along_axis(until, day, axis=1) + (at - day) * np.take_along_axis(by_day, day, axis=1)
        width = np.diff(grid.edges, axis=1)
        return np.where(width > 0, np.diff(passed, axis=1) / np.where(width > 0, width, 1.0), 1.0)
