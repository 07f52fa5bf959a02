"""When snapshots are taken, and the past moments at which a model is fitted to be judged on what came after."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from crm.calendar import Calendar, Period
from crm.history import HasSpells
from training.labels import SECONDS_PER_DAY

MAX_SNAPSHOTS = 80_000
LOOKBACK_DAYS = 5 * 365
"""Snapshots further back than this are not taken: that was another company."""
RECENT_DAYS = 365
"""Where snapshots must be thinned, those of the last year are thinned last."""
FOLDS = 4
JUDGED_PERIODS = 6


@dataclass(frozen=True)
class Fold:
    """A past moment at which a model is fitted, and the snapshots `[fitted_at, judged_until)` it is judged on."""

    fitted_at: pd.Timestamp
    judged_until: pd.Timestamp


def days_between_snapshots(history: HasSpells, known_at: pd.Timestamp) -> int:
    """How often snapshots are taken: weekly; every second day or daily where deals do not live for weeks.

    The median length of the closed deals that lived for at least a day (others hardly meet a snapshot) decides: up to
    a week gives daily snapshots, up to five weeks one every second day.
    """
    spells = history.spells
    closed = spells.loc[spells["ended_at"] <= known_at]
    days = (closed["ended_at"] - closed["opened_at"]).dt.total_seconds() / SECONDS_PER_DAY
    median = days[days >= 1].median()
    if median <= 7:
        return 1
    return 2 if median <= 35 else 7


def snapshot_moments(
    history: HasSpells,
    calendar: Calendar,
    known_at: pd.Timestamp,
    *,
    most: int = MAX_SNAPSHOTS,
    days: int | None = None,
) -> list[pd.Timestamp]:
    """The as-of moments before `known_at` at which training looks at the open deals, oldest first.

    At most about `most` snapshots: where there would be more, whole moments are left out, those more than a year
    back first, evenly, counted backwards from the latest so that nothing depends on chance.

    Parameters
    ----------
    days : days from one moment to the next; default as `days_between_snapshots` says.
    """
    opened = history.spells["opened_at"].loc[lambda at: at < known_at]
    if opened.empty:
        return []
    first = max(opened.min(), known_at - pd.Timedelta(days=LOOKBACK_DAYS))
    moments = calendar.moments(first, known_at, days or days_between_snapshots(history, known_at))
    latest_first = [moment for moment in reversed(moments) if moment < known_at]
    snapshots = _open_deals_at(history, latest_first)
    recent = np.array([moment >= known_at - pd.Timedelta(days=RECENT_DAYS) for moment in latest_first], dtype=bool)
    place = np.arange(len(latest_first))
    for stride in range(1, len(latest_first) + 1):
        # Beyond every eighth of the older ones, the last year is thinned as well.
        kept = place % np.where(recent, max(1, stride // 8), stride) == 0
        if snapshots[kept].sum() <= most:
            break
    else:
        kept = place == 0
    return [moment for moment, keep in zip(reversed(latest_first), reversed(kept), strict=True) if keep]


def walk_forward_folds(calendar: Calendar, moments: list[pd.Timestamp], known_at: pd.Timestamp) -> list[Fold]:
    """The past fits, oldest first: each is judged on the snapshots up to the next, the last on all up to `known_at`.

    Judged are the last periods that had ended at `known_at`, at most six and at most two thirds of those with
    snapshots, so that the first fit has something to learn from. From three judged periods on, fits lie at period
    starts; one or two periods are cut into four stretches. No folds before a second period has ended.
    """
    if not moments:
        return []
    ended = [period for period in calendar.periods_between(moments[0], known_at) if period.end_at <= known_at]
    judged = ended[-min(JUDGED_PERIODS, max(1, 2 * len(ended) // 3)) :]
    if len(ended) < 2:
        return []
    starts = _fold_starts(judged, moments)
    ends = [*starts[1:], known_at]
    return [Fold(start, end) for start, end in zip(starts, ends, strict=True)]


def _fold_starts(judged: list[Period], moments: list[pd.Timestamp]) -> list[pd.Timestamp]:
    if len(judged) >= 3:
        # Of more periods than folds the older share a fold: what is nearest is judged most closely.
        groups = np.array_split(np.arange(len(judged)), min(FOLDS, len(judged)))
        return [judged[group[0]].start_at for group in groups]
    inside = [moment for moment in moments if judged[0].start_at <= moment < judged[-1].end_at]
    stretches = [group for group in np.array_split(np.arange(len(inside)), FOLDS) if len(group)]
    return [inside[group[0]] for group in stretches]


def _open_deals_at(history: HasSpells, moments: list[pd.Timestamp]) -> np.ndarray:
    """How many deals were open at each moment."""
    opened = np.sort(history.spells["opened_at"].to_numpy())
    ended = np.sort(history.spells["ended_at"].dropna().to_numpy())
    at = pd.Series(moments, dtype=history.spells["opened_at"].dtype).to_numpy()
    return np.searchsorted(opened, at, side="right") - np.searchsorted(ended, at, side="right")
