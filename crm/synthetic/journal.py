"""The journal of everything ever entered in the CRM, and a day on which something is entered.

The journal keeps every change with its instant and its kind; which kinds left a history row is decided at export, so
the same life can be shown as differently kept CRMs would show it.
"""

from dataclasses import dataclass, field

import numpy as np

from crm.synthetic.company import Company
from crm.synthetic.config import day_start
from crm.synthetic.deals import Rows, World

FIELDS = ("stage", "amount", "close_date", "forecast_category", "owner_id", "competitor", "loss_reason")
STAGE, AMOUNT, CLOSE_DATE, CATEGORY, OWNER, COMPETITOR, LOSS_REASON = range(len(FIELDS))
# Kinds of change: a first value, an edit, the stage of a closing, what closing writes over, a field never tracked.
INITIAL, CHANGE, CLOSING, OVERWRITE, UNTRACKED = range(5)
# Stages are numbered within their pipeline; the closed ones stand apart.
CLOSED_WON, CLOSED_LOST = 90, 91


@dataclass
class Journal:
    """Chunks of rows by table (created, changes, activities, contacts, accounts, calls); only ever added to."""

    chunks: dict[str, list[Rows]] = field(default_factory=dict)

    def copy(self) -> "Journal":
        """A log of its own that shares the chunks so far."""
        return Journal({table: list(chunks) for table, chunks in self.chunks.items()})

    def append(self, table: str, **columns: np.ndarray | float) -> None:
        """Add rows; scalars are repeated, and the arrays are kept as they are: nobody may alter them later."""
        n = max(np.size(values) for values in columns.values() if np.ndim(values))
        if n:
            rows = {name: v if isinstance(v, np.ndarray) else np.full(n, v) for name, v in columns.items()}
            self.chunks.setdefault(table, []).append(rows)

    def columns(self, table: str) -> Rows:
        """All rows so far, in the order of entry; empty if there is none."""
        chunks = self.chunks.get(table, [])
        return {name: np.concatenate([c[name] for c in chunks]) for name in chunks[0]} if chunks else {}


def nothing_seen() -> Rows:
    """The CRM's view of the deals, row by row, before the first deal."""
    return {
        "close_date": np.zeros(0),
        "category": np.zeros(0, np.int8),
        "amount": np.zeros(0),
        "amount_withheld": np.zeros(0, bool),
        "competitor": np.zeros(0, np.int8),
        "error": np.zeros(0),
        "account": np.zeros(0, np.int32),
        "contacts": np.zeros(0, np.int32),
    }


@dataclass(frozen=True)
class Workday:
    """A business day in the CRM: what is true (`world`), what the CRM shows (`seen`), and the journal it is entered in.

    Times of the day (local): handovers 8:30, new deals 8:30-12:00, edits 9:00-13:00, stage moves 13:00-17:00, closings
    17:30-18:30, activities until 17:30.
    """

    company: Company
    world: World
    seen: Rows
    journal: Journal
    day: int
    rng: np.random.Generator

    @property
    def deals(self) -> Rows:
        """What is true of the deals."""
        return self.world.rows

    @property
    def quarter(self) -> tuple[int, int]:
        """Day numbers of the fiscal quarter's start and end (exclusive)."""
        return self.company.quarter(self.day)

    def hours(self, first: float, last: float, n: int) -> np.ndarray:
        """Random instants on the day between two hours, to the second."""
        seconds = self.rng.integers(int(first * 3600), int(last * 3600), n)
        return day_start(self.day, self.company.config.time_zone) + seconds * 1_000_000

    def enter(self, deal: np.ndarray, at: np.ndarray, of: int, value: np.ndarray | float, kind: int) -> None:
        """Write a field of some deals, each by its owner."""
        by, number = self.deals["owner"][deal].astype(np.int32), np.full(len(deal), value, float)
        self.journal.append("changes", deal=deal, at=at, field=of, value=number, kind=kind, by=by)
