"""The relations that compiled features read: their columns, and what a data version says of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

SOURCES: dict[str, tuple[str, ...]] = {
    "opening": ("trusted",),
    "change": ("sequence", "field", "old_value", "new_value", "old_number", "new_number"),
    "activity": (
        *("sequence", "type", "direction", "contact_id", "duration_minutes"),
        *("is_first", "reply_days", "unanswered"),
    ),
    "contact": ("sequence", "contact_id", "role", "is_first"),
    "line": ("sequence", "product", "amount", "discount"),
}
"""The columns of a deal's dated rows by source, besides deal_id and moment; the relation is called like the source."""

OF_DEALS = ("state", *SOURCES)
"""The relations that hold rows of single deals."""

PARTY_SOURCES: dict[str, tuple[str, ...]] = {
    "outcome": ("kind", "step", "created", "amount_base", "days_open", "pushes"),
    "passage": ("kind", "days"),
}
"""The columns of parties' rows that aggregates may read, besides moment; the first is text, the others numbers."""


@dataclass(frozen=True)
class Inputs:
    """What the data have: columns by relation, and since when what has been recorded.

    Attributes
    ----------
    columns : columns of the relations state, accounts, owners, outcome, passage.
    since : epoch seconds of the first row of a source or a part of it ("activity", "activity:type=call",
        "change:stage"); an aggregate whose rows may be older is unknown. Missing: never.
    custom : column of state by the name of a field that only this CRM has.
    mailboxes : whether it is known since when the mailboxes of owners are connected.
    """

    columns: Mapping[str, frozenset[str]]
    since: Mapping[str, float]
    custom: Mapping[str, str] = field(default_factory=dict)
    mailboxes: bool = False

    def recorded_also(self, since: Mapping[str, float]) -> "Inputs":
        """The same, where other rows may tell of an earlier beginning."""
        first = dict(self.since)
        for source, at in since.items():
            first[source] = min(at, first.get(source, at))
        return replace(self, since=first)
