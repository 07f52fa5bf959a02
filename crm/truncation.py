"""The export as it would have stood at a past moment: the yardstick that no later knowledge was read."""

import pandas as pd

from crm.facts import deal_fields
from crm.history import PLACE_FIELDS, DealHistory, build_history, open_deals, owner_places, values_at
from crm.lives import pipelines_of
from crm.tables import CrmTables

DATED_ROWS = {
    "deal_history": "changed_at",
    "user_history": "changed_at",
    "forecast_calls": "submitted_at",
    "leads": "created_at",
}
"""Tables whose rows exist from the named instant on."""

LATER_INSTANTS = {"leads": ("first_response_at", "converted_at"), "contracts": ("cancelled_at",)}
"""Instants that were still empty before they came."""


def truncate_export(tables: CrmTables, moment: pd.Timestamp, history: DealHistory | None = None) -> CrmTables:
    """The tables as an export taken at `moment` would have held them.

    The field classes come along: they are the one thing that is read from after the moment. Deals that are closed
    although nobody knows since when are left out; accounts and users stay as they stand, users' places as they were.

    Parameters
    ----------
    history : the dated facts of `tables`, if they are at hand already.
    """
    history = build_history(tables) if history is None else history
    cut = {name: _rows_until(tables, name, moment) for name in tables.tables}
    cut["deals"] = _deals_at(tables, history, moment)
    if "users" in cut:
        cut["users"] = _users_at(tables, history, moment)
    return CrmTables(
        tables=cut,
        calendar=tables.calendar,
        as_of=moment,
        data_version=tables.data_version,
        field_classes=tables.field_classes,
        first_import_at=tables.first_import_at,
    )


def _rows_until(tables: CrmTables, name: str, moment: pd.Timestamp) -> pd.DataFrame:
    rows = tables.tables[name]
    today = pd.Timestamp(tables.calendar.local_day(moment))
    if name in DATED_ROWS:
        rows = rows[rows[DATED_ROWS[name]] <= moment]
    if name == "activities":
        logged_late = rows["logged_at"] > moment if "logged_at" in rows else False
        rows = rows[~((rows["occurred_at"] > moment) | logged_late)]
    for known_from in ("added_at", "valid_from"):
        if known_from in rows:
            limit = moment if isinstance(rows[known_from].dtype, pd.DatetimeTZDtype) else today
            rows = rows[~(rows[known_from] > limit)]
    for column in LATER_INSTANTS.get(name, ()):
        if column in rows:
            rows = rows.assign(**{column: rows[column].where(rows[column] <= moment)})
    return rows.reset_index(drop=True)


def _deals_at(tables: CrmTables, history: DealHistory, moment: pd.Timestamp) -> pd.DataFrame:
    deals = tables.get("deals")
    exists = (deals["created_at"] <= moment) & ~deals["deal_id"].isin(history.left_out)
    deals = deals[exists].reset_index(drop=True)
    spine = pd.DataFrame({"deal_id": deals["deal_id"], "as_of": moment})
    fields = deal_fields(deals)
    then = values_at(history, spine, fields)
    deals = deals.assign(**{field: then[field].astype(deals[field].dtype) for field in fields})
    closing = _last_closing(history, moment).reindex(deals["deal_id"]).reset_index(drop=True)
    # A deal removed while open may have been found in a closed stage later: that was not known to close it.
    pipelines = pipelines_of(deals)
    closed_stage = history.stage_book.look_up(deals["stage"], pipelines, "is_closed") == 1
    deals["stage"] = deals["stage"].mask(closed_stage & closing["outcome"].isna().to_numpy())
    columns = {
        "is_closed": closing["outcome"].notna().astype("boolean"),
        "is_won": closing["outcome"].eq("won").astype("boolean"),
        "closed_at": closing["at"],
        "booked_on": closing["booked_on"],
    }
    if "deleted_at" in deals:
        columns["deleted_at"] = deals["deleted_at"].where(deals["deleted_at"] <= moment)
    if "merged_into" in deals:
        shown = deals["deleted_at"] if "deleted_at" in deals else pd.Series(pd.NaT, index=deals.index)
        shown = shown.fillna(deals.get("_first_seen_at", pd.NaT))
        shown = shown.fillna(tables.first_import_at or tables.as_of)
        columns["merged_into"] = deals["merged_into"].where(shown <= moment)
    kept = {name: values for name, values in columns.items() if name in deals or name in ("closed_at", "booked_on")}
    return deals.assign(**kept)


def _last_closing(history: DealHistory, moment: pd.Timestamp) -> pd.DataFrame:
    """How and when each deal that is not open at the moment was closed last: at, outcome, booked_on by deal_id."""
    endings = history.endings
    endings = endings[(endings["at"] <= moment) & ~endings["deal_id"].isin(open_deals(history, moment)["deal_id"])]
    closings = endings[endings["outcome"].isin(["won", "lost"])]
    return closings.drop_duplicates("deal_id", keep="last").set_index("deal_id")


def _users_at(tables: CrmTables, history: DealHistory, moment: pd.Timestamp) -> pd.DataFrame:
    users = tables.get("users")
    places = owner_places(history, users["user_id"], moment)
    return users.assign(**{field: places[field] for field in PLACE_FIELDS if field in users})
