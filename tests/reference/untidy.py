"""What simulated companies lack: offers with products and terms, own fields, and every untidiness of real ones."""

from dataclasses import replace

import numpy as np
import pandas as pd

from crm.tables import CrmTables, FieldClass

ON_OFFER = ("term_months", "ends_on", "arr_change", "partner_account_id")
OWN_FIELDS = ("seats", "pilot_ends_on", "kick_off_at", "is_strategic", "plan")


def with_offers(tables: CrmTables) -> CrmTables:
    """Line items, contract terms and own fields of every type.

    All follows from a deal's id and creation alone, so exports of different moments agree.
    """
    deals = tables.get("deals")
    number = deals["deal_id"].str.extract(r"(\d+)$")[0].astype("int64")
    born = deals["created_at"].dt.tz_localize(None).dt.floor("D").astype("datetime64[us]")
    deals = deals.assign(
        term_months=12.0 * (1 + number % 3),
        ends_on=born + pd.to_timedelta(400 + number % 5 * 30, unit="D"),
        arr_change=1000.0 * (number % 7),
        partner_account_id=pd.Series("a partner", index=deals.index, dtype="str").where(number % 4 == 0),
        seats=(number % 11).astype("float64").where(number % 6 > 0),
        pilot_ends_on=(born + pd.to_timedelta(number % 90, unit="D")).where(number % 3 > 0),
        kick_off_at=(deals["created_at"] + pd.to_timedelta(number % 50, unit="h")).where(number % 5 > 0),
        is_strategic=(number % 2 == 0).astype("boolean").mask(number % 7 == 0),
        plan=pd.Series("plan {x}", index=deals.index, dtype="str").where(number % 2 > 0),
    )
    classes = {field: FieldClass("tracked", None, 1.0) for field in (*ON_OFFER, *OWN_FIELDS)}
    tables = replace(tables, field_classes={**tables.field_classes, **classes})
    return tables.with_tables(deals=deals, line_items=_lines(tables, deals, number))


def _lines(tables: CrmTables, deals: pd.DataFrame, number: pd.Series) -> pd.DataFrame:
    """Up to two lines a deal, the second a few days after the first; one in nine without a date."""
    parts = []
    for place in (0, 1):
        rows = pd.DataFrame(
            {
                "deal_id": deals["deal_id"],
                "product": "p" + ((number + place) % 4).astype("str"),
                "quantity": 1.0 + number % 3,
                "amount": 90.0 + number % 13,
                "list_price": (100.0 - 100.0 * (number % 10 == 0)) / (1 + place),
                "added_at": (deals["created_at"] + pd.Timedelta(1 + 9 * place, "D")).mask(number % 9 == 0),
            }
        )
        parts.append(rows[number % (3 + place) < 2])
    lines = pd.concat(parts, ignore_index=True)
    lines = lines[~(lines["added_at"] > tables.as_of)]
    return lines.reindex(columns=list(tables.get("line_items"))).astype(tables.get("line_items").dtypes)


def with_untidiness(tables: CrmTables) -> CrmTables:
    """Besides: a currency without rates; deals merged, deleted, reopened, handed over, of nobody; undated contacts."""
    deals = tables.get("deals").copy()
    still_open = deals.index[~deals["is_closed"].astype(bool)]
    gone = tables.as_of - pd.Timedelta(20, "D")
    removed = [place for place in still_open if deals.loc[place, "created_at"] < gone][:3]
    deals.loc[removed[:2], "deleted_at"] = gone
    deals.loc[removed[:1], "merged_into"] = deals["deal_id"].iloc[-1]
    deals.loc[deals.index[::17], "currency"] = "XXX"
    deals.loc[deals.index[::13], ["owner_id", "account_id"]] = np.nan
    back = deals[deals["is_won"].astype(bool)].iloc[:3]
    moves = pd.DataFrame(
        {
            "deal_id": [*back["deal_id"], *deals["deal_id"].iloc[5:9]],
            "changed_at": [
                *(back["closed_at"] + pd.Timedelta(9, "D")),
                *(deals["created_at"].iloc[5:9] + pd.Timedelta(5, "D")),
            ],
            "field": [*["stage"] * 3, *["owner_id"] * 4],
            "old_value": [*back["stage"], *deals["owner_id"].iloc[[0, 1, 2, 3]]],
            "new_value": [*["Discovery"] * 3, *deals["owner_id"].iloc[5:9]],
        }
    )
    history = pd.concat([tables.get("deal_history"), moves]).sort_values("changed_at", kind="stable", ignore_index=True)
    contacts = tables.get("deal_contacts").copy()
    contacts.loc[contacts.index[::9], "added_at"] = pd.NaT
    history = history.astype(tables.get("deal_history").dtypes)
    return tables.with_tables(deals=deals, deal_history=history, deal_contacts=contacts)


def with_bulk_load(tables: CrmTables, at: pd.Timestamp, count: int = 100) -> CrmTables:
    """Besides: deals that were all created at the same instant, and one mailbox that was connected late."""
    deals = tables.get("deals")
    loaded = deals.iloc[np.arange(count) % len(deals)].assign(
        deal_id=[f"b{number}" for number in range(count)], created_at=at
    )
    closed_at = loaded["closed_at"].where(loaded["closed_at"] > at, at + pd.Timedelta(5, "D"))
    loaded["closed_at"] = closed_at.where(loaded["is_closed"].astype(bool))
    users = tables.get("users").copy()
    users.loc[users.index[1], "activity_from"] = at
    return tables.with_tables(deals=pd.concat([deals, loaded], ignore_index=True), users=users)
