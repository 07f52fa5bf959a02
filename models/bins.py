"""The bins of days ahead in which intensities are constant, and the (snapshot, bin) rows that models are fitted on."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from crm.calendar import Calendar, Period

LONGEST_HORIZON = 365.0
CAUSES = ("won", "lost")
CLOCKS = {"days_to_close_date": -1, "deal_age_days": 1}
"""Features that move on by themselves, a day a day: what they will be in the middle of a bin is told of the bin. Trees
and straight lines find a sum of two inputs hard to learn. A negative one is told as days past, not days to. How old a
deal is decides where it has no stages to go through; where it has, its age then is unknown to the bin."""
ROUND_DAYS = np.array([1, 2, 3, 5, 7, 10, 14, 21, 30, 45, 60, 80, 100, 130, 180, 260], dtype=float)
"""Where time may be cut: that ahead of a deal, and its age."""
BIN_INPUTS = ("bin_midpoint", "bin_log_midpoint", *CLOCKS, "days_to_period_end", "periods_ahead")

_SECONDS_PER_DAY = 86400.0
_SHARE_BEFORE_FIRST_EDGE = 0.06
_SHARE_PER_BIN = 0.01
_CLOSINGS_PER_BIN = 10


@dataclass(frozen=True)
class BinGrid:
    """The bins ahead of each snapshot, cut where its period and the next one end.

    Snapshots of one as_of share their bins, so all but the row index is kept once per as_of (g of them). Every grid has
    m = bins + 2 columns: a cut that falls outside the bins is a bin of zero width at day 0.

    Attributes
    ----------
    group : (n,) which as_of each snapshot has.
    edges : (g, m+1) days from as_of.
    base : (g, m) the uncut bin each bin is part of.
    inputs : (g, m, 4) what every snapshot of the as_of shares: midpoint and log(1 + midpoint) in days, days from the
        midpoint to the end of the period it lies in (NaN after the next period), periods ahead (0, 1 or 2).
    moments : (g,) the as_of of each group, datetime64 in UTC.
    """

    group: np.ndarray
    edges: np.ndarray
    base: np.ndarray
    inputs: np.ndarray
    moments: np.ndarray

    def rows(self) -> np.ndarray:
        """(n, m+1) the edges of every snapshot."""
        return self.edges[self.group]


@dataclass(frozen=True)
class BinOutcomes:
    """What was seen of each snapshot in each bin: days at risk and the closing, all (n, m)."""

    exposure: np.ndarray
    events: dict[str, np.ndarray]


def choose_bins(days_to_end: np.ndarray) -> np.ndarray:
    """Bin edges in days that follow the data's own cycle: narrow where many deals close, up to 365 days.

    Parameters
    ----------
    days_to_end : days from each snapshot to its closing; NaN (still open) is passed over.

    Returns
    -------
    Edges from 0 to 365. A cycle of months starts with a week, a cycle of days with a day; what lies beyond the closings
    seen is one pooled last bin.

    Examples
    --------
    >>> choose_bins(np.array([]))
    array([  0., 365.])
    """
    days = np.sort(days_to_end[np.isfinite(days_to_end) & (days_to_end >= 0)])
    edges, before = [0.0], 0
    for edge in ROUND_DAYS:
        closed = int(np.searchsorted(days, edge, side="right"))
        share = _SHARE_BEFORE_FIRST_EDGE if len(edges) == 1 else _SHARE_PER_BIN
        enough = max(_CLOSINGS_PER_BIN, share * len(days))
        if closed - before >= enough and len(days) - closed >= enough:
            edges.append(float(edge))
            before = closed
    return np.array([*edges, LONGEST_HORIZON])


def edges_at(bins: np.ndarray, as_of: pd.Timestamp, period: Period, next_period: Period) -> np.ndarray:
    """The bins cut at the ends of the as_of's period and of the next: days from as_of, two more than `bins`."""
    cuts = [(end - as_of).total_seconds() / _SECONDS_PER_DAY for end in (period.end_at, next_period.end_at)]
    inside = [cut if 0 < cut < bins[-1] else 0.0 for cut in cuts]
    return np.sort(np.concatenate([bins, inside]))


def build_grid(as_of: pd.Series, calendar: Calendar, bins: np.ndarray) -> BinGrid:
    """The bins ahead of snapshots taken at the instants `as_of`."""
    group, moments = pd.factorize(as_of)
    edges = np.empty((len(moments), len(bins) + 2))
    ends = np.empty((len(moments), 2))
    for place, moment in enumerate(moments):
        period = calendar.period_of(moment)
        following = calendar.next_period(period)
        edges[place] = edges_at(bins, moment, period, following)
        ends[place] = [(end - moment).total_seconds() / _SECONDS_PER_DAY for end in (period.end_at, following.end_at)]
    midpoint = (edges[:, :-1] + edges[:, 1:]) / 2
    base = np.clip(np.searchsorted(bins, midpoint, side="right") - 1, 0, len(bins) - 2)
    ahead = (midpoint[..., None] > ends[:, None, :]).sum(axis=2)
    end = np.take_along_axis(np.column_stack([ends, np.full(len(moments), np.nan)]), ahead, axis=1)
    inputs = np.stack([midpoint, np.log1p(midpoint), end - midpoint, ahead.astype(float)], axis=2)
    return BinGrid(group, edges, base, inputs, moments.tz_convert("UTC").tz_localize(None).to_numpy())


def bin_rows(inputs: np.ndarray, clocks: np.ndarray, grid: BinGrid, chosen: np.ndarray | None = None) -> np.ndarray:
    """One row per snapshot and bin: the snapshot's inputs beside the bin's (`BIN_INPUTS`), float32.

    Parameters
    ----------
    inputs : (n, p) encoded features.
    clocks : (n, 2) what the `CLOCKS` show at as_of, from `read_clocks`.
    chosen : indices into the n * m rows; None takes all.
    """
    bins = grid.base.shape[1]
    chosen = np.arange(len(inputs) * bins) if chosen is None else chosen
    snapshot, column = np.divmod(chosen, bins)
    shared = grid.inputs[grid.group[snapshot], column]
    rows = np.empty((len(chosen), inputs.shape[1] + len(BIN_INPUTS)), dtype=np.float32)
    rows[:, : inputs.shape[1]] = inputs[snapshot]
    of_bin = rows[:, inputs.shape[1] :]
    of_bin[:, :2] = shared[:, :2]
    of_bin[:, 2:-2] = clocks[snapshot] + shared[:, :1]
    of_bin[:, -2:] = shared[:, 2:]
    return rows


def bin_outcomes(edges: np.ndarray, outcomes: pd.DataFrame) -> BinOutcomes:
    """Days at risk and closings of each snapshot by bin; nothing after the closing or the training moment.

    Parameters
    ----------
    edges : (n, m+1) days from as_of; an infinite last edge is allowed.
    outcomes : days_observed (days watched) and outcome ("won", "lost", NaN while open), one row per snapshot.
    """
    days = outcomes["days_observed"].to_numpy(dtype=float)[:, None]
    exposure = np.clip(np.minimum(days, edges[:, 1:]) - edges[:, :-1], 0.0, None)
    here = (days > edges[:, :-1]) & (days <= edges[:, 1:])
    ending = outcomes["outcome"].to_numpy(dtype=object)
    return BinOutcomes(exposure, {cause: here & (ending == cause)[:, None] for cause in CAUSES})


def read_clocks(features: pd.DataFrame) -> np.ndarray:
    """(n, 2) what the `CLOCKS` show at as_of, in days, by their signs; NaN where unknown or not among the features.

    The age of a deal is none where days_in_stage is known.
    """
    unknown = pd.Series(np.nan, index=features.index)
    shown = {name: sign * features.get(name, unknown).to_numpy(dtype=float) for name, sign in CLOCKS.items()}
    shown["deal_age_days"][features.get("days_in_stage", unknown).notna()] = np.nan
    return np.column_stack(list(shown.values()))
