"""A company small enough to check by hand, written as what an import would deliver."""

from typing import Any

import pandas as pd

from crm.calendar import Calendar
from crm.contract import DTYPES, TABLES, parse_values
from crm.history import classify_fields
from crm.tables import CrmTables

STABLE = ("owner_id", "account_id", "pipeline", "deal_type", "currency", "amount", "stage", "close_date")
EURO_QUARTERS = Calendar(base_currency="EUR", stable_fields=STABLE)
STAGES = [
    {"stage": "Open", "sort_order": 1, "is_closed": False, "is_won": False, "default_probability": 0.25},
    {"stage": "Late", "sort_order": 2, "is_closed": False, "is_won": False, "default_probability": 0.5},
    {"stage": "Won", "sort_order": 3, "is_closed": True, "is_won": True},
    {"stage": "Lost", "sort_order": 4, "is_closed": True, "is_won": False},
]
# A chief over one region with a director and two teams; the second team has no region of its own reps' telling.
USERS = [
    {"user_id": "chief", "name": "Chief"},
    {"user_id": "west-head", "name": "West head", "manager_id": "chief", "region": "West"},
    {"user_id": "m1", "name": "Manager 1", "manager_id": "west-head", "team": "T1", "region": "West"},
    {"user_id": "m2", "name": "Manager 2", "manager_id": "west-head", "team": "T2", "region": "West"},
    {"user_id": "a", "name": "Ana", "manager_id": "m1", "team": "T1", "region": "West"},
    {"user_id": "b", "name": "Ben", "manager_id": "m1", "team": "T1", "region": "West"},
    {"user_id": "c", "name": "Cleo", "manager_id": "m1", "team": "T1", "region": "West"},
    {"user_id": "d", "name": "Dara", "manager_id": "m2", "team": "T2", "region": "West"},
    {"user_id": "e", "name": "Emil", "manager_id": "east-head", "team": "T3", "region": "East"},
    {"user_id": "east-head", "name": "East head", "manager_id": "chief", "region": "East"},
]
DEAL = {"created_at": "2026-01-05", "stage": "Open", "owner_id": "a", "amount": 100, "currency": "EUR"}


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC").as_unit("us")


def frame(table: str, rows: list[dict[str, Any]], calendar: Calendar) -> pd.DataFrame:
    """Rows as an import would type them."""
    columns = {}
    for name, spec in TABLES[table].columns.items():
        text = pd.Series([None if row.get(name) is None else str(row[name]) for row in rows], dtype="str")
        columns[name] = parse_values(text, spec.kind, calendar).values.astype(DTYPES[spec.kind])
    return pd.DataFrame(columns)


def company(
    *deals: dict[str, Any],
    as_of: str = "2026-05-15",
    calendar: Calendar = EURO_QUARTERS,
    **others: list[dict[str, Any]],
) -> CrmTables:
    """Deals written as what differs from an open deal of Ana's worth 100 EUR; other tables in full."""
    rows = [{**DEAL, "deal_id": f"deal-{place}", **deal} for place, deal in enumerate(deals)]
    written = {"deals": rows, "stages": STAGES, "users": USERS, **others}
    tables = {name: frame(name, rows, calendar) for name, rows in written.items()}
    tables["deals"]["_first_seen_at"] = pd.Series(pd.NaT, index=tables["deals"].index, dtype=DTYPES["instant"])
    delivered = CrmTables(tables, calendar, at(as_of), "000001", {})
    return CrmTables(tables, calendar, at(as_of), "000001", classify_fields(delivered))


def won(closed_on: str, **deal: Any) -> dict[str, Any]:
    """A deal won at noon of a day."""
    return {"stage": "Won", "closed_at": f"{closed_on}T12:00:00Z", **deal}
