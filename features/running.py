"""What a row says of the rows before it in its deal, in the order they became known: firsts and replies."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from crm.facts import microseconds

DAYS, MONEY = 2.0**24, 2.0**16
"""Parts of a day (5 ms) and of a unit of money to which what is summed is rounded."""


def summable(values: ArrayLike, parts: float) -> np.ndarray:
    """Values rounded to so many parts of one: doubles hold their sums exactly, up to half a billion days or 10**11.

    Otherwise a deal's features would differ in the last digits with what else was asked, and from engine to engine.
    """
    return np.round(np.asarray(values, dtype=float) * parts) / parts


def in_sequence(rows: pd.DataFrame, moment: str) -> pd.DataFrame:
    """Rows in the order they became known, of one instant in file order; `sequence` numbers them."""
    rows = rows.sort_values(moment, kind="stable", ignore_index=True)
    return rows.assign(sequence=np.arange(len(rows)))


def first_of_contact(rows: pd.DataFrame) -> pd.DataFrame:
    """`is_first` is 1.0 on the first row of each contact of a deal, else 0.0."""
    first = ~rows.duplicated(["deal_id", "contact_id"]) & rows["contact_id"].notna()
    return rows.assign(is_first=first.astype("float64"))


def after_inbound(activities: pd.DataFrame) -> pd.DataFrame:
    """How the two sides take turns.

    Returns
    -------
    The activities with
    unanswered : outbound rows since the buyer's last row, this one included.
    reply_days : on the buyer's rows, days from our first unanswered row to this one; missing if there is none.
    """
    inbound = (activities["direction"] == "inbound").to_numpy()
    outbound = (activities["direction"] == "outbound").to_numpy()
    deal = pd.factorize(activities["deal_id"])[0]
    answers = pd.Series(inbound.astype(np.int64)).groupby(deal).cumsum().to_numpy()
    waiting = pd.Series(outbound.astype("float64")).groupby([deal, answers]).cumsum()
    # The turn that an answer ends began after the answer before it.
    turn = [deal, answers - inbound]
    seconds = pd.Series(microseconds(activities["known_from"]) / 1e6)
    asked = seconds.where(pd.Series(outbound)).groupby(turn).transform("min")
    reply = ((seconds - asked) / 86_400).where(pd.Series(inbound))
    return activities.assign(unanswered=waiting.to_numpy(), reply_days=summable(reply, DAYS))
