"""What people said against the model, beside what came: how often they disagreed, and how often they were closer."""

from typing import Any

import numpy as np
import pandas as pd

from crm.bookings import bookings
from crm.history import DealHistory
from crm.tables import CrmTables
from ledger.ledger import Ledger
from models.review import books_close_at, final_bookings

DISAGREED_COLUMNS = (
    *("override_id", "user_id", "submitted_at", "period_start", "deal_id", "node_type", "node_id"),
    *("value", "note", "model_seen", "model_said", "actual", "is_closer"),
)


def disagreements(
    tables: CrmTables, history: DealHistory, ledger: Ledger, known_at: pd.Timestamp, *, user_id: str | None = None
) -> pd.DataFrame:
    """Every override of one person (None: of everybody), beside what the model had published by then and what came.

    Returns
    -------
    Frame with `DISAGREED_COLUMNS`, in the order said. model_said: what the model last published before, of a deal its
    chance in the period times its amount; missing where it had published nothing. actual: what the deal or node brought
    when the books closed, missing until then. is_closer: nearer to it than the model, missing where either is missing.
    """
    said = ledger.all_overrides(user_id)
    parts = []
    for start, of_period in said.groupby("period_start", sort=False):
        period = tables.calendar.period_starting(pd.Timestamp(str(start)).date())
        closed = books_close_at(tables.calendar, period) <= known_at
        nodes = final_bookings(tables, history, period, known_at).set_index(["node_type", "node_id"])["actual"]
        won = bookings(tables, history, books_close_at(tables.calendar, period), period) if closed else None
        deals = pd.Series(dtype="float64") if won is None else won.groupby("deal_id")["amount_base"].sum()
        came = [
            np.nan
            if not closed
            else deals.get(row.deal_id, 0.0)
            if isinstance(row.deal_id, str)
            else nodes.get((row.node_type, row.node_id), 0.0)
            for row in of_period.itertuples()
        ]
        model_said = [_model_said(ledger, row) for row in of_period.itertuples()]
        parts.append(of_period.assign(actual=came, model_said=model_said))
    rows = pd.concat(parts) if parts else said.assign(actual=np.nan, model_said=np.nan)
    theirs, models = (rows["value"] - rows["actual"]).abs(), (rows["model_said"] - rows["actual"]).abs()
    closer = (theirs < models).astype("boolean").mask(theirs.isna() | models.isna())
    return rows.assign(is_closer=closer).sort_values("override_id", ignore_index=True)[list(DISAGREED_COLUMNS)]


def _model_said(ledger: Ledger, row: Any) -> float:
    start, at = pd.Timestamp(row.period_start), row.submitted_at
    if isinstance(row.deal_id, str):
        return ledger.deal_said(row.deal_id, period_start=start, at=at)
    node = ledger.node_history(row.node_type, row.node_id, basis="published", period_start=start, at=at)
    return float("nan") if node.empty else float(node["mean"].iloc[-1])
