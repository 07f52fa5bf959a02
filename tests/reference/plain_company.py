"""What was known of a company, a deal at a time, in loops over plain rows: what the references are written with.

Written from the docstrings and the contract, without the compiler: slow, and easy to believe.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from crm.history import DealHistory
from crm.tables import CrmTables

Value = float | str | None
Row = dict
ONE_DAY = pd.Timedelta(1, "D")
CATEGORY_RANKS = {"omitted": 0.0, "pipeline": 1.0, "best_case": 2.0, "most_likely": 3.0, "commit": 4.0}


def known(value: object) -> bool:
    return value is not None and not pd.isna(value)


def days_between(earlier: pd.Timestamp, later: pd.Timestamp) -> float:
    return (later - earlier).total_seconds() / 86_400


def by_deal(rows: pd.DataFrame) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows.to_dict("records"):
        if known(row["deal_id"]):
            found.setdefault(row["deal_id"], []).append(row)
    return found


def in_order(rows: list[Row], at: str) -> list[Row]:
    """Rows as they became known; those of one instant as they stand in the file."""
    return sorted(rows, key=lambda row: row[at])


@dataclass(frozen=True)
class Company:
    """The facts of one data version, cut by deal."""

    tables: CrmTables
    history: DealHistory

    # -- since when what was recorded

    @cached_property
    def deal_history(self) -> list[Row]:
        return self.tables.get("deal_history").to_dict("records")

    def changes_since(self, field: str) -> list[pd.Timestamp]:
        return [row["changed_at"] for row in self.deal_history if row["field"] == field and known(row["changed_at"])]

    @cached_property
    def begun(self) -> dict[tuple, pd.Timestamp]:
        """The first row of every kind there is."""
        first: dict[tuple, pd.Timestamp] = {}

        def note(kind: tuple, at: pd.Timestamp) -> None:
            first[kind] = min(at, first.get(kind, at))

        for row in self.deal_history:
            if known(row["changed_at"]):
                note(("change", row["field"]), row["changed_at"])
        for row in self.history.activities.to_dict("records"):
            if known(row["deal_id"]) and known(row["known_from"]):
                note(("activity",), row["known_from"])
                for column in ("type", "direction"):
                    if known(row[column]):
                        note((column, row[column]), row["known_from"])
                for column in ("contact_id", "duration_minutes"):
                    if known(row[column]):
                        note((column,), row["known_from"])
        for row in self.history.contacts.to_dict("records"):
            note(("contact",), row["known_from"])
            if known(row["role"]):
                note(("role",), row["known_from"])
        for row in self.tables.get("line_items").to_dict("records"):
            if known(row["added_at"]):
                note(("line",), row["added_at"])
        return first

    @cached_property
    def bulk_loaded(self) -> set[str]:
        """Deals that 99 others share their created_at with, to the instant, and which no midnight explains."""
        together: dict[tuple, list[str]] = {}
        for row in self.tables.get("deals").to_dict("records"):
            seen = row.get("_first_seen_at")
            together.setdefault((row["created_at"], seen if known(seen) else None), []).append(row["deal_id"])
        zone = self.tables.calendar.time_zone
        return {
            deal_id
            for (at, _), ids in together.items()
            for deal_id in ids
            if len(ids) >= 100 and at.tz_convert(zone).time() != pd.Timestamp(0).time()
        }

    # -- rows by deal

    @cached_property
    def states(self) -> dict[str, list[Row]]:
        return by_deal(self.history.states)

    @cached_property
    def changes(self) -> dict[str, list[Row]]:
        return by_deal(self.history.changes)

    @cached_property
    def activities(self) -> dict[str, list[Row]]:
        return by_deal(self.history.activities)

    @cached_property
    def contacts(self) -> dict[str, list[Row]]:
        return by_deal(self.history.contacts)

    @cached_property
    def lines(self) -> dict[str, list[Row]]:
        return by_deal(self.tables.get("line_items").dropna(subset=["added_at"]))

    @cached_property
    def spells(self) -> dict[str, list[Row]]:
        return by_deal(self.history.spells)

    def value(self, deal_id: str, field: str, moment: pd.Timestamp, *, until: bool = True) -> object:
        """The value as known at the moment, or (`until` False) just before it."""
        value = None
        for row in self.states.get(deal_id, []):
            if row["known_from"] < moment or (until and row["known_from"] == moment):
                value = row.get(field)
        return value if known(value) else None

    @cached_property
    def rows_of(self) -> dict[str, dict[str, Row]]:
        keys = {"accounts": "account_id", "users": "user_id"}
        return {
            table: {row[key]: row for row in self.tables.get(table).to_dict("records")} for table, key in keys.items()
        }

    # -- stages

    def position(self, stage: object, pipeline: object) -> float | None:
        """1, 2, … by sort_order among the stages of the pipeline, if it has this one, else among all names."""
        rows = self.tables.get("stages").sort_values("sort_order", kind="stable").to_dict("records")
        own = [row for row in rows if known(pipeline) and row.get("pipeline") == pipeline]
        if not any(row["stage"] == stage for row in own):
            first: dict[str, Row] = {}
            for row in rows:
                first.setdefault(row["stage"], row)
            own = list(first.values())
        orders = sorted({row["sort_order"] for row in own})
        return next((orders.index(row["sort_order"]) + 1.0 for row in own if row["stage"] == stage), None)

    # -- what became of deals

    @cached_property
    def closings(self) -> list[Row]:
        """Every deal ever won, lost or deleted, with what it was until then."""
        ends = []
        for spell in self.history.spells.dropna(subset=["ended_at"]).to_dict("records"):
            if spell["outcome"] != "merged":
                ends.append(self._closing(spell))
        return ends

    def _closing(self, spell: Row) -> Row:
        deal_id, at = spell["deal_id"], spell["ended_at"]
        then = {field: self.value(deal_id, field, at, until=False) for field in ("owner_id", "account_id")}
        amount = self.value(deal_id, "amount", at, until=False)
        currency = self.value(deal_id, "currency", at, until=False)
        rate = self.rate_to_base(currency, at - pd.Timedelta(1, "us"))
        first = spell["opened_at"] == min(one["opened_at"] for one in self.spells[deal_id])
        dated = not (first and deal_id in self.bulk_loaded)
        begun = self.begun.get(("change", "close_date"))
        pushes = [
            row
            for row in self.changes.get(deal_id, [])
            if row["field"] == "close_date" and row["at"] <= at and moved(row) > 0
        ]
        born = min(one["opened_at"] for one in self.spells[deal_id])
        followed = begun is not None and begun <= born and deal_id not in self.bulk_loaded
        return {
            "deal_id": deal_id,
            "at": at,
            "won": spell["outcome"] == "won",
            **then,
            "segment": self.rows_of["accounts"].get(then["account_id"], {}).get("segment"),
            "amount_base": amount * rate if known(amount) and known(rate) else None,
            "days_open": days_between(spell["opened_at"], at) if dated else None,
            "pushes": float(len(pushes)) if followed else None,
            "passed": self._passed(spell, dated=dated),
        }

    def _passed(self, spell: Row, *, dated: bool) -> dict[tuple, float | None]:
        """Days spent in every stage while the deal was open, by (pipeline, stage); unknown where the start is."""
        opened_at, ended_at = spell["opened_at"], spell["ended_at"]
        rows = self.states.get(spell["deal_id"], [])
        passed: dict[tuple, float | None] = {}
        for row, following in zip(rows, [*rows[1:], None], strict=True):
            begins = max(row["known_from"], opened_at)
            ends = ended_at if following is None else min(following["known_from"], ended_at)
            if known(row["stage"]) and ends > begins:
                key = (row.get("pipeline") if known(row.get("pipeline")) else "", row["stage"])
                total = passed.get(key, 0.0)
                unknown = total is None or (begins == opened_at and not dated)
                passed[key] = None if unknown else total + days_between(begins, ends)
        return passed

    def open_with(self, field: str, whose: str, moment: pd.Timestamp) -> int:
        """How many open deals are known to be somebody's at a moment."""
        spells = self.history.spells
        alive = spells[(spells["opened_at"] <= moment) & ~(spells["ended_at"] <= moment)]
        return sum(self.value(deal_id, field, moment) == whose for deal_id in alive["deal_id"])

    def rate_to_base(self, currency: object, moment: pd.Timestamp) -> float | None:
        """The rate of the start of the period (plan) or of the moment (dated); None if there is none."""
        deals, calendar = self.tables.get("deals"), self.tables.calendar
        if "currency" not in deals or deals["currency"].isna().all():
            return 1.0
        if currency == calendar.base_currency:
            return 1.0
        at = calendar.period_of(moment).start_at if calendar.rates == "plan" else moment
        rates = self.tables.get("exchange_rates")
        rates = rates[(rates["currency"] == currency) & (rates["valid_from"] <= at)].sort_values("valid_from")
        return rates["rate_to_base"].iloc[-1] if known(currency) and len(rates) else None


def moved(row: Row) -> float:
    """By how much a recorded change moved its field: days, money …; 0 if that cannot be said."""
    old, new = row["old_number"], row["new_number"]
    return new - old if known(old) and known(new) else 0.0


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
