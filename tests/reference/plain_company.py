"""What was known of a company, a deal at a time, in loops over plain rows: what the references are written with.

Written from the docstrings and the contract, without the compiler: slow, and easy to believe.
"""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from crm.history import DealHistory
from crm.tables import CrmTables

Value = float | str | None
Row = dict
ONE_DAY = pd.Timedelta(1, "D")


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
