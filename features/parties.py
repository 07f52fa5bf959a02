"""What a deal has in common with others: how the owner, the segment, the stage … of a deal are found, as SQL.

A party's key is made of columns of the deal at the moment (relation state), or of an ended deal as it was until then
(relation outcome or passage), and of the deal's account as it stands.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PartyKey:
    """Where a party's rows stand and the columns its key is made of: `row.x` of the deal, `accounts.x` of its account.

    Of several columns all must be known; `first_of` takes the first one that is known instead.
    """

    columns: tuple[str, ...]
    relation: str = "outcome"
    first_of: bool = False

    def sql(self, row: str, known: Mapping[str, Collection[str]]) -> str:
        """The key of a row of the relation called `row`; `known` are the columns that relations have."""
        parts = [self._column(column, row, known) for column in self.columns]
        if not parts:
            return "'all'"
        return f"COALESCE({', '.join(parts)})" if self.first_of else " || ' / ' || ".join(parts)

    def needs_account(self) -> bool:
        """Whether the key reads the accounts table."""
        return any(column.startswith("accounts.") for column in self.columns)

    def _column(self, column: str, row: str, known: Mapping[str, Collection[str]]) -> str:
        relation, name = column.split(".")
        relation = row if relation == "row" else relation
        return f"{relation}.{name}" if name in known[relation] else "CAST(NULL AS VARCHAR)"


PARTIES: dict[str, PartyKey] = {
    "owner": PartyKey(("row.owner_id",)),
    "account": PartyKey(("row.account_id",)),
    "family": PartyKey(("accounts.parent_account_id", "row.account_id"), first_of=True),
    "segment": PartyKey(("accounts.segment",)),
    "industry": PartyKey(("accounts.industry",)),
    "lead_source": PartyKey(("row.lead_source",)),
    "deal_type": PartyKey(("row.deal_type",)),
    "owner_in_segment": PartyKey(("row.owner_id", "accounts.segment")),
    "passed_stage": PartyKey(("row.stage_key",), relation="passage"),
    "company": PartyKey(()),
}
