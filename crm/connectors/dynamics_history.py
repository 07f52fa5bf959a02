"""The past of opportunities from Dynamics' audit log: each entry's old and new values, read backward from now."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from crm.connectors.base import Row, in_batches
from crm.connectors.dynamics_client import BATCH, DynamicsClient, DynamicsRefused, Outcome, Part
from crm.connectors.dynamics_rows import CONTACT, Record, Words
from crm.errors import Detail

CREATED, CHANGED, DELETED = 1, 2, 3
GONE = 404
ENTRIES = "auditid,_objectid_value,_userid_value,createdon,operation"


@dataclass(frozen=True)
class Entry:
    """One entry of the audit log with the columns it is about."""

    deal_id: str
    at: str
    by: str | None
    operation: int
    old: Record
    new: Record

    @property
    def is_deletion(self) -> bool:
        """Whether the deal was deleted by it."""
        return self.operation == DELETED


@dataclass
class Past:
    """The audit log of opportunities, newest entries first, on the way to changes of what they show.

    Attributes
    ----------
    standing : the columns of each deal as they stood before the entries read so far; at first as they stand now.
    """

    client: DynamicsClient
    words: Words
    standing: dict[str, Record] = field(default_factory=dict)

    def entries(self, start: str | None) -> Iterator[list[Entry]]:
        """The entries since an instant, newest first, some at a time.

        The log tells when and who; what changed has to be asked for entry by entry. (A record's whole change history
        can be asked for at once, but comes without dates.)
        """
        since = f" and createdon ge {start}" if start else ""
        asked = f"audits?$select={ENTRIES}&$orderby=createdon desc&$filter=objecttypecode eq 'opportunity'{since}"
        for page in self.client.rows(asked):
            told = [each for each in page if each["operation"] in (CREATED, CHANGED, DELETED)]
            for some in in_batches(told, BATCH):
                details = [f"audits({each['auditid']})/Microsoft.Dynamics.CRM.RetrieveAuditDetails" for each in some]
                outcomes = self.client.batch([Part("GET", path) for path in details])
                yield [_entry(each, done) for each, done in zip(some, outcomes, strict=True)]

    def look_up(self, entries: Sequence[Entry]) -> None:
        """Ask how deals stand that nobody has told of yet; of deleted ones the log says how they stood."""
        unknown = list(dict.fromkeys(each.deal_id for each in entries if each.deal_id not in self.standing))
        select = f"$select={','.join(self.words.shown_columns)}"
        outcomes = self.client.batch([Part("GET", f"opportunities({each})?{select}") for each in unknown])
        for deal_id, done in zip(unknown, outcomes, strict=True):
            self.standing[deal_id] = done.document if done.refusal is None else {}

    def changes(self, entry: Entry) -> Iterator[Row]:
        """Rows of deal_history: each field that an entry changed."""
        if entry.is_deletion:
            self.standing[entry.deal_id] = entry.old
            return
        after = {**self.standing[entry.deal_id], **dict.fromkeys(entry.old), **entry.new}
        before = {**after, **dict.fromkeys(entry.new), **entry.old}
        self.standing[entry.deal_id] = before
        then: dict[str, str | None] = {}
        now: dict[str, str | None]
        if entry.operation == CREATED:
            # Only what the entry tells: a column without auditing stands now as it may not have stood then.
            now = {name: value for name, value in self.words.shown(entry.new).items() if value is not None}
            if self.words.stage_column not in self.words.audited:
                del now["stage"]
        else:
            then, now = self.words.shown(before), self.words.shown(after)
        for name, value in now.items():
            if value != then.get(name):
                yield {
                    "deal_id": entry.deal_id,
                    "changed_at": entry.at,
                    "field": name,
                    "old_value": then.get(name),
                    "new_value": value,
                    "changed_by": entry.by,
                }

    def contacts(self, entry: Entry) -> Iterator[Row]:
        """Rows of deal_contacts: the deal's own contact, from when it was entered."""
        if contact := entry.new.get(CONTACT):
            yield {"deal_id": entry.deal_id, "contact_id": contact, "role": "contact", "added_at": entry.at}


def _entry(record: Record, done: Outcome) -> Entry:
    """An entry with its details; one that was cleared from the log in between tells nothing."""
    if done.refusal is not None and done.status != GONE:
        step = "Give the application user the privileges to read the audit summary and history (docs/dynamics.md)."
        raise DynamicsRefused("Dynamics refused: the audit log.", Detail("audits", None, done.refusal, step))
    detail: dict[str, Any] = done.document.get("AuditDetail") or {}
    old, new = (
        {name: value for name, value in (detail.get(side) or {}).items() if "@" not in name}
        for side in ("OldValue", "NewValue")
    )
    by = record.get("_userid_value")
    return Entry(record["_objectid_value"], record["createdon"], by, record["operation"], old, new)
