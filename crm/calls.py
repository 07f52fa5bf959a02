"""What people called for a period and what they were asked for, as known at a moment."""

import pandas as pd

from crm.calendar import Period
from crm.money import RateBook
from crm.tables import CrmTables

CALLED = ("commit", "most_likely", "best_case")


def calls_at(tables: CrmTables, moment: pd.Timestamp, period: Period, won: pd.DataFrame) -> pd.DataFrame:
    """Everybody's latest calls for a period, cumulative, in base currency.

    Calls made per category are converted: a commit then holds what the caller's subtree had won when it was submitted.

    Parameters
    ----------
    won : the period's bookings known at `moment`, as `crm.bookings.bookings` returns them.

    Returns
    -------
    Frame indexed by user_id: commit, most_likely, best_case (NaN: not called), submitted_at (the latest of the three).
    """
    calls = tables.get("forecast_calls")
    calls = calls[(calls["period_start"] == pd.Timestamp(period.start)) & (calls["submitted_at"] <= moment)]
    calls = calls[calls["category"].isin(CALLED)].sort_values("submitted_at", kind="stable")
    calls = calls.drop_duplicates(["user_id", "category"], keep="last")
    calls = calls.assign(amount_base=_in_base(tables, calls, moment)).dropna(subset=["amount_base"])
    latest = calls.pivot(index="user_id", columns="category", values="amount_base").reindex(columns=list(CALLED))
    submitted_at = calls.groupby("user_id")["submitted_at"].max()
    if tables.calendar.calls == "per_category":
        latest = _cumulated(latest, calls, won)
    return latest.astype("float64").assign(submitted_at=submitted_at)


def quotas_at(tables: CrmTables, moment: pd.Timestamp, period: Period) -> pd.Series:
    """Everybody's quota for a period by user_id, in base currency: the row valid last; an undated row always is."""
    quotas = tables.get("quotas")
    valid_from = quotas["valid_from"] if "valid_from" in quotas else pd.Series(pd.NaT, index=quotas.index)
    mine = (quotas["period_start"] == pd.Timestamp(period.start)) & ~(valid_from > moment)
    quotas = quotas.assign(valid_from=valid_from)[mine].sort_values("valid_from", kind="stable", na_position="first")
    quotas = quotas.drop_duplicates("user_id", keep="last")
    return _in_base(tables, quotas, moment).set_axis(quotas["user_id"]).dropna()


def _in_base(tables: CrmTables, rows: pd.DataFrame, moment: pd.Timestamp) -> pd.Series:
    book = RateBook.from_tables(tables)
    named = rows["currency"] if "currency" in rows else pd.Series(None, index=rows.index, dtype="str")
    return book.to_base(rows["amount"], named.fillna(book.base_currency), moment)


def _cumulated(latest: pd.DataFrame, calls: pd.DataFrame, won: pd.DataFrame) -> pd.DataFrame:
    """Cumulative calls from one amount per category: each holds the ones before it and what was won when called."""
    committed_at = calls[calls["category"] == "commit"].set_index("user_id")["submitted_at"]
    won_then = {
        user: won.loc[_is_of(won, user) & (won["won_at"] <= at), "amount_base"].sum()
        for user, at in committed_at.items()
    }
    commit = latest["commit"] + pd.Series(won_then, index=latest.index, dtype="float64")
    most_likely = commit + latest["most_likely"]
    best_case = commit + latest["most_likely"].fillna(0.0) + latest["best_case"]
    return pd.DataFrame({"commit": commit, "most_likely": most_likely, "best_case": best_case})


def _is_of(won: pd.DataFrame, user: str) -> pd.Series:
    """Whether money belongs to a user: to their subtree, or to themselves."""
    in_subtree = [user in managers for managers in won["managers"]]
    return (won["rep"] == user) | pd.Series(in_subtree, index=won.index, dtype=bool)
