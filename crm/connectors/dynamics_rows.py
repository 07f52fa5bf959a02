"""Rows of the contract's tables made of Dynamics' own; what a deal shows is made of several of its columns."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from crm.connectors.base import Row

Record = Mapping[str, Any]

OPEN, WON, LOST = "Open", "Won", "Lost"
"""Stages that Dynamics keeps apart from the others: an opportunity without one, and the two ways to close."""

STATES = {1: WON, 2: LOST}
CATEGORIES = {
    100000001: "pipeline",
    100000002: "best_case",
    100000003: "commit",
    100000004: "omitted",
    100000005: "closed",
    100000006: "omitted",
}
LOSSES = {4: "canceled", 5: "out-sold"}
QUARTERS = (1, 2, 3, 4)
"""Goals of fiscal quarters, among those of months and years."""

PLAIN = {
    "name": "name",
    "owner_id": "_ownerid_value",
    "account_id": "_parentaccountid_value",
    "close_date": "estimatedclosedate",
}
"""Columns of deals that are one of Dynamics' as it stands."""

SHOWN = (
    *PLAIN.values(),
    *("statecode", "estimatedvalue", "actualvalue", "msdyn_forecastcategory", "_transactioncurrencyid_value"),
)
"""What is read of an opportunity for the fields that have a history; its stage and custom columns come on top."""

ALWAYS = ("opportunityid", "createdon", "modifiedon", "actualclosedate", "statuscode", *SHOWN)
CONTACT = "_parentcontactid_value"


@dataclass(frozen=True)
class Words:
    """How an environment says things.

    Attributes
    ----------
    stage_column : of opportunities, whose value is the stage while they are open.
    custom : columns of deals to be brought along, as the Web API names them, by name.
    currencies : ISO codes by id.
    audited : the columns of opportunities of which a history is kept, as the Web API names them.
    """

    stage_column: str
    custom: Mapping[str, str] = field(default_factory=dict)
    currencies: Mapping[str, str] = field(default_factory=dict)
    audited: frozenset[str] = frozenset()

    @property
    def columns(self) -> list[str]:
        """Every column of opportunities that is read."""
        return list(dict.fromkeys([*ALWAYS, self.stage_column, *self.custom.values()]))

    @property
    def shown_columns(self) -> list[str]:
        """Those whose history is read."""
        return list(dict.fromkeys([*SHOWN, self.stage_column, *self.custom.values()]))

    def shown(self, deal: Record) -> dict[str, str | None]:
        """The fields of a deal that have a history, as they follow from its columns."""
        state = deal.get("statecode")
        amount = deal.get("actualvalue") if state == 1 else None
        return {
            "stage": STATES.get(state or 0) or text(deal.get(self.stage_column)) or OPEN,
            "amount": text(deal.get("estimatedvalue") if amount is None else amount),
            "currency": self.currencies.get(deal.get("_transactioncurrencyid_value") or ""),
            "forecast_category": CATEGORIES.get(deal.get("msdyn_forecastcategory") or 0),
            **{name: text(deal.get(column)) for name, column in PLAIN.items()},
            **{name: text(deal.get(column)) for name, column in self.custom.items()},
        }

    def deal(self, deal: Record, *, closed_at: str | None, deleted_at: str | None = None) -> Row:
        """A row of deals."""
        state = deal.get("statecode") or 0
        closing = text(deal.get("actualclosedate")) if state else None
        return {
            "deal_id": deal["opportunityid"],
            "created_at": deal["createdon"],
            **self.shown(deal),
            "is_closed": text(state != 0),
            "is_won": text(state == 1),
            "closed_at": (closed_at or closing) if state else None,
            "booked_on": closing if state == 1 else None,
            "loss_reason": LOSSES.get(deal.get("statuscode") or 0) if state == 2 else None,
            "deleted_at": deleted_at,
            "source": "dynamics",
        }


def text(value: object) -> str | None:
    """A value as text; None is unknown."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None or value == "" else str(value)


def stages(known: Mapping[str, str], seen: Iterable[str]) -> Iterator[Row]:
    """Rows of stages.

    Parameters
    ----------
    known : labels of the open stages that Dynamics lists, in their order, by value.
    seen : stages that deals are or were in; those it does not list come in the order of the number they begin with.
    """
    places = {value: place for place, value in enumerate(known)}
    for value in sorted({*known, *seen} - {WON, LOST}):
        number = re.match(r"\d+", value)
        place = places.get(value, int(number[0]) if number else 0)
        yield _stage(value, known.get(value, value), place)
    yield _stage(WON, WON, 9001, is_closed=True, is_won=True)
    yield _stage(LOST, LOST, 9002, is_closed=True)


def _stage(value: str, label: str, place: int, *, is_closed: bool = False, is_won: bool = False) -> Row:
    flags = {"is_closed": text(is_closed), "is_won": text(is_won)}
    return {"stage": value, "label": label, "sort_order": str(place), **flags}


ACCOUNT_COLUMNS = (
    *("accountid", "name", "industrycode", "customertypecode", "address1_stateorprovince", "address1_country"),
    *("numberofemployees", "revenue_base", "_parentaccountid_value", "createdon", "modifiedon"),
)


def account(record: Record) -> Row:
    """A row of accounts."""
    return {
        "account_id": record["accountid"],
        "name": record.get("name"),
        "industry": labelled(record, "industrycode"),
        "segment": labelled(record, "customertypecode"),
        "region": record.get("address1_stateorprovince"),
        "country": record.get("address1_country"),
        "employees": text(record.get("numberofemployees")),
        "annual_revenue": text(record.get("revenue_base")),
        "parent_account_id": record.get("_parentaccountid_value"),
        "created_at": record.get("createdon"),
    }


USER_COLUMNS = (
    *("systemuserid", "fullname", "internalemailaddress", "title", "_parentsystemuserid_value"),
    *("_businessunitid_value", "_territoryid_value", "createdon"),
)


def user(record: Record, team: str | None) -> Row:
    """A row of users: whoever is on no team of its own is on the business unit's."""
    unit = labelled(record, "_businessunitid_value")
    return {
        "user_id": record["systemuserid"],
        "name": record.get("fullname"),
        "email": record.get("internalemailaddress"),
        "role": record.get("title"),
        "manager_id": record.get("_parentsystemuserid_value"),
        "team": team or unit,
        "region": unit,
        "territory": labelled(record, "_territoryid_value"),
        "hired_at": record.get("createdon"),
    }


ACTIVITIES = {
    "phonecall": ("call", "actualend", "directioncode", "actualdurationminutes"),
    "email": ("email", "actualend", "directioncode", "actualdurationminutes"),
    "appointment": ("meeting", "scheduledstart", None, "scheduleddurationminutes"),
    "task": ("task", "actualend", None, "actualdurationminutes"),
}
"""By table the type, when it took place, whether it went out, how long it took."""

COMPLETED, SCHEDULED = 1, 3


def activity_columns(table: str) -> list[str]:
    """What is read of an activity."""
    own = [name for name in ACTIVITIES[table][1:] if name]
    return ["activityid", *own, "_regardingobjectid_value", "_ownerid_value", "statecode", "createdon", "modifiedon"]


def activity(table: str, record: Record) -> Row | None:
    """A row of activities; None for what has not taken place: open calls, mails and tasks, and what was cancelled."""
    kind, when, outgoing, minutes = ACTIVITIES[table]
    state = record.get("statecode")
    if not record.get(when) or not (state == COMPLETED or (kind == "meeting" and state in (0, SCHEDULED))):
        return None
    about = record.get("_regardingobjectid_value@Microsoft.Dynamics.CRM.lookuplogicalname")
    out = record.get(outgoing) if outgoing else None
    return {
        "activity_id": record["activityid"],
        "occurred_at": record[when],
        "logged_at": record.get("createdon"),
        "deal_id": record.get("_regardingobjectid_value") if about == "opportunity" else None,
        "account_id": record.get("_regardingobjectid_value") if about == "account" else None,
        "contact_id": record.get("_regardingobjectid_value") if about == "contact" else None,
        "user_id": record.get("_ownerid_value"),
        "type": kind,
        "direction": None if out is None else "outbound" if out else "inbound",
        "duration_minutes": text(record.get(minutes)),
    }


def quota(record: Record, currencies: Mapping[str, str]) -> Row:
    """A row of quotas, of a goal for a fiscal quarter."""
    return {
        "user_id": record["_goalownerid_value"],
        "period_start": record["goalstartdate"][:10],
        "amount": text(record["targetmoney"]),
        "currency": currencies.get(record.get("_transactioncurrencyid_value") or ""),
    }


def stakeholder(record: Record) -> Row:
    """A row of deal_contacts, of a connection between an opportunity and a contact."""
    return {
        "deal_id": record["_record1id_value"],
        "contact_id": record["_record2id_value"],
        "role": labelled(record, "_record2roleid_value"),
        "added_at": record["createdon"],
    }


def labelled(record: Record, column: str) -> str | None:
    """A choice or a lookup in words, if they were asked for."""
    return record.get(f"{column}@OData.Community.Display.V1.FormattedValue")
