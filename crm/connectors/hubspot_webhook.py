"""HubSpot's webhooks: whether HubSpot sent a request, and the events of ours that its notices tell of."""

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import pandas as pd

from crm.mapping import TableMapping, load_mapping
from crm.plain import to_plain
from crm.tables import CrmTables

SIGNATURE, SENT_AT = "x-hubspot-signature-v3", "x-hubspot-request-timestamp"
FRESH = pd.Timedelta(5, "min")
MAPPING = "fivetran_hubspot"
Notice = Mapping[str, Any]
"""What HubSpot tells of one change: subscriptionType, objectId, occurredAt and, of a property, its name and value."""


def is_signed(
    secret: str, *, method: str, uri: str, body: bytes, headers: Mapping[str, str], now: pd.Timestamp
) -> bool:
    """Whether HubSpot signed the request (version 3 of its signatures) within the last five minutes.

    Parameters
    ----------
    secret : the app's client secret.
    uri : as HubSpot was told it, with https and host.
    """
    signature, sent_at = headers.get(SIGNATURE, ""), headers.get(SENT_AT, "")
    if not sent_at.isascii() or not sent_at.isdigit() or len(sent_at) > 15:
        return False
    if abs(now - pd.Timestamp(int(sent_at), unit="ms", tz="UTC")) > FRESH:
        return False
    said = method.encode() + uri.encode() + body + sent_at.encode()
    expected = base64.b64encode(hmac.new(secret.encode(), said, hashlib.sha256).digest())
    return hmac.compare_digest(expected, signature.encode())


def events_of(notices: Sequence[Notice], tables: CrmTables) -> list[dict[str, Any]]:
    """The events that notices tell of: {"event_id", "table", "row"}, in their order.

    Of deals that are known: a change of a property that the connector reads, a deletion, a merge. The others, new deals
    above all, of which a notice tells too little, come with the next sync.
    """
    deals = tables.get("deals")
    ids = {each for notice in notices for each in _deals_of(notice)}
    known = {row["deal_id"]: row for row in deals[deals["deal_id"].isin(list(ids))].to_dict("records")}
    told = []
    for notice in sorted(notices, key=lambda each: int(each.get("occurredAt") or 0)):
        for table, deal_id, row in _rows_of(notice, known, tables):
            told.append({"event_id": _event_id(notice, table, deal_id), "table": table, "row": row})
    return told


def _deals_of(notice: Notice) -> list[str]:
    merged = notice.get("mergedObjectIds") or []
    return [str(each) for each in (notice.get("objectId"), *merged) if each is not None]


def _rows_of(
    notice: Notice, known: dict[str, dict[str, Any]], tables: CrmTables
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The rows of a notice with their tables and deals; what they change is noted among what is known."""
    at = pd.Timestamp(int(notice.get("occurredAt") or 0), unit="ms", tz="UTC").isoformat()
    kind, deal_id = notice.get("subscriptionType"), str(notice.get("objectId"))
    if kind == "deal.merge":
        for merged in _deals_of(notice)[1:]:
            if merged in known:
                into = str(notice.get("primaryObjectId", deal_id))
                yield "deals", merged, {**_head(known[merged]), "merged_into": into, "deleted_at": at}
    elif deal_id not in known:
        return
    elif kind == "deal.deletion":
        yield "deals", deal_id, {**_head(known[deal_id]), "deleted_at": at}
    elif kind == "deal.propertyChange":
        field = _field_of(str(notice.get("propertyName")))
        if field is None:
            return
        row, value = known[deal_id], _value_of(field, notice.get("propertyValue"), tables)
        before = to_plain(row.get(field))
        row[field] = value
        change = {"deal_id": deal_id, "changed_at": at, "field": field, "old_value": before, "new_value": value}
        yield "deals", deal_id, {**_head(row), field: value, **_closing(field, value, at, tables)}
        yield "deal_history", deal_id, change


def _head(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"deal_id": row["deal_id"], "created_at": to_plain(row["created_at"]), "stage": row["stage"]}


@cache
def _mapping() -> TableMapping:
    return load_mapping(MAPPING)


def _field_of(property_name: str) -> str | None:
    (history,) = _mapping().tables["deal_history"]
    return history.fields.get(property_name)


def _value_of(field: str, value: object, tables: CrmTables) -> str | None:
    """A property's value as our field has it: close dates are instants in HubSpot, local days here."""
    text = str(value or "")
    if field == "close_date" and text:
        at = pd.Timestamp(int(text), unit="ms", tz="UTC") if text.isdigit() else pd.Timestamp(text)
        at = at.tz_localize("UTC") if at.tzinfo is None else at
        return f"{at.tz_convert(tables.calendar.time_zone):%Y-%m-%d}"
    if field == "forecast_category":
        (rule,) = _mapping().tables["deals"][0].columns[field]
        return rule.values.get(text)
    return text or None


def _closing(field: str, value: str | None, at: str, tables: CrmTables) -> dict[str, Any]:
    """With a stage comes whether the deal closed, and when."""
    if field != "stage":
        return {}
    stages = tables.get("stages")
    closed = stages.loc[stages["stage"] == value, "is_closed"]
    return {"closed_at": at if len(closed) and bool(closed.iloc[0]) else None}


def _event_id(notice: Notice, table: str, deal_id: str) -> str:
    """HubSpot sends a notice again if it got no answer, and its eventId alone is not unique."""
    names = ("portalId", "subscriptionId", "eventId", "occurredAt", "propertyName")
    return ":".join(["hubspot", *(str(notice.get(name, "")) for name in names), table, deal_id])
