"""What became of each snapshot: the first closing after its as-of moment, as far as it is known by a later moment."""

import numpy as np
import pandas as pd

from crm.history import DealHistory

SECONDS_PER_DAY = 86400.0


def label_outcomes(history: DealHistory, spine: pd.DataFrame, known_at: pd.Timestamp) -> pd.DataFrame:
    """How long each snapshot was watched, and how that ended.

    Parameters
    ----------
    spine : deal_id, as_of: open deals at moments not after `known_at`.
    known_at : what is known by then counts (a closing at that very instant included), nothing later.

    Returns
    -------
    Frame aligned with `spine`:
    days_observed : days from as_of to the end of the deal's spell, or to `known_at` if that comes first.
    outcome : "won" or "lost" (deleted counts as lost); NaN while open at `known_at`, and for a deal merged away,
        which is watched until it was merged.
    """
    spell = _spells_of(history, spine)
    ended = spell["ended_at"].notna() & (spell["ended_at"] <= known_at)
    until = spell["ended_at"].where(ended, known_at)
    days = (until - spine["as_of"].reset_index(drop=True)).dt.total_seconds() / SECONDS_PER_DAY
    outcome = spell["outcome"].replace({"deleted": "lost"})
    known = ended & outcome.isin(["won", "lost"])
    return pd.DataFrame(
        {"days_observed": days.to_numpy(), "outcome": outcome.where(known).to_numpy()}, index=spine.index
    ).astype({"outcome": "str"})


def won_in_period(history: DealHistory, spine: pd.DataFrame, period_end_at: pd.Series) -> pd.Series:
    """Whether each snapshot's deal was won before its period ended: 1.0 or 0.0, NaN if it was merged away before.

    A deal still open at `period_end_at` (instants aligned with `spine`, exclusive ends) was not won in the period,
    whatever came later. Only meaningful for periods that had ended at the moment the history was known.
    """
    spell = _spells_of(history, spine)
    ended_inside = spell["ended_at"] < period_end_at.reset_index(drop=True)
    won = ended_inside & (spell["outcome"] == "won")
    merged = ended_inside & (spell["outcome"] == "merged")
    return won.astype("float64").mask(merged).set_axis(spine.index)


def won_within(history: DealHistory, spine: pd.DataFrame, days: float) -> pd.Series:
    """Whether each snapshot's deal was won within so many days of its as_of: 1.0 or 0.0, NaN if merged away before."""
    return won_in_period(history, spine, spine["as_of"] + pd.Timedelta(days=days).as_unit("us"))


def _spells_of(history: DealHistory, spine: pd.DataFrame) -> pd.DataFrame:
    """The open spell each snapshot lies in: ended_at and outcome, in the order of the spine."""
    wanted = spine[["deal_id", "as_of"]].reset_index(drop=True).assign(row=np.arange(len(spine)))
    spells = history.spells[["deal_id", "opened_at", "ended_at", "outcome"]].sort_values("opened_at", kind="stable")
    found = pd.merge_asof(
        wanted.sort_values("as_of", kind="stable"), spells, left_on="as_of", right_on="opened_at", by="deal_id"
    )
    found = found.sort_values("row", kind="stable").reset_index(drop=True)
    outside = found["opened_at"].isna() | (found["ended_at"] <= found["as_of"])
    if outside.any():
        first = found.loc[outside].iloc[0]
        raise ValueError(f"deal {first['deal_id']} was not open at {first['as_of']}: it cannot be a snapshot")
    return found
