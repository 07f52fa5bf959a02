"""How a feature is declared: once, as an as-of aggregate over dated events, never as a loop over days.

A feature is a function of a `Deal` that returns a `Term`; its docstring is its description. From that one declaration
follow the SQL, the documentation, the reason shown to people and the tests that it never sees the future::

    @feature(unit="count", higher_is="worse", reason="close date pushed {value:.0f} {time|times}")
    def close_date_pushes(deal: Deal) -> Term:
        \"\"\"Times the close date moved later, as known at the as-of moment.\"\"\"
        return deal.changes("close_date").where("new_number > old_number").count()

Terms are SQL in the dialect that DuckDB and Spark share: instants are epoch seconds, dates are days since 1970, and an
aggregate reads rows at or before the as-of moment, nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from features.topics import TOPIC_OF

Direction = Literal["better", "worse", "neutral"]
Control = Literal["seller", "buyer", "clock"]
Audience = Literal["everyone", "chain", "none"]

DAY = 86_400.0


@dataclass(frozen=True)
class Term:
    """A value per deal and as-of moment: an SQL template whose `{0}`, `{1}` … are the parts it is made of."""

    template: str
    parts: tuple["Term", ...] = ()

    def __add__(self, other: "Term | float") -> "Term":
        return self._with("({0} + {1})", other)

    def __sub__(self, other: "Term | float") -> "Term":
        return self._with("({0} - {1})", other)

    def __mul__(self, other: "Term | float") -> "Term":
        return self._with("({0} * {1})", other)

    def __truediv__(self, other: "Term | float") -> "Term":
        """Quotient; unknown where the divisor is zero."""
        return self._with("({0} / NULLIF(CAST({1} AS DOUBLE), 0))", other)

    def log(self) -> "Term":
        """Natural logarithm of positive values; unknown otherwise."""
        return self._with("CASE WHEN {0} > 0 THEN LN({0}) END")

    def or_else(self, other: "Term | float") -> "Term":
        """The value, or the other one where it is unknown."""
        return self._with("COALESCE({0}, {1})", other)

    def where_known(self, other: "Term") -> "Term":
        """The value, but unknown where the other one is."""
        return self._with("CASE WHEN {1} IS NOT NULL THEN {0} END", other)

    def is_known(self) -> "Term":
        """1 where the value is known, else 0."""
        return self._with("CASE WHEN {0} IS NULL THEN 0 ELSE 1 END")

    def _with(self, template: str, *others: "Term | float") -> "Term":
        return Term(template, (self, *(as_term(other) for other in others)))


def as_term(value: "Term | float") -> Term:
    """A number as a term; terms as they are."""
    return value if isinstance(value, Term) else Term(number(value))


def number(value: float) -> str:
    """A number in SQL, a double in every dialect (without an exponent it would be a decimal)."""
    return f"{float(value)!r}" if "e" in repr(float(value)) else f"{float(value)!r}e0"


@dataclass(frozen=True)
class Column(Term):
    """A column that stands ready per deal and moment.

    `relation` is spine (the moment itself), state (deal fields as of then), stage (of the deal as of then), money (the
    amount in base currency), custom (a field of this CRM alone), account or owner (as they stand).
    """

    relation: str = "spine"


@dataclass(frozen=True)
class Aggregate(Term):
    """An aggregate of one source's rows up to the as-of moment; `template` is the SQL function with its argument.

    Attributes
    ----------
    entity : what the rows belong to: the deal itself, or a party to it (`features.parties`).
    source : of the deal: opening, change, activity, contact or line; of a party: its own.
    where : SQL conditions on a row, all of which must hold.
    days : length of the window that ends at the moment; None = everything before it.
    recorded : what must have been recorded (keys of `Inputs.since`): of a deal, for the aggregate to be known, see
        `Events`; of a party, from an ended deal's beginning on for it to count.
    without_rows : the value where the source is known but has no such row; None = unknown.
    parts : the instant after which rows count, if any; made of openings and changes.
    """

    entity: str = "deal"
    source: str = ""
    where: tuple[str, ...] = ()
    days: float | None = None
    recorded: tuple[str, ...] = ()
    without_rows: float | None = None


@dataclass(frozen=True)
class Events:
    """The rows of one source that belong to a deal or to one of its parties.

    A number of rows is known only if the source was being recorded all the time the rows may fall into: from when the
    deal was created, or from the window's beginning. Until then it is unknown, not zero.
    """

    entity: str
    source: str
    conditions: tuple[str, ...] = ()
    days: float | None = None
    recorded: tuple[str, ...] = ()
    since: Term | None = None

    def where(self, condition: str) -> "Events":
        """Only the rows for which the SQL condition holds."""
        return replace(self, conditions=(*self.conditions, condition))

    def telling(self, column: str) -> "Events":
        """Only the rows of a deal that have the column; known once any row of the source has it."""
        recorded = (*self.recorded, f"{self.source}:{column}")
        return replace(self.where(f"{column} IS NOT NULL"), recorded=recorded)

    def followed(self, field: str) -> "Events":
        """Only the deals of a party whose changes of a field were recorded from their beginning."""
        return replace(self, recorded=(*self.recorded, f"change:{field}"))

    def within(self, *, days: float) -> "Events":
        """Only the rows of the last `days` days: moment >= as_of - days."""
        return replace(self, days=days)

    def after(self, instant: Term) -> "Events":
        """Only the rows later than an instant of the deal, made of its openings and changes; none if it is unknown."""
        return replace(self, since=instant)

    def count(self) -> Term:
        """Number of rows."""
        return self._aggregate("COUNT(*)", without_rows=0.0)

    def distinct(self, column: str) -> Term:
        """Number of different values of a column; of the deal's own rows only."""
        return self._aggregate(f"COUNT(DISTINCT {column})", without_rows=0.0)

    def sum(self, column: str) -> Term:
        """Sum of a column; zero without rows."""
        return self._aggregate(f"SUM({column})", without_rows=0.0)

    def mean(self, column: str) -> Term:
        """Mean of a column over the rows that have it; unknown without any."""
        known = self.where(f"{column} IS NOT NULL")
        return known.sum(column) / known.count()

    def last(self, column: str) -> Term:
        """The column's value in the last row that has one, of the deal's own rows only; unknown without any."""
        return self.where(f"{column} IS NOT NULL")._aggregate(f"MAX_BY({column}, sequence)")

    def first_at(self) -> Term:
        """Instant of the first row, epoch seconds; unknown without rows."""
        return self._aggregate("MIN(moment)")

    def last_at(self) -> Term:
        """Instant of the last row, epoch seconds; unknown without rows."""
        return self._aggregate("MAX(moment)")

    def _aggregate(self, function: str, *, without_rows: float | None = None) -> Aggregate:
        return Aggregate(
            function,
            () if self.since is None else (self.since,),
            entity=self.entity,
            source=self.source,
            where=self.conditions,
            days=self.days,
            recorded=self.recorded,
            without_rows=without_rows,
        )


@dataclass(frozen=True)
class Party:
    """Whom or what a deal has in common with others: its owner, account, segment, stage …, or the whole company.

    Outcomes have the columns kind (opened, won, lost), created (of the deal; unknown if it was loaded in bulk) and, of
    ended deals, amount_base, days_open, pushes; passages, one for every stage that an ended deal had been in, have kind
    (won, lost) and days. A window is unknown while it reaches back before the first deal of all.
    """

    name: str

    def attribute(self, column: str) -> Term:
        """A column of the accounts or users table, as it stands."""
        return Column(column, relation=self.name)

    def open_deals(self) -> Term:
        """Number of deals this party has open: those that came to it less those that ended or went to another."""
        return Events(self.name, "outcome").sum("step")

    def ended(self) -> Events:
        """Deals (or passages) of this party at the moment the deal was won, lost or deleted."""
        return Events(self.name, "outcome").where("kind IN ('won', 'lost')")

    def won(self) -> Events:
        """Deals (or passages) of this party at the moment the deal was won."""
        return Events(self.name, "outcome").where("kind = 'won'")


class Deal:
    """What a feature may read of one deal at one as-of moment."""

    owner = Party("owner")
    account = Party("account")
    segment = Party("segment")
    company = Party("company")
    passed_stage = Party("passed_stage")
    as_of: Term = Column("as_of")
    opened_at: Term = Aggregate("MAX(trusted)", source="opening")
    created_at: Term = Aggregate("CASE WHEN COUNT(*) = COUNT(trusted) THEN MIN(moment) END", source="opening")
    amount_base: Term = Column("amount_base", relation="money")

    def value(self, field: str) -> Term:
        """The value of a deal field as of the moment; unknown where the as-of rule says so."""
        return Column(field, relation="state")

    def custom(self, field: str) -> Term:
        """The value of a field that only this CRM has, as of the moment; unknown where the as-of rule says so."""
        return Column(field, relation="custom")

    def clock(self, column: str) -> Term:
        """A property of the as-of moment itself: where it lies in the fiscal period."""
        return Column(column, relation="spine")

    def stage(self, column: str) -> Term:
        """A column of the stages table for the deal's stage as of the moment."""
        return Column(column, relation="stage")

    def changes(self, field: str) -> Events:
        """Recorded changes of one field: old_value, new_value, old_number, new_number.

        Numbers can be compared: of dates days, of stages the position in the pipeline, of forecast categories their
        rank.
        """
        return Events("deal", "change", recorded=(f"change:{field}",)).where(f"field = '{field}'")

    def activities(self, *types: str, direction: str | None = None) -> Events:
        """Activities known at the moment, of the given types (all if none) and direction.

        Columns type, direction, contact_id, duration_minutes, is_first (of this contact), reply_days (from
        our first unanswered message to this answer of the buyer), unanswered (our messages since the buyer's last).
        """
        events = Events("deal", "activity", recorded=("activity",))
        if types:
            names = ", ".join(f"'{kind}'" for kind in types)
            events = events.where(f"type IN ({names})")
            events = replace(events, recorded=(*events.recorded, *(f"activity:type={kind}" for kind in types)))
        if direction is None:
            return events
        recorded = (*events.recorded, f"activity:direction={direction}")
        return replace(events.where(f"direction = '{direction}'"), recorded=recorded)

    def people(self) -> Events:
        """Activities with a contact of the buyer."""
        return self.activities().telling("contact_id")

    def contacts(self) -> Events:
        """Contacts added to the deal, columns contact_id, role, is_first; rows without a date are not used."""
        return Events("deal", "contact", recorded=("contact",))

    def lines(self) -> Events:
        """Line items added to the deal: product, amount, discount; rows without a date are not used."""
        return Events("deal", "line", recorded=("line",))

    def days_since(self, instant: Term) -> Term:
        """Days from an instant to the as-of moment."""
        return (self.as_of - instant) / DAY


Declaration = Callable[[Deal], Term]


@dataclass(frozen=True)
class Feature:
    """A declared feature.

    Attributes
    ----------
    name : unique, the name of the declaring function.
    family : the module it stands in.
    description : first paragraph of its docstring.
    unit : unit of the value; "category" for text.
    higher_is : whether a higher value speaks for winning.
    controlled_by : who moves it: the seller, the buyer or the clock.
    audience : who may read it as a reason: everyone, only the management chain, nobody.
    reason : sentence with {value}, shown when the feature moves a score (`features.wording`).
    at_zero, below : what is said instead where the value reads as zero, and where it is below; empty = the reason.
    missing : what an unknown value means.
    term : the declaration, evaluated.
    """

    name: str
    family: str
    description: str
    unit: str
    higher_is: Direction
    controlled_by: Control
    audience: Audience
    reason: str
    at_zero: str
    below: str
    missing: str
    term: Term

    @property
    def kind(self) -> Literal["number", "category"]:
        """category (text) or number (float64)."""
        return "category" if self.unit == "category" else "number"

    @property
    def sentences(self) -> tuple[str, ...]:
        """All that is ever said of it: its value in words, and what it means that it is unknown."""
        return tuple(each for each in (self.reason, self.at_zero, self.below, self.missing) if each)

    @property
    def topic(self) -> str:
        """What the feature tells of, together with others; empty if alone."""
        return TOPIC_OF.get(self.name, "")


def feature(
    *,
    unit: str,
    reason: str,
    at_zero: str = "",
    below: str = "",
    higher_is: Direction = "neutral",
    controlled_by: Control = "seller",
    audience: Audience = "everyone",
    missing: str = "the CRM does not say",
) -> Callable[[Declaration], Feature]:
    """Declare a feature; see the module's docstring for an example and `Feature` for the meaning of each argument."""

    def declare(declaration: Declaration) -> Feature:
        description = " ".join((declaration.__doc__ or "").split("\n\n")[0].split())
        if not description:
            raise ValueError(f"feature {declaration.__name__}: a feature needs a docstring that says what it means")
        return Feature(
            name=declaration.__name__,
            family=declaration.__module__.rsplit(".", 1)[-1],
            description=description,
            unit=unit,
            higher_is=higher_is,
            controlled_by=controlled_by,
            audience=audience,
            reason=reason,
            at_zero=at_zero,
            below=below,
            missing=missing,
            term=declaration(Deal()),
        )

    return declare
