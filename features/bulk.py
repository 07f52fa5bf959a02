"""Deals that were brought from elsewhere all at once: when they really began is unknown."""

import pandas as pd

BULK_DEALS = 100
"""So many deals created at the very same instant were brought from elsewhere: their created_at is not their own."""


def bulk_loaded(deals: pd.DataFrame, time_zone: str) -> pd.Index:
    """Ids of the deals that many others share their created_at with, to the instant (a midnight is a mere day)."""
    seen = deals["_first_seen_at"] if "_first_seen_at" in deals else pd.Series(pd.NaT, index=deals.index)
    together = deals.groupby([deals["created_at"], seen], dropna=False)["deal_id"].transform("size")
    local = deals["created_at"].dt.tz_convert(time_zone)
    bulk = (together >= BULK_DEALS) & (local != local.dt.normalize())
    return pd.Index(deals.loc[bulk, "deal_id"])


def began_unseen(spells: pd.DataFrame, bulk: pd.Index) -> pd.Series:
    """Whether a spell began before anybody's knowledge: the first one of a deal that was loaded in bulk."""
    return ~spells.duplicated("deal_id") & spells["deal_id"].isin(bulk)
