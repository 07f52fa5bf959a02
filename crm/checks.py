"""Data-quality findings: what in the CRM will mislead a forecast, with the rows and the money it touches.

A check is one small function that returns the ids of the rows it objects to. Its docstring says why it matters; code,
severity, title and next step are declared beside it; the reference page is generated from both.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal

import pandas as pd

from crm.contract import empty_frame
from crm.history import DealHistory, open_deals, wins_counting
from crm.money import RateBook
from crm.tables import CrmTables

Severity = Literal["error", "warning", "info"]
Subject = Literal["deals", "deal_history", "activities", "fields"]
SILENT_DAYS = 60
LATE_DAYS = 7
# A finding costs nothing: fewer deals suffice for it than for features to distrust created_at.
BULK_DEALS = 20
FEWEST_PERIODS = 2
EXAMPLES = 5


@dataclass(frozen=True)
class Finding:
    """One check that objected.

    Attributes
    ----------
    severity : error (rows that cannot be used), warning (rows that mislead), info (worth knowing).
    rows : how many rows are affected.
    amount_base : what the affected deals are worth in base currency; None if unknown, or not about deals.
    examples : ids of at most five of them, the largest deals first.
    """

    code: str
    severity: Severity
    title: str
    rows: int
    amount_base: float | None
    examples: tuple[str, ...]
    next_step: str

    def to_dict(self) -> dict[str, object]:
        """The finding as JSON values."""
        return {**asdict(self), "examples": list(self.examples)}


class Company:
    """One data version as the checks look at it. Deals deleted or merged away are not in it."""

    def __init__(self, tables: CrmTables, history: DealHistory) -> None:
        self.tables, self.history, self.as_of = tables, history, tables.as_of

    @cached_property
    def deals(self) -> pd.DataFrame:
        """Deals with every contract column, and is_won_now, is_open_now, measured, worth (base currency)."""
        deals = self.tables.get("deals")
        absent = {name: column for name, column in empty_frame("deals").items() if name not in deals}
        deals = deals.assign(**{name: column.reindex(deals.index) for name, column in absent.items()})
        deals = deals[deals["deleted_at"].isna() & deals["merged_into"].isna()]
        measured = deals.get(self.tables.calendar.measure, deals["amount"])
        return deals.assign(
            is_won_now=self.history.stage_book.closed_and_won(deals)[1],
            is_open_now=deals["deal_id"].isin(open_deals(self.history, self.as_of)["deal_id"]),
            measured=measured,
            worth=RateBook.from_tables(self.tables).to_base(measured, deals["currency"], self.as_of),
        )

    @cached_property
    def open_deals(self) -> pd.DataFrame:
        """The deals in the pipeline now."""
        return self.deals[self.deals["is_open_now"]]

    @cached_property
    def worth(self) -> pd.Series:
        """Base currency by deal_id."""
        return self.deals.set_index("deal_id")["worth"]


@dataclass(frozen=True)
class Check:
    """A check as declared: what it objects to, what it needs to run, and the function that finds the rows."""

    code: str
    severity: Severity
    title: str
    of: Subject
    needs: tuple[str, ...]
    next_step: str
    find: Callable[[Company], pd.Series]

    @property
    def why(self) -> str:
        """Why it matters: the function's docstring."""
        return (self.find.__doc__ or "").strip()

    def can_run(self, tables: CrmTables) -> bool:
        """Whether the tables and columns it needs were delivered; what is missing altogether is no finding.

        An import adds the columns that were not exported, empty. `amount` stands for what the company measures.
        """
        parts = [need.replace("deals.amount", f"deals.{tables.calendar.measure}").split(".") for need in self.needs]
        return all(
            tables.has(table)
            and all(name in tables.get(table) and tables.get(table)[name].notna().any() for name in names)
            for table, *names in parts
        )

    def run(self, company: Company) -> Finding | None:
        """The finding, or None if there is nothing to object to."""
        ids = self.find(company)
        if ids.empty:
            return None
        amount, examples = None, ids.drop_duplicates()
        if self.of == "deals":
            worth = company.worth.reindex(examples)
            amount = float(worth.sum()) if worth.notna().any() else None
            examples = worth.sort_values(ascending=False, kind="stable").index.to_series()
        shown = tuple(examples.iloc[:EXAMPLES].astype(str))
        return Finding(self.code, self.severity, self.title, len(ids), amount, shown, self.next_step)


CHECKS: dict[str, Check] = {}


def check(
    code: str, severity: Severity, title: str, *, next_step: str, of: Subject = "deals", needs: tuple[str, ...] = ()
) -> Callable[[Callable[[Company], pd.Series]], Callable[[Company], pd.Series]]:
    """Declare a function as a check; it returns one id for each row it objects to."""

    def declare(find: Callable[[Company], pd.Series]) -> Callable[[Company], pd.Series]:
        if code in CHECKS:
            raise ValueError(f"two checks are called {code}")
        CHECKS[code] = Check(code, severity, title, of, needs, next_step, find)
        return find

    return declare


def run_checks(tables: CrmTables, history: DealHistory) -> list[Finding]:
    """Every finding on one data version, errors first, then by code."""
    company = Company(tables, history)
    found = [one.run(company) for one in CHECKS.values() if one.can_run(tables)]
    order: list[Severity] = ["error", "warning", "info"]
    return sorted((f for f in found if f), key=lambda f: (order.index(f.severity), f.code))


@check(
    "D01",
    "error",
    "Closed deals of which nobody knows when they closed",
    next_step="Fill closed_at in the export, or turn on history for the stage.",
)
def closed_at_an_unknown_moment(company: Company) -> pd.Series:
    """Such a deal is neither open nor closed at any past moment, so it is left out of everything."""
    return company.deals.loc[company.deals["deal_id"].isin(company.history.left_out), "deal_id"]


@check(
    "D02",
    "warning",
    "Open deals whose close date has passed",
    needs=("deals.close_date",),
    next_step="Ask the owners for a new date, or close the deals.",
)
def close_date_passed(company: Company) -> pd.Series:
    """The promise is broken and was not renewed: the date says nothing any more."""
    today = pd.Timestamp(company.tables.calendar.local_day(company.as_of))
    return company.open_deals.loc[company.open_deals["close_date"] < today, "deal_id"]


@check(
    "D03",
    "warning",
    "Open deals without an amount",
    needs=("deals.amount",),
    next_step="Ask the owners for an amount; until then one is estimated from similar deals.",
)
def amount_missing(company: Company) -> pd.Series:
    """The forecast has to estimate what the deal is worth."""
    return company.open_deals.loc[company.open_deals["measured"].isna(), "deal_id"]


@check(
    "D04",
    "error",
    "Deals in a currency that is unknown or has no rate",
    needs=("deals.currency",),
    next_step="Fill in the currency, and add it to exchange_rates, valid from before the first deal in it.",
)
def currency_without_rate(company: Company) -> pd.Series:
    """Their money is unknown; it is never taken at a rate of 1."""
    return company.deals.loc[company.deals["measured"].notna() & company.deals["worth"].isna(), "deal_id"]


@check(
    "D05",
    "error",
    "Deals in a stage that the stages table does not have",
    next_step="Add the stage to stages, with whether it is closed and won.",
)
def stage_unknown(company: Company) -> pd.Series:
    """Whether such a deal is open, won or lost is a guess, and dealcast does not guess: it counts as open."""
    deals = company.deals
    order = company.history.stage_book.look_up(deals["stage"], deals["pipeline"], "sort_order")
    return deals.loc[pd.isna(order), "deal_id"]


@check(
    "D06",
    "warning",
    "History rows of deals that are not in deals",
    of="deal_history",
    needs=("deal_history",),
    next_step="Export deals and their history together, deleted deals too.",
)
def history_of_unknown_deal(company: Company) -> pd.Series:
    """Deals missing from an export are mostly lost or deleted: without them the win rate looks better than it is."""
    rows = company.tables.get("deal_history")
    return rows.loc[~rows["deal_id"].isin(company.tables.get("deals")["deal_id"]), "deal_id"]


@check(
    "D07",
    "warning",
    "Deal fields whose past is unknown",
    of="fields",
    needs=("deals",),
    next_step="Turn on their history in the CRM; name in stable_fields those that closing never overwrites.",
)
def field_untracked(company: Company) -> pd.Series:
    """Closing may have overwritten them, so a past value counts only from its first recorded change on."""
    classes, deals = company.tables.field_classes, company.tables.get("deals")
    held = [name for name in classes if deals[name].notna().any()]
    return pd.Series([name for name in held if classes[name].tracked == "untracked"], dtype="str")


@check(
    "D08",
    "warning",
    f"Open deals without an activity for {SILENT_DAYS} days",
    needs=("activities.deal_id",),
    next_step="Call the customer, or close the deal.",
)
def silent_deal(company: Company) -> pd.Series:
    """Nobody is working on them, or nobody writes it down; either way they look better than they are."""
    activities, since = company.tables.get("activities"), company.as_of - pd.Timedelta(days=SILENT_DAYS)
    recent = activities.loc[activities["occurred_at"].between(since, company.as_of), "deal_id"]
    old = company.open_deals["created_at"] < since
    return company.open_deals.loc[old & ~company.open_deals["deal_id"].isin(recent), "deal_id"]


@check(
    "D09",
    "warning",
    "Open deals whose owner is unknown or has left",
    needs=("users", "deals.owner_id"),
    next_step="Give the deals to somebody, or export the missing users.",
)
def owner_gone(company: Company) -> pd.Series:
    """Nobody answers for them, and their money stands under `(none)` or under somebody who has left."""
    users = company.tables.get("users")
    left = users["left_at"] <= company.as_of if "left_at" in users else pd.Series(False, index=users.index)
    return company.open_deals.loc[~company.open_deals["owner_id"].isin(users.loc[~left, "user_id"]), "deal_id"]


@check(
    "D10",
    "warning",
    "Open deals that look like the same deal twice",
    needs=("deals.account_id", "deals.name", "deals.amount"),
    next_step="Merge the copies in the CRM.",
)
def looks_duplicate(company: Company) -> pd.Series:
    """Same account, same name, same amount: their money is counted twice."""
    same = ["account_id", "name", "amount"]
    candidates = company.open_deals.dropna(subset=same)
    spelled = candidates.assign(name=candidates["name"].str.casefold().str.strip())
    return candidates.loc[spelled.duplicated(same, keep=False), "deal_id"]


@check(
    "D11",
    "info",
    f"Deals created by the {BULK_DEALS} or more at one instant",
    next_step="If this was a migration, set the true created_at, or expect deal ages to be off.",
)
def created_in_bulk(company: Company) -> pd.Series:
    """A migration or a bulk load: their age, and how new deals come in, are not what they seem."""
    together = company.deals.groupby("created_at")["deal_id"].transform("size")
    return company.deals.loc[together >= BULK_DEALS, "deal_id"]


@check(
    "D12",
    "info",
    "Won deals that were reopened or cancelled",
    next_step="Check that they are real reversals: each takes its bookings back.",
)
def win_undone(company: Company) -> pd.Series:
    """The win counted until it was undone, so past bookings change at that moment."""
    wins = company.history.wins
    return wins.loc[wins["undone_at"].notna() & wins["deal_id"].isin(company.deals["deal_id"]), "deal_id"]


@check(
    "D13",
    "warning",
    "Deals created after they closed",
    needs=("deals.closed_at",),
    next_step="Record deals when they begin, or correct created_at.",
)
def created_after_closing(company: Company) -> pd.Series:
    """Written down only when it was over: nothing can be learned from their course."""
    return company.deals.loc[company.deals["closed_at"] < company.deals["created_at"], "deal_id"]


@check(
    "D14",
    "info",
    "Deals with a negative amount",
    needs=("deals.amount",),
    next_step="Right for credits and reductions; else correct the amount.",
)
def amount_negative(company: Company) -> pd.Series:
    """They lower the forecast, and ranges may then lie below what is won already."""
    return company.deals.loc[company.deals["measured"] < 0, "deal_id"]


@check(
    "D15",
    "warning",
    "Won deals with no amount or an amount of zero",
    needs=("deals.amount",),
    next_step="Fill in what was sold: bookings lack it.",
)
def won_for_nothing(company: Company) -> pd.Series:
    """The deal counts as won and adds nothing, so the company looks smaller than it is."""
    empty = company.deals["measured"].isna() | (company.deals["measured"] == 0)
    return company.deals.loc[company.deals["is_won_now"] & empty, "deal_id"]


@check(
    "D16",
    "info",
    f"Activities logged more than {LATE_DAYS} days after they happened",
    of="activities",
    needs=("activities.logged_at",),
    next_step="Connect the mailbox and the calendar, so that activities are logged as they happen.",
)
def logged_late(company: Company) -> pd.Series:
    """An activity counts from the moment it was known: late ones make past deals look silent."""
    activities = company.tables.get("activities")
    late = activities["logged_at"] - activities["occurred_at"] > pd.Timedelta(days=LATE_DAYS)
    return activities.loc[late, "activity_id"]


@check(
    "D17",
    "info",
    "Open deals worth more than the company books in a usual period",
    needs=("deals.amount",),
    next_step="Check the amount; if it is right, read the forecast's range, not its mean.",
)
def larger_than_a_period(company: Company) -> pd.Series:
    """One such deal decides a period: won or lost, what comes is far from the mean."""
    calendar = company.tables.calendar
    wins = wins_counting(company.history, company.as_of).dropna(subset=["booked_on"])
    starts = calendar.period_frame(calendar.midnights(wins["booked_on"]))["start_at"]
    booked = wins["deal_id"].map(company.worth).groupby(starts.to_numpy()).sum()
    past = booked[booked.index < calendar.period_of(company.as_of).start_at]
    usual = past.median() if len(past) >= FEWEST_PERIODS else float("nan")
    return company.open_deals.loc[company.open_deals["worth"] > max(usual, 0.0), "deal_id"]
