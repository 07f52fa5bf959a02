"""What a deal has in common with others: how the owner, the segment, the stage … of a deal are found, as SQL.

A party's key is a column of the deal at the moment (relation state), or of an ended deal as it was until then (relation
outcome or passage), or of the deal's account as it stands. Another party is another line here and one in `spec.Deal`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PartyKey:
    """The relation where a party's rows stand, and its key: `row.x` of the deal, `accounts.x` of its account."""

    column: str | None
    relation: str = "outcome"

    def sql(self, row: str, known: Mapping[str, Collection[str]]) -> str:
        """The key of a row of the relation called `row`; `known` are the columns that relations have."""
        if self.column is None:
            return "'all'"
        relation, name = self.column.split(".")
        relation = row if relation == "row" else relation
        return f"{relation}.{name}" if name in known[relation] else "CAST(NULL AS VARCHAR)"

    def needs_account(self) -> bool:
        """Whether the key reads the accounts table."""
        return self.column is not None and self.column.startswith("accounts.")


PARTIES: dict[str, PartyKey] = {
    "owner": PartyKey("row.owner_id"),
    "account": PartyKey("row.account_id"),
    "segment": PartyKey("accounts.segment"),
    "passed_stage": PartyKey("row.stage_key", relation="passage"),
    "company": PartyKey(None),
}
