"""The CRM tables of one data version, in memory, with what is needed to read them as of a past moment."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from crm.calendar import Calendar
from crm.contract import empty_frame

DEAL_TABLES = ("deals", "deal_history", "activities", "deal_contacts", "line_items", "deal_splits")
"""The tables that grow with the deals: what is read of them can be limited to some deals."""


@dataclass(frozen=True)
class FieldClass:
    """Whether the history of a deal field is complete enough to look back before its first recorded change.

    Attributes
    ----------
    tracked : "tracked" or "untracked", the `class` of `dealcast check`.
    since : the moment from which completeness holds; None means always (a declared stable field) or never (untracked).
    known_share : share of today's deals whose value is known as of the data's moment by the as-of rule, 0..1.
    declared : named in `stable_fields`.
    filled : whether any deal has a value at all.
    """

    tracked: Literal["tracked", "untracked"]
    since: pd.Timestamp | None
    known_share: float
    declared: bool = False
    filled: bool = True

    @property
    def reading(self) -> tuple[str, pd.Timestamp | None, bool]:
        """What the dated facts go by: fields of one reading have the same values at every moment."""
        return self.tracked, self.since, self.filled

    def to_dict(self) -> dict[str, object]:
        since = None if self.since is None else self.since.isoformat()
        return {
            "class": self.tracked,
            "since": since,
            "known_share": self.known_share,
            "declared": self.declared,
            "filled": self.filled,
        }

    @staticmethod
    def from_dict(stored: Mapping[str, object]) -> "FieldClass":
        since = stored["since"]
        return FieldClass(
            tracked="tracked" if stored["class"] == "tracked" else "untracked",
            since=None if since is None else pd.Timestamp(str(since)),
            known_share=float(str(stored["known_share"])),
            declared=bool(stored["declared"]),
            filled=bool(stored["filled"]),
        )


@dataclass(frozen=True)
class CrmTables:
    """One data version: the contract's tables as frames, the calendar, the data's moment and the field classes.

    Attributes
    ----------
    tables : frame by table name; only tables that were delivered (`deals` and `stages` always). Dtypes follow the
        contract: text `str`, instants `datetime64[us, UTC]`, dates `datetime64[us]`, numbers float64, booleans
        `boolean`.
        `deals` carries `_first_seen_at` (NaT for deals of the first import), `deal_history` is in file order.
    calendar : time zone, fiscal periods, measure and money rules.
    as_of : the data's moment (UTC); nothing later is in the tables.
    data_version : name of the manifest these tables came from.
    field_classes : class of every deal field, fixed per data version.
    first_import_at : moment of the first import; None for tables that were never imported.
    """

    tables: Mapping[str, pd.DataFrame]
    calendar: Calendar
    as_of: pd.Timestamp
    data_version: str
    field_classes: Mapping[str, FieldClass]
    first_import_at: pd.Timestamp | None = None

    def get(self, name: str) -> pd.DataFrame:
        """The table, or an empty frame with the contract's columns if it was not delivered."""
        found = self.tables.get(name)
        return empty_frame(name) if found is None else found

    def has(self, name: str) -> bool:
        """Whether the table was delivered with at least one row."""
        return name in self.tables and len(self.tables[name]) > 0

    def with_tables(self, **changed: pd.DataFrame) -> "CrmTables":
        """The same data version with some tables replaced."""
        return replace(self, tables={**self.tables, **changed})

    def of_deals(self, deal_ids: Collection[str]) -> "CrmTables":
        """The same with no other deals than these and what hangs on them."""
        few = {name: rows for name, rows in self.tables.items() if name in DEAL_TABLES}
        mine = {name: rows[rows["deal_id"].isin(deal_ids)].reset_index(drop=True) for name, rows in few.items()}
        return self.with_tables(**mine)
