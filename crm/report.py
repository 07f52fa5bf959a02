"""What an import tells: the contract's `import` document, and what is switched off for want of data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from crm.contract import TABLES
from crm.tables import CrmTables

# What goes without a table, and why.
WITHOUT_TABLE = {
    "deal_history": ("changes and past values of deals", "what was not declared stable is unknown before today"),
    "activities": ("engagement features", "contact with the customer and silence are unknown"),
    "accounts": ("account features and --by segment", "segment, industry and size are unknown"),
    "users": ("forecast by team, region and manager", "only the company and the reps are known"),
    "deal_contacts": ("buying-group features", "the customer's people on a deal are unknown"),
    "deal_splits": ("shared credit", "every deal counts wholly for its owner"),
    "forecast_calls": ("calls beside the model", "what people called is unknown"),
    "quotas": ("probability_of_quota", "no targets are known"),
}
# What goes without any value in a column of deals.
WITHOUT_COLUMN = {
    "amount": "money of deals",
    "close_date": "timing by the promised close date",
    "owner_id": "forecast by rep, team and region",
    "forecast_category": "the forecast_category baseline",
}


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes
    ----------
    changed : whether a new data version was made.
    tables : by delivered table the rows read, new, changed, unchanged, refused, and removed (by a full import).
    quarantine : folder of the refused rows, None if there are none.
    missing_tables : tables of the contract without rows.
    switched_off : {"what", "because"} for each thing that lacks its data.
    ignored_files : tables in the folder that the contract does not know, or the mapping does not name.
    mapping : {"what", "because"} for what a mapping names and is not there, and for the rows that it left out.
    """

    import_id: str
    data_version: str
    as_of: pd.Timestamp
    changed: bool
    tables: Mapping[str, Mapping[str, int]]
    quarantine: Path | None
    missing_tables: list[str]
    switched_off: list[dict[str, str]]
    ignored_files: list[str]
    mapping: list[dict[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        """The contract's `import` document, with `findings` still empty."""
        return {
            "import_id": self.import_id,
            "data_version": self.data_version,
            "as_of": f"{self.as_of:%Y-%m-%dT%H:%M:%SZ}",
            "changed": self.changed,
            "tables": {name: dict(counts) for name, counts in self.tables.items()},
            "quarantine": None if self.quarantine is None else str(self.quarantine),
            "missing_tables": self.missing_tables,
            "switched_off": self.switched_off,
            "findings": [],
            "ignored_files": self.ignored_files,
            "mapping": self.mapping,
        }


def missing_tables(tables: CrmTables) -> list[str]:
    """The contract's tables that hold no rows."""
    return [name for name in TABLES if not tables.has(name)]


def switched_off(tables: CrmTables) -> list[dict[str, str]]:
    """What the data cannot give, and why: a missing table, a column of deals without values, no exchange rates."""
    off = [
        {"what": what, "because": f"no table {name}: {why}"}
        for name, (what, why) in WITHOUT_TABLE.items()
        if not tables.has(name)
    ]
    deals = tables.get("deals")
    off += [
        {"what": what, "because": f"no deal has a value in {column}"}
        for column, what in WITHOUT_COLUMN.items()
        if deals[column].isna().all()
    ]
    foreign = sorted(set(deals["currency"].dropna()) - {tables.calendar.base_currency})
    if foreign and not tables.has("exchange_rates"):
        because = f"no table exchange_rates: money in {', '.join(foreign)} is unknown in base currency"
        off.append({"what": "money in other currencies", "because": because})
    return off


def ignored_files(source: Path) -> list[str]:
    """Table files in a folder that belong to no table of the contract."""
    files = [path for path in source.iterdir() if path.suffix.lower() in (".csv", ".parquet")]
    return sorted(path.name for path in files if path.stem not in TABLES or path.suffix != path.suffix.lower())
