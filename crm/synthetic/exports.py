"""What the CRM delivers at a moment: the contract's tables, as this company keeps them.

Every row has the instant it became known; an export holds the rows known by its moment, and the values the CRM
showed then. So two exports agree on everything before the earlier one, but for what the CRM itself overwrites, and a
migration falsifies.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from crm.contract import DTYPES, TABLES
from crm.history import classify_fields
from crm.synthetic import deal_tables, people_tables
from crm.synthetic.delivery import Delivery
from crm.synthetic.simulation import CompanyState
from crm.tables import CrmTables

_TABLES = {
    "deals": deal_tables.deals,
    "deal_history": deal_tables.deal_history,
    "activities": deal_tables.activities,
    "accounts": deal_tables.accounts,
    "deal_contacts": deal_tables.deal_contacts,
    "users": people_tables.users,
    "user_history": people_tables.user_history,
    "stages": people_tables.stages,
    "forecast_calls": people_tables.forecast_calls,
    "quotas": people_tables.quotas,
    "exchange_rates": people_tables.exchange_rates,
}


def export(state: CompanyState, as_of: pd.Timestamp | None = None) -> CrmTables:
    """All tables as delivered at `as_of` (UTC; default: the midnight the state has reached).

    Raises
    ------
    ValueError
        If `as_of` lies beyond what was simulated, or before the first deal.
    """
    reached = state.company.calendar.midnight(state.on)
    moment = reached if as_of is None else as_of.tz_convert("UTC").as_unit("us")
    if moment > reached:
        raise ValueError(f"The company is simulated until {reached}; it cannot be exported as of {moment}.")
    delivery = Delivery(state, moment)
    tables = {name: _typed(name, build(delivery)) for name, build in _TABLES.items()}
    tables["deals"]["_first_seen_at"] = pd.Series(pd.NaT, index=tables["deals"].index, dtype=DTYPES["instant"])
    tables["deal_history"]["_sequence"] = np.arange(len(tables["deal_history"]), dtype=float)
    delivered = CrmTables(tables, state.company.calendar, moment, f"synthetic-{moment:%Y%m%dT%H%M%S}", {})
    return replace(delivered, field_classes=classify_fields(delivered))


def _typed(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the contract's columns first, all in the contract's dtypes; custom fields are text."""
    frame = frame.reset_index(drop=True)
    declared = {name: DTYPES[column.kind] for name, column in TABLES[table].columns.items()}
    dtypes = declared | {name: "str" for name in frame.columns if name not in declared}
    absent = pd.Series(None, index=frame.index, dtype=object)
    return pd.DataFrame({name: frame.get(name, absent).astype(dtype) for name, dtype in dtypes.items()})
