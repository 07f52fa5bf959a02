"""The company's calendar: local midnights, fiscal periods, and the choices of `calendar.json`.

Every interval is `[start, end)` between midnights in the company's time zone. A fiscal year is named by the calendar
year in which it ends: with a fiscal year starting in February, 2026-02-01 begins `FY2027 Q1`.
"""

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pandas as pd

from crm.errors import DataUnusable, Detail, UsageError

DATE_PATTERN = r"^\d{4}-\d{2}-\d{2}$"
INSTANT_PATTERN = r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?\s?([Zz]|[+-]\d{2}(:?\d{2})?)?$"
FIRST_YEAR, LAST_YEAR = 1900, 2199
INSTANT = "datetime64[us, UTC]"
DATE = "datetime64[us]"

_A_MONDAY = date(1970, 1, 5)
_MONTHS = {"quarter": 3, "month": 1}


@dataclass(frozen=True)
class Period:
    """A fiscal period `[start, end)`: its local days, its label, and its midnights as instants in UTC."""

    start: date
    end: date
    label: str
    start_at: pd.Timestamp
    end_at: pd.Timestamp


@dataclass(frozen=True)
class Calendar:
    """What `calendar.json` says, but for `as_of`, and the periods of `periods.csv`.

    Attributes
    ----------
    base_currency : currency all money is brought to.
    time_zone : IANA name; midnights and local days are taken there.
    fiscal_year_start_month : 1..12.
    period : `quarter` or `month`, where no periods are listed.
    measure : the number column of deals that bookings sum.
    rates : `plan` (the exchange rate at the period's start) or `dated` (at the moment itself).
    books_close_days : days after a period's end until its bookings are final.
    stable_fields : deal fields that closing never overwrites.
    calls : `cumulative` (a best case contains the commit) or `per_category`.
    listed_periods : (start, end, label) of `periods.csv`, oldest first, without gaps. Before the first and after the
        last of them periods continue by the rule of `period`, counted from that edge.
    """

    base_currency: str
    time_zone: str = "UTC"
    fiscal_year_start_month: int = 1
    period: Literal["quarter", "month"] = "quarter"
    measure: str = "amount"
    rates: Literal["plan", "dated"] = "plan"
    books_close_days: int = 10
    stable_fields: tuple[str, ...] = ()
    calls: Literal["cumulative", "per_category"] = "cumulative"
    listed_periods: tuple[tuple[date, date, str], ...] = ()

    def __post_init__(self) -> None:
        problems = _problems(self)
        if problems:
            raise DataUnusable("The calendar cannot be used.", *problems)

    # -- days and instants ---------------------------------------------------------------------------------------

    def midnight(self, day: date) -> pd.Timestamp:
        """The first instant of a local day, in UTC."""
        return _midnight(self.time_zone, date(day.year, day.month, day.day))

    def midnights(self, days: pd.Series) -> pd.Series:
        """The first instants (UTC) of naive local days; NaT stays NaT."""
        codes, unique = pd.factorize(days.astype(DATE))
        starts = pd.Series([self.midnight(day) for day in unique], dtype=INSTANT).array
        return pd.Series(starts.take(codes, allow_fill=True), index=days.index, dtype=INSTANT)

    def local_day(self, instant: pd.Timestamp) -> date:
        """The local day on which an instant falls."""
        return instant.tz_convert(self.time_zone).date()

    def local_days(self, instants: pd.Series) -> pd.Series:
        """The local days (naive midnights) on which instants fall; NaT stays NaT."""
        return instants.dt.tz_convert(self.time_zone).dt.tz_localize(None).dt.normalize().astype(DATE)

    def parse_moment(self, text: str, *, where: str = "moment") -> pd.Timestamp:
        """A moment as typed by a user: a date is its local midnight, a timestamp without an offset is UTC.

        Parameters
        ----------
        where : the field or option it was typed in.

        Raises
        ------
        UsageError
            If the text is neither.
        """
        written = text.strip()
        try:
            if re.match(DATE_PATTERN, written) and FIRST_YEAR <= int(written[:4]) <= LAST_YEAR:
                return self.midnight(date.fromisoformat(written))
            if re.match(INSTANT_PATTERN, written) and FIRST_YEAR <= int(written[:4]) <= LAST_YEAR:
                moment = pd.Timestamp(written.upper())
                moment = moment.tz_localize("UTC") if moment.tz is None else moment.tz_convert("UTC")
                return moment.as_unit("us")
        except ValueError:
            pass
        rule = "a moment is a date (YYYY-MM-DD) or an ISO 8601 timestamp"
        detail = Detail(where, text, rule, "Write for example 2026-01-31 or 2026-01-31T09:00:00Z.")
        raise UsageError(f"{text!r} is not a moment.", detail)

    # -- periods -------------------------------------------------------------------------------------------------

    def period_holding(self, day: date) -> Period:
        """The period that holds a local day."""
        listed = self.listed_periods
        if listed and listed[0][0] <= day < listed[-1][1]:
            start, end, label = listed[bisect_right([first for first, _, _ in listed], day) - 1]
            return self._period(start, end, label)
        anchor = date(1970, self.fiscal_year_start_month, 1)
        if listed:
            anchor = listed[0][0] if day < listed[0][0] else listed[-1][1]
        step = _MONTHS[self.period]
        count = ((day.year - anchor.year) * 12 + day.month - anchor.month) // step
        if _months_later(anchor, count * step) > day:
            count -= 1
        start, end = _months_later(anchor, count * step), _months_later(anchor, (count + 1) * step)
        return self._period(start, end, self._label(start, end))

    def period_of(self, instant: pd.Timestamp) -> Period:
        """The period that holds an instant."""
        return self.period_holding(self.local_day(instant))

    def period_starting(self, day: date) -> Period:
        """The period that starts on a local day.

        Raises
        ------
        UsageError
            If no period starts there.
        """
        period = self.period_holding(day)
        if period.start != date(day.year, day.month, day.day):
            following = self.next_period(period)
            rule = "a period is named by the day it starts"
            next_step = f"Use {period.start} ({period.label}) or {following.start} ({following.label})."
            raise UsageError(f"No period starts on {day}.", Detail("period_start", str(day), rule, next_step))
        return period

    def next_period(self, period: Period) -> Period:
        """The period that starts where this one ends."""
        return self.period_holding(period.end)

    def previous_period(self, period: Period) -> Period:
        """The period that ends where this one starts."""
        return self.period_holding(period.start - timedelta(days=1))

    def periods_between(self, first: pd.Timestamp, last: pd.Timestamp) -> list[Period]:
        """All periods that overlap `[first, last)`, oldest first; the one holding `first` is always there."""
        periods = [self.period_of(first)]
        while periods[-1].end_at < last:
            periods.append(self.next_period(periods[-1]))
        return periods

    def period_frame(self, instants: pd.Series) -> pd.DataFrame:
        """The period of each instant.

        Returns
        -------
        start, end (local days, naive), start_at, end_at (UTC), with the index of `instants`; NaT for NaT.
        """
        known = instants.dropna()
        periods = self.periods_between(known.min(), known.max() + pd.Timedelta(1, "us")) if len(known) else []
        columns = {"start": DATE, "end": DATE, "start_at": INSTANT, "end_at": INSTANT}
        listed = {name: pd.Series([getattr(p, name) for p in periods], dtype=dtype) for name, dtype in columns.items()}
        place = listed["start_at"].searchsorted(known, side="right") - 1
        taken = pd.DataFrame({name: values.array.take(place) for name, values in listed.items()}, index=known.index)
        return taken if len(known) == len(instants) else taken.reindex(instants.index)

    def moments(self, first: pd.Timestamp, last: pd.Timestamp, every_days: int = 7) -> list[pd.Timestamp]:
        """Local midnights within `[first, last]`: Mondays for 7, else every n-th day counted from a fixed Monday."""
        day = self.local_day(first)
        day += timedelta(days=-(day - _A_MONDAY).days % every_days)
        found = []
        while (moment := self.midnight(day)) <= last:
            if moment >= first:
                found.append(moment)
            day += timedelta(days=every_days)
        return found

    def _period(self, start: date, end: date, label: str) -> Period:
        return Period(start, end, label, self.midnight(start), self.midnight(end))

    def _label(self, start: date, end: date) -> str:
        middle = start + (end - start) / 2
        if self.period == "month":
            return f"{middle:%Y-%m}"
        months_in = (middle.month - self.fiscal_year_start_month) % 12
        year_begins = middle.year if middle.month >= self.fiscal_year_start_month else middle.year - 1
        fiscal_year = year_begins if self.fiscal_year_start_month == 1 else year_begins + 1
        return f"FY{fiscal_year} Q{months_in // 3 + 1}"

    # -- storage -------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, object]:
        """The calendar as JSON values; `from_dict` reads it back."""
        stored = asdict(self)
        stored["stable_fields"] = list(self.stable_fields)
        stored["listed_periods"] = [[str(start), str(end), label] for start, end, label in self.listed_periods]
        return stored

    @staticmethod
    def from_dict(stored: Mapping[str, object]) -> "Calendar":
        """A calendar from JSON values; what is absent takes its default.

        Raises
        ------
        DataUnusable
            For unknown keys, a time zone that does not exist, or any other value that breaks its rule.
        """
        known = {field.name for field in fields(Calendar)}
        unknown = [
            Detail(
                f"calendar.json, {key}",
                None if value is None else str(value),
                f"the keys are as_of, {', '.join(sorted(known - {'listed_periods'}))}",
                "Remove or rename the key.",
            )
            for key, value in stored.items()
            if key not in known
        ]
        if unknown:
            raise DataUnusable("calendar.json has keys that are not known.", *unknown)
        values = dict(stored)
        stable = values.get("stable_fields", ())
        values["stable_fields"] = tuple(stable) if isinstance(stable, (list, tuple)) else stable
        listed = values.get("listed_periods", ())
        if isinstance(listed, (list, tuple)):
            values["listed_periods"] = tuple(
                (date.fromisoformat(str(start)), date.fromisoformat(str(end)), str(label))
                for start, end, label in listed
            )
        return Calendar(**values)  # type: ignore[arg-type]


@lru_cache(maxsize=200_000)
def _midnight(time_zone: str, day: date) -> pd.Timestamp:
    # fold=0 gives the first of two midnights, and in a gap the instant at which the clock jumps: the day's start.
    local = datetime.combine(day, time(), tzinfo=ZoneInfo(time_zone))
    return pd.Timestamp(local.astimezone(UTC)).as_unit("us")


def _months_later(day: date, months: int) -> date:
    count = day.year * 12 + day.month - 1 + months
    first = date(count // 12, count % 12 + 1, 1)
    return first + timedelta(days=min(day.day, _days_in_month(first)) - 1)


def _days_in_month(first: date) -> int:
    return (date(first.year + first.month // 12, first.month % 12 + 1, 1) - first).days


def _is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _is_zone(name: object) -> bool:
    if not _is_text(name):
        return False
    try:
        ZoneInfo(str(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _problems(calendar: Calendar) -> list[Detail]:
    stable = calendar.stable_fields
    rules = {
        "base_currency": (_is_text(calendar.base_currency), "a currency code such as EUR"),
        "time_zone": (_is_zone(calendar.time_zone), "an IANA time zone such as Europe/Amsterdam"),
        "fiscal_year_start_month": (_is_whole(calendar.fiscal_year_start_month, 1, 12), "a month, 1 to 12"),
        "period": (calendar.period in ("quarter", "month"), "quarter or month"),
        "measure": (_is_text(calendar.measure), "a number column of deals"),
        "rates": (calendar.rates in ("plan", "dated"), "plan or dated"),
        "books_close_days": (_is_whole(calendar.books_close_days, 0, 366), "whole days, 0 to 366"),
        "stable_fields": (isinstance(stable, tuple) and all(map(_is_text, stable)), "a list of deal fields"),
        "calls": (calendar.calls in ("cumulative", "per_category"), "cumulative or per_category"),
    }
    problems = [
        Detail(f"calendar.json, {key}", str(getattr(calendar, key)), f"must be {rule}", "Correct calendar.json.")
        for key, (fine, rule) in rules.items()
        if not fine
    ]
    for start, end, label in calendar.listed_periods:
        if start >= end:
            problems.append(_period_problem(label, f"{start} to {end}", "a period ends after it starts"))
    for (_, end, label), (start, _, following) in pairwise(calendar.listed_periods):
        if end != start:
            rule = "each period starts where the one before it ends"
            problems.append(_period_problem(f"{label} and {following}", f"{end} and {start}", rule))
    return problems


def _period_problem(where: str, value: str, rule: str) -> Detail:
    next_step = "Correct the periods table; where the whole calendar changed, import with --full."
    return Detail(f"periods, {where}", value, rule, next_step)
