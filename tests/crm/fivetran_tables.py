"""The invented company as Fivetran lands it in a warehouse, and a warehouse that holds it."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import sqlalchemy as sa
from invented_company import CATEGORY, STAGES, Company
from salesforce_stand_in import deal_id, key


def as_fivetran_lands_it(company: Company, *, in_one_table: bool = False) -> dict[str, pd.DataFrame]:
    """The company as Fivetran's tables of Salesforce: typed columns, history mode."""
    flags = {name: (closed, won) for name, closed, won in STAGES}
    present, past, tasks = [], [], []
    for deal in company.deals:
        seen = deal.modified_at + timedelta(minutes=5)
        ends = [state.at for state in deal.states[1:]] + [datetime(9999, 12, 31, tzinfo=UTC)]
        for state, end in zip(deal.states, ends, strict=True):
            row = {
                "id": deal_id(deal),
                "name": f"Deal {deal.number}",
                "stage_name": state.stage,
                "amount": float(state.amount),
                "close_date": pd.Timestamp(state.close_on),
                "forecast_category": CATEGORY[state.stage],
                "owner_id": key("005", deal.owner),
                "created_date": deal.created_at,
                "is_closed": flags[state.stage][0],
                "is_won": flags[state.stage][1],
                "is_deleted": deal.deleted_at is not None,
                "_fivetran_start": state.at,
                "_fivetran_end": str(end.replace(tzinfo=None)),
                "_fivetran_active": state is deal.now,
                "_fivetran_synced": seen,
            }
            past.append(row)
            present += [row] if state is deal.now else []
    for call in company.calls:
        tasks.append(
            {"id": key("00T", call.number), "what_id": key("006", call.deal), "owner_id": key("005", call.owner)}
            | {"completed_date_time": call.at, "created_date": call.at, "task_subtype": "Call", "is_closed": True}
            | {"is_deleted": False, "_fivetran_synced": call.at}
        )
    stages = [
        {"master_label": name, "sort_order": place, "is_closed": closed, "is_won": won, "_fivetran_active": True}
        for place, (name, closed, won) in enumerate(STAGES)
    ]
    tables = {"opportunity": past if in_one_table else present, "task": tasks, "opportunity_stage": stages}
    tables |= {} if in_one_table else {"opportunity_history": past}
    frames = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    for frame in frames.values():
        for name in frame.select_dtypes("datetimetz"):
            frame[name] = frame[name].dt.tz_convert("UTC").dt.tz_localize(None)
    return frames


def load(warehouse: sa.Engine, tables: dict[str, pd.DataFrame]) -> None:
    with warehouse.begin() as connection:
        for name, frame in tables.items():
            frame.to_sql(name, connection, index=False, if_exists="replace")
