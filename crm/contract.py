"""The tables a CRM export may hold, each declared once as a class, with the meaning and unit of every column.

The import, the checks and the reference pages all follow from the declarations here. Columns that are not declared are
custom fields: kept, typed by what they hold, usable as features.
"""

from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from crm.values import DTYPES, Kind, Parsed, format_values, infer_kind, parse_values

__all__ = [
    "DTYPES",
    "TABLES",
    "ColumnSpec",
    "Kind",
    "Parsed",
    "TableSpec",
    "empty_frame",
    "format_values",
    "infer_kind",
    "parse_values",
]


@dataclass(frozen=True)
class ColumnSpec:
    """One column: its name, what kind of value it holds, whether a row must have it, its meaning and unit."""

    name: str
    kind: Kind
    required: bool
    doc: str
    unit: str | None = None


@dataclass(frozen=True)
class TableSpec:
    """One table: its meaning, its columns in order, and the columns that tell its rows apart.

    An empty `key` means the whole row: such a table is a log whose file order is kept in the column `_sequence`.
    """

    name: str
    doc: str
    columns: dict[str, ColumnSpec]
    key: tuple[str, ...]

    @property
    def required(self) -> tuple[str, ...]:
        """The columns without which the table cannot be read."""
        return tuple(name for name, column in self.columns.items() if column.required)


TABLES: dict[str, TableSpec] = {}


@dataclass(frozen=True)
class _Column:
    kind: Kind
    doc: str
    unit: str | None = None
    required: bool = False


def _required(kind: Kind, doc: str, unit: str | None = None) -> _Column:
    return _Column(kind, doc, unit, required=True)


class Table:
    """Base of the declarations: a subclass registers itself in `TABLES`."""

    spec: ClassVar[TableSpec]

    def __init_subclass__(cls, *, name: str, key: tuple[str, ...]) -> None:
        columns = {
            column: ColumnSpec(column, declared.kind, declared.required, declared.doc, declared.unit)
            for column, declared in vars(cls).items()
            if isinstance(declared, _Column)
        }
        cls.spec = TABLES[name] = TableSpec(name, (cls.__doc__ or "").strip(), columns, key)


class Deals(Table, name="deals", key=("deal_id",)):
    """Opportunities with their values now; closing may have overwritten some."""

    deal_id = _required("id", "the deal's identifier in the CRM")
    created_at = _required("instant", "when the deal entered the CRM")
    stage = _required("text", "the deal's stage now")
    account_id = _Column("id", "the customer")
    owner_id = _Column("id", "the user who owns the deal now")
    name = _Column("text", "the deal's name")
    pipeline = _Column("text", "the pipeline its stages belong to")
    deal_type = _Column("text", "new, expansion, renewal, …")
    lead_source = _Column("text", "where the deal came from")
    currency = _Column("text", "currency of the deal's money")
    amount = _Column("number", "what the deal is worth", "deal currency")
    close_date = _Column("date", "the day the rep promises; after closing often the closing day")
    forecast_category = _Column("text", "the rep's forecast category")
    closed_at = _Column("instant", "when the deal closed in the CRM")
    booked_on = _Column("date", "the day finance counts it; by default the local day of closed_at")
    is_closed = _Column("boolean", "whether the deal is closed now")
    is_won = _Column("boolean", "whether the deal is won now")
    loss_reason = _Column("text", "why it was lost")
    acv = _Column("number", "annual contract value", "deal currency")
    tcv = _Column("number", "total contract value", "deal currency")
    arr_change = _Column("number", "change of annual recurring revenue", "deal currency")
    term_months = _Column("number", "length of the contract", "months")
    starts_on = _Column("date", "first day of the contract")
    ends_on = _Column("date", "day the contract ends (exclusive)")
    partner_account_id = _Column("id", "the partner the deal is sold with")
    deleted_at = _Column("instant", "when the deal was deleted or merged away")
    merged_into = _Column("id", "the deal this one was merged into")
    source = _Column("text", "the system the row came from")


class DealHistory(Table, name="deal_history", key=()):
    """Changes of deal fields, custom ones too, in file order; a row at created_at without an old value is the start."""

    deal_id = _required("id", "the deal that changed")
    changed_at = _required("instant", "when it changed")
    field = _required("text", "the field that changed, named like the column of deals")
    old_value = _Column("text", "the value before")
    new_value = _Column("text", "the value after")
    changed_by = _Column("id", "the user who changed it; `sync` where an import noticed the change")


class Activities(Table, name="activities", key=("activity_id",)):
    """Emails, calls, meetings and tasks; each counts from the later of occurred_at and logged_at."""

    activity_id = _required("id", "the activity's identifier")
    occurred_at = _required("instant", "when it took place, or is to take place")
    deal_id = _Column("id", "the deal it belongs to")
    account_id = _Column("id", "the customer it belongs to")
    user_id = _Column("id", "our person")
    contact_id = _Column("id", "the customer's person")
    type = _Column("text", "email, call, meeting, task, other")
    direction = _Column("text", "inbound or outbound")
    logged_at = _Column("instant", "when it became known")
    duration_minutes = _Column("number", "how long it took", "minutes")


class Accounts(Table, name="accounts", key=("account_id",)):
    """Customers, partners and prospects."""

    account_id = _required("id", "the account's identifier")
    name = _Column("text", "the account's name")
    industry = _Column("text", "its industry")
    segment = _Column("text", "how we segment customers")
    region = _Column("text", "its region")
    country = _Column("text", "its country")
    employees = _Column("number", "how many people work there", "people")
    annual_revenue = _Column("number", "its yearly revenue", "base currency")
    parent_account_id = _Column("id", "the account it belongs to")
    created_at = _Column("instant", "when the account entered the CRM")


class Users(Table, name="users", key=("user_id",)):
    """Our people, with manager, team and region as they stand now."""

    user_id = _required("id", "the user's identifier")
    name = _Column("text", "the person's name")
    email = _Column("text", "the person's address")
    role = _Column("text", "rep, manager, …")
    manager_id = _Column("id", "the user they report to; makes the tree")
    team = _Column("text", "the team")
    region = _Column("text", "the region")
    territory = _Column("text", "the territory")
    hired_at = _Column("instant", "when they joined")
    left_at = _Column("instant", "when they left")
    activity_from = _Column("instant", "since when their mailbox is connected")


class UserHistory(Table, name="user_history", key=()):
    """Changes of users' fields (people move), in file order."""

    user_id = _required("id", "the user that changed")
    changed_at = _required("instant", "when it changed")
    field = _required("text", "the field that changed, named like the column of users")
    old_value = _Column("text", "the value before")
    new_value = _Column("text", "the value after")


class Stages(Table, name="stages", key=("pipeline", "stage")):
    """The stages of each pipeline and what being in one means."""

    stage = _required("text", "the stage's name as deals write it")
    sort_order = _required("number", "its place in the pipeline")
    is_closed = _required("boolean", "whether a deal in it is closed")
    is_won = _required("boolean", "whether a deal in it is won")
    default_probability = _Column("share", "the CRM's probability for the stage", "0..1")
    pipeline = _Column("text", "the pipeline it belongs to; empty: all")


class DealContacts(Table, name="deal_contacts", key=("deal_id", "contact_id", "added_at")):
    """The customer's people on a deal."""

    deal_id = _required("id", "the deal")
    contact_id = _required("id", "the person")
    role = _Column("text", "decision maker, champion, …")
    added_at = _Column("instant", "since when; rows without it are not used")


class DealSplits(Table, name="deal_splits", key=("deal_id", "user_id", "kind", "valid_from")):
    """Who shares the credit for a deal."""

    deal_id = _required("id", "the deal")
    user_id = _required("id", "the user credited")
    share = _required("share", "the part credited; revenue shares of a deal sum to 1", "0..1")
    kind = _required("text", "revenue, or overlay (never in sums)")
    valid_from = _Column("instant", "since when")


class ForecastCalls(Table, name="forecast_calls", key=("user_id", "period_start", "submitted_at", "category")):
    """What people called for a period, each call as it was submitted."""

    user_id = _required("id", "who called")
    period_start = _required("date", "the period called")
    submitted_at = _required("instant", "when the call was made")
    category = _required("text", "commit, most_likely, best_case, …")
    amount = _required("number", "the amount called", "currency of the call")
    currency = _Column("text", "currency of the amount; empty: base currency")
    note = _Column("text", "the caller's words")


class Quotas(Table, name="quotas", key=("user_id", "period_start", "valid_from")):
    """Targets; a node's quota is its head's own row, never a sum."""

    user_id = _required("id", "whose quota")
    period_start = _required("date", "the period")
    amount = _required("number", "the target", "currency of the quota")
    currency = _Column("text", "currency of the amount; empty: base currency")
    valid_from = _Column("instant", "since when it holds")


class ExchangeRates(Table, name="exchange_rates", key=("currency", "valid_from")):
    """Rates to base currency: base = amount × rate. A currency without a rate has unknown money, never 1.0."""

    currency = _required("text", "the currency")
    valid_from = _required("instant", "since when the rate holds")
    rate_to_base = _required("number", "base currency for one unit", "base currency / currency")


class LineItems(Table, name="line_items", key=("deal_id", "product", "added_at")):
    """Products on a deal."""

    deal_id = _required("id", "the deal")
    product = _required("text", "the product")
    quantity = _Column("number", "how many", "units")
    amount = _Column("number", "price of the line", "deal currency")
    list_price = _Column("number", "list price of the line", "deal currency")
    unit_cost = _Column("number", "cost of one unit", "deal currency")
    added_at = _Column("instant", "when the line was added")


class Leads(Table, name="leads", key=("lead_id",)):
    """People or companies that may become deals."""

    lead_id = _required("id", "the lead's identifier")
    created_at = _required("instant", "when the lead came in")
    source = _Column("text", "where it came from")
    owner_id = _Column("id", "the user who works on it")
    account_id = _Column("id", "the account it belongs to")
    first_response_at = _Column("instant", "when we first answered")
    converted_at = _Column("instant", "when it became a deal")
    converted_deal_id = _Column("id", "the deal it became")
    status = _Column("text", "its status now")


class Contracts(Table, name="contracts", key=("contract_id",)):
    """Running contracts, the ground of renewals."""

    contract_id = _required("id", "the contract's identifier")
    account_id = _required("id", "the customer")
    starts_on = _required("date", "its first day")
    ends_on = _required("date", "the day it ends (exclusive)")
    arr = _required("number", "annual recurring revenue", "base currency")
    renewed_by_deal_id = _Column("id", "the deal that renewed it")
    cancelled_at = _Column("instant", "when it was cancelled")


class Costs(Table, name="costs", key=("period_start", "kind")):
    """Money spent per period."""

    period_start = _required("date", "the period")
    kind = _required("text", "what it was spent on")
    amount = _required("number", "how much", "base currency")


class Periods(Table, name="periods", key=("period_start",)):
    """Custom fiscal periods (4-4-5 and the like); each starts where the one before it ends."""

    period_start = _required("date", "first day")
    period_end = _required("date", "day after the last (exclusive)")
    label = _Column("text", "its name")


def empty_frame(table: str) -> pd.DataFrame:
    """The table without rows: the contract's columns with the contract's dtypes."""
    return pd.DataFrame({name: pd.Series(dtype=DTYPES[column.kind]) for name, column in TABLES[table].columns.items()})
