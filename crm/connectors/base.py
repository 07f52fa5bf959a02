"""What every connector does, whatever the CRM: tell what is there, fetch it into the contract's tables, take scores."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar, Protocol, TypeVar

import pandas as pd

from crm.mapping import TableMapping

OVERLAP = pd.Timedelta(10, "min")
"""What is asked for again: a transaction may become visible later than the instant it stamped on its rows, and clocks
differ."""

Row = Mapping[str, str | None]
"""One row, its values as text (docs/importing.md tells how); None is unknown."""


@dataclass(frozen=True)
class Batch:
    """Some rows of one table; all batches of a table have the same columns. Rows may come twice, the later one counts.

    The table is one of the contract, or, where the fetch has a mapping, one of the CRM's own in its own words.
    """

    table: str
    rows: Sequence[Row]


@dataclass
class Fetch:
    """What a CRM held at one moment; all of it is complete once the batches are read.

    Attributes
    ----------
    moment : the CRM as it stood then, and nothing later, is in the batches.
    cursor : what to give `Connector.fetch` next time, to get what changed since; some CRMs hand it out with the last
        page.
    calendar : entries of calendar.json that the CRM knows, such as base_currency and time_zone.
    batches : the rows, read from the CRM while one goes through them.
    mapping : what makes the contract's tables of the CRM's own; None: the batches are the contract's tables.
    notes : {"what", "because"} for whatever this CRM does not have.
    gone : ids of deals that are no longer there, with the deal each was merged into, None if it was deleted; for CRMs
        that say no more of them.
    """

    moment: pd.Timestamp
    cursor: str
    calendar: Mapping[str, object]
    batches: Iterator[Batch]
    mapping: TableMapping | None = None
    notes: list[dict[str, str]] = field(default_factory=list)
    gone: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What a connector found when it looked.

    Attributes
    ----------
    system : name and version of the CRM.
    tables : rows the CRM has for each table of the contract.
    fields : the columns of deals that it fills.
    history_since : the first moment of which the CRM kept history; None if it keeps none.
    writes_to : where scores go; None if there is no place for them, which `notes` explains.
    api_budget : requests counted against the CRM's limit, used of allowed; None if it tells of none.
    """

    system: str
    tables: Mapping[str, int]
    fields: tuple[str, ...]
    history_since: pd.Timestamp | None
    writes_to: str | None
    notes: tuple[str, ...] = ()
    api_budget: str | None = None


@dataclass(frozen=True)
class OutgoingScore:
    """A score on its way to the CRM, with where it comes from.

    Attributes
    ----------
    win_probability : won within 365 days, 0..1; `_low` and `_high` bound the 90 % range of the probability itself.
    score_change : points against the score of a week or more before; None if there was none.
    reasons : sentences, the strongest first.
    """

    deal_id: str
    win_probability: float
    score_change: float | None
    reasons: tuple[str, ...]
    as_of: pd.Timestamp
    model_version: str
    win_probability_low: float | None = None
    win_probability_high: float | None = None


class ConnectorSettings(Protocol):
    """What a connection's file holds: a frozen dataclass of texts, numbers and flags that checks itself.

    Attributes
    ----------
    name : of the connector.
    secret : what its secret is called, such as password; it is never among the fields.
    needs_secret : whether it cannot be opened without one.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    name: ClassVar[str]
    secret: ClassVar[str]
    needs_secret: ClassVar[bool]

    def open(self, secret: str, /) -> "Connector":
        """A connection; nothing is sent yet."""
        ...


class Connector(Protocol):
    """One connection to one CRM. Every call may raise `OtherSideFailed`; none of them changes more than it says."""

    @property
    def api_calls(self) -> int:
        """Requests sent so far, repeated ones included."""
        ...

    def survey(self) -> Found:
        """Look at what is there; changes nothing."""
        ...

    def fetch(self, since: str | None) -> Fetch:
        """Everything there is, or, given a cursor, at least what changed since; changes nothing."""
        ...

    def push(self, scores: Sequence[OutgoingScore]) -> dict[str, str]:
        """Write scores, each replacing the one before it of the same deal: twice is as good as once.

        Returns
        -------
        The reason why not, by deal_id, for each score that the CRM did not take.
        """
        ...

    def withdraw(self, deal_ids: Sequence[str]) -> dict[str, str]:
        """Take away what `push` wrote of these deals: nothing of a score is shown any more. Twice is as good as once.

        Returns
        -------
        The reason why not, by deal_id, for each deal of which the CRM still holds a score.
        """
        ...

    def close(self) -> None:
        """End the connection."""
        ...


Item = TypeVar("Item")


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of at most so many."""
    left = iter(items)
    while some := list(islice(left, size)):
        yield some
