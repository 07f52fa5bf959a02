"""Records of Tryton as rows of the contract's tables, all values as text."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from crm.connectors.base import Row
from crm.connectors.tryton_history import Revision, field_changes
from crm.connectors.tryton_rpc import Record

STOCK_FIELD = "conversion_probability"

STAGES = (
    # stage, is_closed, is_won: the states of sale.opportunity, in order.
    ("lead", "false", "false"),
    ("opportunity", "false", "false"),
    ("converted", "false", "false"),
    ("won", "true", "true"),
    ("lost", "true", "false"),
    ("cancelled", "true", "false"),
)
CLOSED = {stage for stage, is_closed, _ in STAGES if is_closed == "true"}

DEAL_FIELDS = {
    "stage": "state",
    "name": "description",
    "account_id": "party",
    "owner_id": "employee",
    "currency": "currency",
    "amount": "amount",
    "close_date": "end_date",
    "loss_reason": "lost_reason",
    "start_date": "start_date",
    STOCK_FIELD: STOCK_FIELD,
}
"""Columns of deals, and the fields of sale.opportunity they come from."""

STAGE_FIELD = "stage"
"""A field that our module adds: the id of a stage of the company's own."""

LINKS = ("party", "employee", "currency", STAGE_FIELD, "create_uid", "write_uid")
"""Fields of sale.opportunity that refer to other records."""

ACTIVITY_FIELDS = (
    "opportunity.party",
    "opportunity",
    "type",
    "direction",
    "occurred_at",
    "create_date",
    "duration",
    "employee",
)
WHO_AND_WHEN = ("create_date", "create_uid", "write_uid")
PARTY_FIELDS = ("name", "create_date")
EMPLOYEE_FIELDS = ("party.name", "party.email", "supervisor", "start_date", "end_date")


def stage_rows(own: Iterable[str]) -> list[Row]:
    """The stages: the states of an opportunity and, before its conversion, the company's own."""
    names = ("stage", "sort_order", "is_closed", "is_won")
    before, after = STAGES[:2], STAGES[2:]
    told = [*before, *((stage, "false", "false") for stage in own), *after]
    rows = ((stage, str(place), *flags) for place, (stage, *flags) in enumerate(told, start=1))
    return [dict(zip(names, row, strict=True)) for row in rows]


def activity_row(activity: Record) -> Row:
    """A call, meeting or mail; its account is the opportunity's party."""
    return {
        "activity_id": str(activity["id"]),
        "occurred_at": activity["occurred_at"].isoformat(),
        "deal_id": _text(activity["opportunity"]),
        "account_id": _text(activity["opportunity."]["party"]),
        "user_id": _text(activity["employee"]),
        "type": activity["type"],
        "direction": activity["direction"],
        "logged_at": activity["create_date"].isoformat(),
        "duration_minutes": _text(activity["duration"]),
    }


def account_row(party: Record, country: str | None) -> Row:
    """A party as an account."""
    created_at = party["create_date"].isoformat()
    return {"account_id": str(party["id"]), "name": party["name"], "created_at": created_at, "country": country}


def user_row(employee: Record) -> Row:
    """An employee as a user."""
    return {
        "user_id": str(employee["id"]),
        "name": employee["party."]["name"],
        "email": employee["party."]["email"] or None,
        "manager_id": _text(employee["supervisor"]),
        "hired_at": employee["start_date"],
        "left_at": employee["end_date"],
    }


@dataclass(frozen=True)
class DealLife:
    """One opportunity through its revisions, as rows of the contract.

    Attributes
    ----------
    fields : columns of deals, and the fields they come from.
    currencies, employees, stages : by id: currency codes, the employees of logins, names of the company's own stages.
    """

    deal_id: str
    revisions: Sequence[Revision]
    fields: Mapping[str, str]
    currencies: Mapping[int, str]
    employees: Mapping[int, str]
    stages: Mapping[int, str]

    def row(self) -> Row:
        """The deal as it stands, or stood last."""
        record = next(one.record for one in reversed(self.revisions) if one.record)
        deleted = self.revisions[-1] if self.revisions[-1].record is None else None
        return {
            "deal_id": self.deal_id,
            "created_at": record["create_date"].isoformat(),
            **self.values(record),
            "closed_at": self._closed_at(),
            "deleted_at": deleted.at.isoformat() if deleted else None,
        }

    def values(self, record: Record) -> dict[str, str | None]:
        """The fields of a state, as text."""
        values = {ours: _text(record[theirs]) for ours, theirs in self.fields.items()}
        state, own_stage = record["state"], self.stages.get(record.get(STAGE_FIELD) or 0)
        values["stage"] = own_stage if own_stage and state not in CLOSED else state
        if state != "lost":
            values["loss_reason"] = None  # of an earlier loss; no form shows it any more
        return {**values, "currency": self.currencies.get(record["currency"])}

    def changes(self, start: pd.Timestamp | None) -> Iterator[Row]:
        """A row for every change of a field from a moment on (None: all); its first value has no old one."""
        before: dict[str, str | None] | None = None
        for revision in self.revisions:
            record = revision.record
            if record is None:
                continue
            after = self.values(record)
            is_birth = revision.at == record["create_date"]
            told = start is None or revision.at >= start
            for field, old, new in field_changes(before, after, is_birth=is_birth) if told else ():
                yield {
                    "deal_id": self.deal_id,
                    "changed_at": revision.at.isoformat(),
                    "field": field,
                    "old_value": old,
                    "new_value": new,
                    "changed_by": self.employees.get(record["write_uid"] or record["create_uid"]),
                }
            before = after

    def _closed_at(self) -> str | None:
        """Since when it has been closed without a break; None if it is open."""
        since: pd.Timestamp | None = None
        for revision in self.revisions:
            closed = revision.record is not None and revision.record["state"] in CLOSED
            if revision.record is not None and not closed:
                since = None
            elif closed and since is None:
                since = revision.at
        return since.isoformat() if since is not None else None


def rates_to_base(rates: Mapping[str, Mapping[str, float]], base: str) -> Iterator[Row]:
    """What one unit is worth in base currency, from each day on which either rate changed; Tryton keeps the inverse."""
    for currency, dated in sorted(rates.items()):
        if currency == base:
            continue
        for day in sorted({*dated, *rates.get(base, {})}):
            own, bases = (_rate_on(table, day) for table in (dated, rates.get(base, {})))
            if own and bases:
                yield {"currency": currency, "valid_from": day, "rate_to_base": repr(bases / own)}


def _rate_on(dated: Mapping[str, float], day: str) -> float | None:
    known = [since for since in dated if since <= day]
    return dated[max(known)] if known else None


def _text(value: object) -> str | None:
    return None if value is None or value == "" else str(value)
