"""One deal as it was known at a moment, and the small words references are written with."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from plain_company import ONE_DAY, Company, Row, Value, days_between, in_order, known, moved

CATEGORY_RANKS = {"omitted": 0.0, "pipeline": 1.0, "best_case": 2.0, "most_likely": 3.0, "commit": 4.0}


@dataclass(frozen=True)
class Known:
    """One deal as it was known at one moment."""

    company: Company
    deal_id: str
    as_of: pd.Timestamp

    def value(self, field: str) -> Value:
        return self.company.value(self.deal_id, field, self.as_of)

    @property
    def today(self) -> pd.Timestamp:
        """The local day, as a naive midnight."""
        return pd.Timestamp(self.company.tables.calendar.local_day(self.as_of))

    @property
    def period(self) -> tuple[pd.Timestamp, pd.Timestamp]:
        """First day and (exclusive) end of the fiscal period."""
        period = self.company.tables.calendar.period_of(self.as_of)
        return pd.Timestamp(period.start), pd.Timestamp(period.end)

    def days_since(self, moment: pd.Timestamp | None) -> float | None:
        return days_between(moment, self.as_of) if known(moment) else None

    # -- when it began

    @cached_property
    def openings(self) -> list[pd.Timestamp]:
        spells = self.company.spells.get(self.deal_id, [])
        return sorted(spell["opened_at"] for spell in spells if spell["opened_at"] <= self.as_of)

    @property
    def loaded(self) -> bool:
        return self.deal_id in self.company.bulk_loaded

    @property
    def created_at(self) -> pd.Timestamp | None:
        return None if self.loaded or not self.openings else self.openings[0]

    @property
    def opened_at(self) -> pd.Timestamp | None:
        openings = self.openings[1:] if self.loaded else self.openings
        return openings[-1] if openings else None

    # -- rows, None where some may not have been recorded

    def rows(
        self,
        rows: list[Row],
        at: str,
        *,
        kinds: Iterable[tuple],
        days: float | None = None,
        after: pd.Timestamp | str | None = None,
        all_of_them: bool = True,
        by_mailbox: bool = False,
    ) -> list[Row] | None:
        """Rows up to the moment, of the last `days`, or later than the instant `after` ("" = not asked for).

        Parameters
        ----------
        all_of_them : None unless they were being recorded over the whole time; else only by now.
        """
        start = self._start(days, after, all_of_them)
        begun = [self.company.begun.get(kind) for kind in kinds]
        if start is None or any(at is None or at > start for at in begun):
            return None
        if by_mailbox and not self._mailbox_connected(start):
            return None
        rows = [row for row in rows if row[at] <= self.as_of]
        if days is not None:
            rows = [row for row in rows if row[at] >= self.as_of - days * ONE_DAY]
        if after != "":
            rows = [row for row in rows if row[at] > after]
        return in_order(rows, at)

    def _start(self, days: float | None, after: pd.Timestamp | str | None, all_of_them: bool) -> pd.Timestamp | None:
        if after != "":
            return after if known(after) else None
        if not all_of_them:
            return self.as_of
        if days is None:
            return self.created_at
        window = self.as_of - days * ONE_DAY
        return window if self.created_at is None else max(window, self.created_at)

    def _mailbox_connected(self, start: pd.Timestamp) -> bool:
        """Whether what the owner of now wrote was seen from then on; where nobody's mailbox is known, it is."""
        users = self.company.rows_of["users"]
        if not any(known(row.get("activity_from")) for row in users.values()):
            return True
        owner = self.value("owner_id")
        if not known(owner):
            return True
        connected = users.get(owner, {}).get("activity_from")
        return known(connected) and connected <= start

    def changes(self, field: str, *, after: object = "", **asked: object) -> list[Row] | None:
        """Recorded changes of a field, with by how much they moved it."""
        rows = [row for row in self.company.changes.get(self.deal_id, []) if row["field"] == field]
        found = self.rows(rows, "at", kinds=[("change", field)], after=after, **asked)
        return None if found is None else [row | {"moved": self._moved(row)} for row in found]

    def _moved(self, row: Row) -> float:
        """Stages are compared by their position in the pipeline of then, categories by their rank."""
        if row["field"] == "stage":
            before = self.company.value(self.deal_id, "pipeline", row["at"], until=False)
            now = self.company.value(self.deal_id, "pipeline", row["at"])
            old = self.company.position(row["old_value"], before)
            new = self.company.position(row["new_value"], now)
            return new - old if known(old) and known(new) else 0.0
        if row["field"] == "forecast_category":
            ranks = [CATEGORY_RANKS.get(spelled(row[side])) for side in ("old_value", "new_value")]
            return ranks[1] - ranks[0] if known(ranks[0]) and known(ranks[1]) else 0.0
        return moved(row)

    def last_change(self, field: str) -> pd.Timestamp | None:
        rows = self.changes(field, all_of_them=False)
        return rows[-1]["at"] if rows else None

    def activities(
        self, *types: str, direction: str | None = None, having: str = "", after: object = "", **asked: object
    ) -> list[Row] | None:
        rows = self.company.activities.get(self.deal_id, [])
        rows = [row for row in rows if not types or row["type"] in types]
        rows = [row for row in rows if direction is None or row["direction"] == direction]
        rows = [row for row in rows if not having or known(row[having])]
        kinds = [("activity",), *(("type", kind) for kind in types)]
        kinds += [("direction", direction)] if direction else []
        kinds += [(having,)] if having else []
        return self.rows(rows, "known_from", kinds=kinds, by_mailbox=True, after=after, **asked)

    def contacts(self, *kinds: tuple, **asked: object) -> list[Row] | None:
        rows = self.company.contacts.get(self.deal_id, [])
        return self.rows(rows, "known_from", kinds=[("contact",), *kinds], after="", **asked)

    def lines(self, **asked: object) -> list[Row] | None:
        rows = self.company.lines.get(self.deal_id, [])
        return self.rows(rows, "added_at", kinds=[("line",)], after="", **asked)

    # -- others

    def account(self, column: str) -> Value:
        return self._row("accounts", self.value("account_id"), column)

    def owner(self, column: str) -> Value:
        return self._row("users", self.value("owner_id"), column)

    def _row(self, table: str, wanted: Value, column: str) -> Value:
        row = self.company.rows_of[table].get(wanted, {}) if known(wanted) else {}
        return row[column] if column in row and known(row[column]) else None

    def covers(self, days: float) -> bool:
        """Whether the last so many days lie after the first deal of all was opened."""
        return self.as_of - days * ONE_DAY >= self.company.history.spells["opened_at"].min()

    def closings(self, party: str | None = None, days: float | None = None) -> list[Row]:
        """Deals that ended so far, of the whole company or of this deal's owner_id, account_id or segment."""
        whose = self.account("segment") if party == "segment" else self.value(party) if party else None
        if party and not known(whose):
            return []
        ends = [end for end in self.company.closings if end["at"] <= self.as_of]
        ends = [end for end in ends if party is None or end[party] == whose]
        return [end for end in ends if days is None or end["at"] >= self.as_of - days * ONE_DAY]

    def passages(self) -> list[tuple[bool, float | None]]:
        """Of every ended deal that had been in this deal's stage: whether it was won, and its days there."""
        stage, pipeline = self.value("stage"), self.value("pipeline")
        key = (pipeline if known(pipeline) else "", stage)
        return [(end["won"], end["passed"][key]) for end in self.closings() if known(stage) and key in end["passed"]]


def spelled(category: object) -> str:
    return str(category).strip().lower().replace(" ", "_").replace("-", "_")


REFERENCES: dict[str, Callable[[Known], Value]] = {}


def reference(computed: Callable[[Known], Value]) -> Callable[[Known], Value]:
    REFERENCES[computed.__name__] = computed
    return computed


def count(rows: list | None) -> float | None:
    return None if rows is None else float(len(rows))


def log(value: Value) -> float | None:
    return math.log(value) if known(value) and value > 0 else None


def mean(values: list[float]) -> float | None:
    values = [value for value in values if known(value)]
    return sum(values) / len(values) if values else None


def wins_with(ends: list[Row], what: str) -> list[float]:
    """What is known of the won ones among ended deals."""
    return [end[what] for end in ends if end["won"] and known(end[what])]
