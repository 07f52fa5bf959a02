"""Small CRMs written down as literals: what a test states is all there is, the rest is empty or plain."""

from collections.abc import Sequence

import pandas as pd

from crm.calendar import Calendar
from crm.contract import DTYPES, TABLES, empty_frame
from crm.history import build_history
from crm.tables import CrmTables, FieldClass
from features.build import build_features

Row = dict[str, object]
STAGES = [("Qualify", 1, False, False), ("Offer", 2, False, False), ("Won", 3, True, True), ("Lost", 4, True, False)]


def at(text: str) -> pd.Timestamp:
    """An instant, UTC."""
    return pd.Timestamp(text, tz="UTC").as_unit("us")


def frame(table: str, rows: Sequence[Row]) -> pd.DataFrame:
    """Rows of a contract table in the contract's types; columns not given are empty."""
    columns = TABLES[table].columns
    frame = pd.DataFrame(list(rows), columns=list(columns)) if rows else empty_frame(table)
    for name, column in columns.items():
        if column.kind == "instant":
            frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601")
        elif column.kind == "date":
            frame[name] = pd.to_datetime(frame[name])
    return frame.astype({name: DTYPES[column.kind] for name, column in columns.items()})


def crm(
    deals: Sequence[Row],
    *,
    as_of: str = "2026-12-31",
    tracked: Sequence[str] = (),
    time_zone: str = "UTC",
    recorded_since: str | None = "2025-12-01",
    **others: Sequence[Row],
) -> CrmTables:
    """A CRM of the given rows; `tracked` fields may be read backwards, only tables that are given are there.

    Of each table of events that is given, a deal of nobody has the first rows, at `recorded_since`: what happened later
    was recorded.
    """
    if recorded_since is not None:
        deals = [{"deal_id": "d0", "created_at": recorded_since, "stage": "Qualify"}, *deals]
        others = {name: [*first_rows(name, recorded_since), *rows] for name, rows in others.items()}
    meaning = [dict(zip(("stage", "sort_order", "is_closed", "is_won"), stage, strict=True)) for stage in STAGES]
    given = {"deals": deals, "stages": meaning, **others}
    tables = {name: frame(name, rows) for name, rows in given.items()}
    tables["deals"]["stage"] = tables["deals"]["stage"].fillna("Qualify")
    tables["deals"]["_first_seen_at"] = pd.Series(pd.NaT, index=tables["deals"].index, dtype=DTYPES["instant"])
    classes = {
        field: FieldClass("tracked" if field in tracked else "untracked", None, 1.0)
        for field in TABLES["deals"].columns
        if field not in ("deal_id", "created_at")
    }
    calendar = Calendar(base_currency="EUR", time_zone=time_zone)
    return CrmTables(tables, calendar, at(as_of), "000001", classes)


def features_of(tables: CrmTables, *asked: tuple[str, str], names: Sequence[str] | None = None) -> pd.DataFrame:
    """Features for (deal_id, moment) pairs."""
    spine = pd.DataFrame({"deal_id": [d for d, _ in asked], "as_of": [at(moment) for _, moment in asked]})
    spine = spine.astype({"deal_id": "str", "as_of": "datetime64[us, UTC]"})
    return build_features(tables, build_history(tables), spine, names=names)


def feature_of(tables: CrmTables, name: str, moment: str, deal_id: str = "d1") -> float | str:
    """One feature of one deal at one moment."""
    return features_of(tables, (deal_id, moment), names=[name])[name].iloc[0]


def first_rows(table: str, since: str) -> list[Row]:
    """One row of every kind, of a deal of nobody."""
    if table == "deal_history":
        fields = ("stage", "close_date", "amount", "owner_id", "forecast_category")
        return [change("d0", since, field, "", None) for field in fields]
    if table == "activities":
        kinds = [(kind, way) for kind in ("email", "call", "meeting") for way in ("inbound", "outbound")]
        everything = {"contact_id": "c0", "duration_minutes": 1.0}
        return [activity(since, deal_id="d0", type=kind, direction=way, **everything) for kind, way in kinds]
    row = {"deal_id": "d0", "contact_id": "c0", "product": "p0", "role": "user", "added_at": since}
    return [row] if table in ("deal_contacts", "line_items") else []


def change(deal_id: str, changed_at: str, field: str, old: str | None, new: str | None) -> Row:
    """A row of deal_history."""
    return {"deal_id": deal_id, "changed_at": changed_at, "field": field, "old_value": old, "new_value": new}


def activity(occurred_at: str, logged_at: str | None = None, **more: object) -> Row:
    """An activity of deal d1."""
    return {
        "activity_id": f"{occurred_at} {more}",
        "deal_id": "d1",
        "occurred_at": occurred_at,
        "logged_at": logged_at,
        **more,
    }
