"""What is missing to a quota, told in deals: "needs 4 of these 9"."""

from typing import Any

import numpy as np
import pandas as pd

from crm.hierarchy import COMPANY
from models.forecaster import DrawnForecast

GAP_COLUMNS = (
    *("node_type", "node_id", "node_name", "quota", "won_to_date", "not_yet_created", "probability_of_quota"),
    *("gap", "needed", "likely", "likely_amount", "deals"),
)
NAMED_DEALS = 25


def quota_gaps(
    drawn: DrawnForecast, nodes: pd.DataFrame, expected_on: pd.Series, *, named: int = NAMED_DEALS
) -> pd.DataFrame:
    """How many of its open deals each node needs to win to reach its quota, and which.

    A deal is likely to close in the period if the day the model expects it to be won on lies in the period: that is, if
    it is won, then rather by the period's end than later. The largest amounts first give the smallest number.

    Parameters
    ----------
    nodes : forecast rows, or `DrawnForecast.told`; those without a quota have no gap.
    expected_on : by deal_id, the day each open deal is expected to be won on.
    named : at most so many deals are named (all that are needed, in any case).

    Returns
    -------
    Frame with `GAP_COLUMNS`, a row per node with a quota. gap: money still missing, 0 once the quota is reached;
    needed: the smallest number of the likely deals whose expected amounts reach it (0: reached; missing: all of them
    do not); likely, likely_amount: how many those are, and their sum; deals: list of {"deal_id", "expected_amount",
    "period_win_probability"}, the largest amount first.
    """
    end = pd.Timestamp(drawn.period.end)
    deals = drawn.parts.deals
    due = deals["deal_id"].map(expected_on)
    likely = deals[(due < end).to_numpy() & (deals["win_probability"] > 0).to_numpy()]
    likely = likely.sort_values(["amount", "deal_id"], ascending=[False, True], ignore_index=True)
    asked = nodes[nodes["quota"].notna()]
    rows = []
    for node in asked.to_dict("records"):
        mine = likely[_belongs(likely, node["node_type"], node["node_id"])]
        gap = max(float(node["quota"] - node["won_to_date"]), 0.0)
        needed = _smallest_number(mine["amount"].to_numpy(), gap)
        shown = mine.head(max(named, 0 if needed is None else needed))
        rows.append(
            {
                **{name: node[name] for name in GAP_COLUMNS[:7]},
                "gap": gap,
                "needed": needed,
                "likely": len(mine),
                "likely_amount": float(mine["amount"].sum()),
                "deals": _named(shown),
            }
        )
    return pd.DataFrame(rows, columns=list(GAP_COLUMNS)).astype({"needed": "Int64", "deals": object})


def _belongs(deals: pd.DataFrame, node_type: str, node_id: str) -> np.ndarray:
    """Whether each deal's money counts at a node."""
    if node_type == COMPANY:
        return np.ones(len(deals), dtype=bool)
    if node_type == "manager":
        return np.array([node_id in managers for managers in deals["managers"]], dtype=bool)
    return (deals[node_type] == node_id).to_numpy()


def _smallest_number(amounts: np.ndarray, gap: float) -> int | None:
    """Of amounts that fall, how many reach the gap; None if even all do not."""
    if gap <= 0:
        return 0
    reached = np.flatnonzero(np.cumsum(amounts) >= gap)
    return int(reached[0]) + 1 if len(reached) else None


def _named(deals: pd.DataFrame) -> list[dict[str, Any]]:
    columns = zip(deals["deal_id"], deals["amount"], deals["win_probability"], strict=True)
    return [
        {"deal_id": deal_id, "expected_amount": float(amount), "period_win_probability": float(chance)}
        for deal_id, amount, chance in columns
    ]
