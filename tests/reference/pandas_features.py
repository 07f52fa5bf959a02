"""Every feature once more, in plain pandas and loops: one deal, one moment, the rows known by then.

Written from the names, the descriptions and the contract, without the compiler: slow, and easy to believe.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from crm.history import DealHistory
from crm.tables import CrmTables

Value = float | str | None
ONE_DAY = pd.Timedelta(1, "D")


def days_between(earlier: pd.Timestamp, later: pd.Timestamp) -> float:
    return (later - earlier).total_seconds() / 86_400


def known(value: object) -> bool:
    return value is not None and not pd.isna(value)


@dataclass(frozen=True)
class Company:
    """The facts of one data version, cut by deal."""

    tables: CrmTables
    history: DealHistory

    @cached_property
    def states(self) -> dict[str, pd.DataFrame]:
        return dict(iter(self.history.states.groupby("deal_id")))

    @cached_property
    def first_rows(self) -> dict[str, pd.Timestamp]:
        """Since when each field has history."""
        return self.tables.get("deal_history").groupby("field")["changed_at"].min().to_dict()

    @cached_property
    def first_activity(self) -> pd.Timestamp | None:
        activities = self.history.activities
        return activities.loc[activities["deal_id"].notna(), "known_from"].min()

    @cached_property
    def first_contact(self) -> pd.Timestamp | None:
        return self.history.contacts["known_from"].min()

    def value(self, deal_id: str, field: str, moment: pd.Timestamp, *, until: bool = True) -> object:
        """The value as known at the moment, or (`until` False) just before it."""
        rows = self.states.get(deal_id)
        if rows is None or field not in rows:
            return None
        rows = rows[rows["known_from"] <= moment] if until else rows[rows["known_from"] < moment]
        return rows[field].iloc[-1] if len(rows) and known(rows[field].iloc[-1]) else None

    @cached_property
    def closings(self) -> list[dict]:
        """Every deal ever won, lost or deleted, with whose it was until then."""
        ends = []
        for spell in self.history.spells.dropna(subset=["ended_at"]).to_dict("records"):
            if spell["outcome"] != "merged":
                deal_id, at = spell["deal_id"], spell["ended_at"]
                whose = {field: self.value(deal_id, field, at, until=False) for field in ("owner_id", "account_id")}
                ends.append({"at": at, "won": spell["outcome"] == "won", **whose})
        return ends

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
    def last_day_of_period(self) -> pd.Timestamp:
        """The (exclusive) end of the fiscal period."""
        return pd.Timestamp(self.company.tables.calendar.period_of(self.as_of).end)

    @cached_property
    def openings(self) -> list[pd.Timestamp]:
        spells = self.company.history.spells
        opened_at = spells.loc[spells["deal_id"] == self.deal_id, "opened_at"]
        return sorted(opened_at[opened_at <= self.as_of])

    def days_since(self, moment: pd.Timestamp) -> float:
        return days_between(moment, self.as_of)

    def changes(self, field: str, days: float | None = None) -> pd.DataFrame | None:
        """Recorded changes so far; None before the field has any history in the data."""
        if not self.company.first_rows.get(field, pd.Timestamp.max.tz_localize("UTC")) <= self.as_of:
            return None
        rows = self.company.history.changes
        return self._until(rows[(rows["deal_id"] == self.deal_id) & (rows["field"] == field)], "at", days)

    def activities(self, days: float | None = None, **where: str) -> pd.DataFrame | None:
        if not self.company.first_activity <= self.as_of:
            return None
        rows = self.company.history.activities
        for column, value in where.items():
            rows = rows[rows[column] == value]
        return self._until(rows[rows["deal_id"] == self.deal_id], "known_from", days)

    def contacts(self) -> pd.DataFrame | None:
        if not self.company.first_contact <= self.as_of:
            return None
        rows = self.company.history.contacts
        return self._until(rows[rows["deal_id"] == self.deal_id], "known_from", None)

    def _until(self, rows: pd.DataFrame, at: str, days: float | None) -> pd.DataFrame:
        rows = rows[rows[at] <= self.as_of]
        return rows if days is None else rows[rows[at] >= self.as_of - days * ONE_DAY]

    def closings(self, field: str | None = None, days: float | None = None) -> list[dict]:
        """Deals that ended so far, of the whole company or of whose this deal is."""
        whose = self.value(field) if field else None
        ends = [end for end in self.company.closings if end["at"] <= self.as_of]
        ends = [end for end in ends if field is None or end[field] == whose]
        return [end for end in ends if days is None or end["at"] >= self.as_of - days * ONE_DAY]

    def account(self, column: str) -> Value:
        return self._row("accounts", "account_id", self.value("account_id"), column)

    def owner(self, column: str) -> Value:
        return self._row("users", "user_id", self.value("owner_id"), column)

    def _row(self, table: str, key: str, wanted: Value, column: str) -> Value:
        rows = self.company.tables.get(table)
        rows = rows[rows[key] == wanted] if known(wanted) else rows.head(0)
        return rows[column].iloc[0] if len(rows) and column in rows and known(rows[column].iloc[0]) else None


REFERENCES: dict[str, Callable[[Known], Value]] = {}


def reference(computed: Callable[[Known], Value]) -> Callable[[Known], Value]:
    REFERENCES[computed.__name__] = computed
    return computed


def count(rows: pd.DataFrame | None) -> float | None:
    return None if rows is None else float(len(rows))


def log(value: Value) -> float | None:
    return math.log(value) if known(value) and value > 0 else None


# -- deal ----------------------------------------------------------------------------------------------------------


@reference
def log_amount(deal: Known) -> Value:
    amount, rate = deal.value("amount"), deal.company.rate_to_base(deal.value("currency"), deal.as_of)
    return log(amount * rate) if known(amount) and known(rate) else None


@reference
def stage(deal: Known) -> Value:
    return deal.value("stage")


@reference
def stage_rank(deal: Known) -> Value:
    stages, pipeline = deal.company.tables.get("stages"), deal.value("pipeline")
    stages = stages[stages["stage"] == deal.value("stage")]
    its_own = stages[stages["pipeline"] == pipeline] if known(pipeline) else stages.head(0)
    chosen = its_own if len(its_own) else stages.sort_values("sort_order")
    return float(chosen["sort_order"].iloc[0]) if len(chosen) else None


@reference
def forecast_category(deal: Known) -> Value:
    return deal.value("forecast_category")


@reference
def deal_type(deal: Known) -> Value:
    return deal.value("deal_type")


@reference
def lead_source(deal: Known) -> Value:
    return deal.value("lead_source")


@reference
def pipeline(deal: Known) -> Value:
    return deal.value("pipeline")


@reference
def stage_moves(deal: Known) -> Value:
    return count(deal.changes("stage"))


def _rose(rows: pd.DataFrame | None) -> float | None:
    return None if rows is None else float(sum(row.new_number > row.old_number for row in rows.itertuples()))


def _fell(rows: pd.DataFrame | None) -> float | None:
    return None if rows is None else float(sum(row.new_number < row.old_number for row in rows.itertuples()))


@reference
def stage_regressions(deal: Known) -> Value:
    return _fell(deal.changes("stage"))


@reference
def stage_advances_30d(deal: Known) -> Value:
    return _rose(deal.changes("stage", days=30))


@reference
def close_date_pushes(deal: Known) -> Value:
    moves = deal.changes("close_date")
    return None if moves is None else float((moves["new_value"] > moves["old_value"]).sum())


@reference
def close_date_days_pushed(deal: Known) -> Value:
    moves = deal.changes("close_date")
    if moves is None:
        return None
    days = [
        (pd.Timestamp(new) - pd.Timestamp(old)).days
        for old, new in zip(moves["old_value"], moves["new_value"], strict=True)
        if known(old) and known(new)
    ]
    return float(sum(days))


@reference
def close_date_pulls_30d(deal: Known) -> Value:
    moves = deal.changes("close_date", days=30)
    return None if moves is None else float((moves["new_value"] < moves["old_value"]).sum())


@reference
def amount_changes(deal: Known) -> Value:
    return count(deal.changes("amount"))


@reference
def amount_cuts(deal: Known) -> Value:
    return _fell(deal.changes("amount"))


@reference
def owner_changes(deal: Known) -> Value:
    return count(deal.changes("owner_id"))


# -- timing --------------------------------------------------------------------------------------------------------


@reference
def deal_age_days(deal: Known) -> Value:
    return deal.days_since(deal.openings[-1])


def _last(rows: pd.DataFrame | None, at: str, otherwise: pd.Timestamp) -> pd.Timestamp:
    return otherwise if rows is None or rows.empty else rows[at].max()


@reference
def days_in_stage(deal: Known) -> Value:
    moves = deal.changes("stage")
    return None if moves is None else deal.days_since(_last(moves, "at", deal.openings[0]))


@reference
def days_to_close_date(deal: Known) -> Value:
    promised = deal.value("close_date")
    return float((promised - deal.today).days) if known(promised) else None


@reference
def close_date_before_period_end(deal: Known) -> Value:
    promised = deal.value("close_date")
    return float((deal.last_day_of_period - promised).days) if known(promised) else None


@reference
def days_to_period_end(deal: Known) -> Value:
    return float((deal.last_day_of_period - deal.today).days)


@reference
def push_share_of_age(deal: Known) -> Value:
    pushed = close_date_days_pushed(deal)
    return None if pushed is None else pushed / (deal_age_days(deal) + 30)


@reference
def days_since_last_edit(deal: Known) -> Value:
    if deal.changes("stage") is None:
        return None
    edits = [_last(deal.changes(field), "at", deal.openings[0]) for field in ("stage", "close_date", "amount")]
    return deal.days_since(max(edits))


# -- engagement ----------------------------------------------------------------------------------------------------


@reference
def days_since_last_activity(deal: Known) -> Value:
    rows = deal.activities()
    return None if rows is None else deal.days_since(_last(rows, "known_from", deal.openings[0]))


@reference
def days_since_last_inbound(deal: Known) -> Value:
    rows = deal.activities(direction="inbound")
    return None if rows is None or rows.empty else deal.days_since(rows["known_from"].max())


@reference
def activities_7d(deal: Known) -> Value:
    return count(deal.activities(days=7))


@reference
def activities_30d(deal: Known) -> Value:
    return count(deal.activities(days=30))


@reference
def activities_so_far(deal: Known) -> Value:
    return count(deal.activities())


@reference
def inbound_14d(deal: Known) -> Value:
    return count(deal.activities(days=14, direction="inbound"))


@reference
def inbound_60d(deal: Known) -> Value:
    return count(deal.activities(days=60, direction="inbound"))


@reference
def outbound_14d(deal: Known) -> Value:
    return count(deal.activities(days=14, direction="outbound"))


@reference
def reply_ratio_60d(deal: Known) -> Value:
    written = count(deal.activities(days=60, direction="outbound"))
    return count(deal.activities(days=60, direction="inbound")) / written if written else None


@reference
def meetings_60d(deal: Known) -> Value:
    return count(deal.activities(days=60, type="meeting"))


@reference
def calls_14d(deal: Known) -> Value:
    return count(deal.activities(days=14, type="call"))


@reference
def engagement_trend(deal: Known) -> Value:
    recent, longer = count(deal.activities(days=14)), count(deal.activities(days=56))
    return None if recent is None else (recent + 1) / (longer / 4 + 1)


@reference
def contacts_known(deal: Known) -> Value:
    rows = deal.contacts()
    return None if rows is None else float(rows["contact_id"].nunique())


@reference
def people_engaged(deal: Known) -> Value:
    rows = deal.activities()
    return None if rows is None else float(rows["contact_id"].nunique())


# -- owner and account ---------------------------------------------------------------------------------------------


def _company_rate(deal: Known) -> float:
    ends = deal.closings()
    return (sum(end["won"] for end in ends) + 1) / (len(ends) + 4)


def _win_rate(deal: Known, field: str, prior_deals: int) -> float:
    ends = deal.closings(field) if known(deal.value(field)) else []
    return (sum(end["won"] for end in ends) + prior_deals * _company_rate(deal)) / (len(ends) + prior_deals)


@reference
def owner_win_rate(deal: Known) -> Value:
    return _win_rate(deal, "owner_id", 20)


@reference
def owner_open_deals(deal: Known) -> Value:
    owner = deal.value("owner_id")
    return float(deal.company.open_with("owner_id", owner, deal.as_of)) if known(owner) else None


@reference
def owner_wins_90d(deal: Known) -> Value:
    ends = deal.closings("owner_id", days=90)
    return float(sum(end["won"] for end in ends)) if known(deal.value("owner_id")) else None


@reference
def owner_tenure_days(deal: Known) -> Value:
    hired_at = deal.owner("hired_at")
    if not known(hired_at):
        return None
    return float((deal.today - pd.Timestamp(deal.company.tables.calendar.local_day(hired_at))).days)


@reference
def owner_known(deal: Known) -> Value:
    return 1.0 if known(deal.value("owner_id")) else 0.0


@reference
def segment(deal: Known) -> Value:
    return deal.account("segment")


@reference
def industry(deal: Known) -> Value:
    return deal.account("industry")


@reference
def region(deal: Known) -> Value:
    return deal.account("region")


@reference
def log_employees(deal: Known) -> Value:
    return log(deal.account("employees"))


@reference
def account_win_rate(deal: Known) -> Value:
    return _win_rate(deal, "account_id", 3)


@reference
def account_wins(deal: Known) -> Value:
    return float(sum(e["won"] for e in deal.closings("account_id"))) if known(deal.value("account_id")) else None


@reference
def days_since_account_win(deal: Known) -> Value:
    wins = [end["at"] for end in deal.closings("account_id") if end["won"]]
    return deal.days_since(max(wins)) if wins and known(deal.value("account_id")) else None


@reference
def account_open_siblings(deal: Known) -> Value:
    account = deal.value("account_id")
    return deal.company.open_with("account_id", account, deal.as_of) - 1.0 if known(account) else None
