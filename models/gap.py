"""What is missing to a quota, told in deals: "needs 4 of these 9"."""

import numpy as np
import pandas as pd

from crm.hierarchy import nodes_of_place
from models.forecast_parts import PLACE
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
    rows_of, amounts = _rows_by_node(likely), likely["amount"].to_numpy()
    ids, chances = likely["deal_id"].tolist(), likely["win_probability"].tolist()
    asked = nodes[nodes["quota"].notna()]
    rows = []
    for node in asked.to_dict("records"):
        mine = rows_of.get((node["node_type"], node["node_id"]), [])
        gap = max(float(node["quota"] - node["won_to_date"]), 0.0)
        needed = _smallest_number(amounts[mine], gap)
        shown = mine[: max(named, 0 if needed is None else needed)]
        rows.append(
            {
                **{name: node[name] for name in GAP_COLUMNS[:7]},
                "gap": gap,
                "needed": needed,
                "likely": len(mine),
                "likely_amount": float(amounts[mine].sum()),
                "deals": [
                    {
                        "deal_id": ids[row],
                        "expected_amount": float(amounts[row]),
                        "period_win_probability": chances[row],
                    }
                    for row in shown
                ],
            }
        )
    return pd.DataFrame(rows, columns=list(GAP_COLUMNS)).astype({"needed": "Int64", "deals": object})


def _rows_by_node(deals: pd.DataFrame) -> dict[tuple[str, str], list[int]]:
    """The rows of the deals whose money counts at each node, in their order."""
    found: dict[tuple[str, str], list[int]] = {}
    for row, deal in enumerate(deals[PLACE].to_dict("records")):
        for node in nodes_of_place(deal):
            found.setdefault(node, []).append(row)
    return found


def _smallest_number(amounts: np.ndarray, gap: float) -> int | None:
    """Of amounts that fall, how many reach the gap; None if even all do not."""
    if gap <= 0:
        return 0
    reached = np.flatnonzero(np.cumsum(amounts) >= gap)
    return int(reached[0]) + 1 if len(reached) else None
