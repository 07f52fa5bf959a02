"""Values as a CRM writes them, rewritten as an import reads them: US dates, local times, decimal commas, units."""

import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pandas as pd

from crm.calendar import DATE_PATTERN, INSTANT, INSTANT_PATTERN, Calendar
from crm.values import Kind, format_values

_SPACES = " \u00a0\u202f"
SPECIAL_FORMATS = ("iso", "unix_s", "unix_ms")
"""Formats that are no strptime pattern: as an import reads instants by itself, and counts since 1970."""


@dataclass(frozen=True)
class Formats:
    """How values are written; the defaults are what an import reads by itself.

    Attributes
    ----------
    date, instant : strptime patterns or special formats, any of which a value may have; none: ISO 8601.
    time_zone : of times written without an offset; None: UTC. A date made from such a time is the local day of the
        company's time zone.
    decimal, thousands : signs within numbers; `thousands` None: there are none.
    units : what may stand before or after a number, such as a currency sign.
    times : what numbers are multiplied by; a fraction may be written "1/60".
    delimiter, encoding : of CSV files.
    """

    date: tuple[str, ...] = ()
    instant: tuple[str, ...] = ()
    time_zone: str | None = None
    decimal: str = "."
    thousands: str | None = None
    units: tuple[str, ...] = ()
    times: float | str | None = None
    delimiter: str = ","
    encoding: str = "utf-8"


@dataclass(frozen=True)
class Rewritten:
    """Values as an import reads them and, where a value could not be rewritten, the rule it breaks (else NaN)."""

    text: pd.Series
    problems: pd.Series


def rewrite_values(text: pd.Series, kind: Kind, formats: Formats, calendar: Calendar) -> Rewritten:
    """Rewrite text of a kind; empty stays empty, a refused value becomes empty with its rule."""
    nothing_to_do = {
        "date": not formats.date and formats.time_zone is None,
        "instant": not formats.instant and formats.time_zone is None,
    }
    is_number = kind in ("number", "integer", "share")
    plain_numbers = formats.decimal == "." and not (formats.thousands or formats.units or formats.times)
    if nothing_to_do.get(kind, not is_number or plain_numbers):
        return Rewritten(text, _none_refused(text))
    # Each distinct text is rewritten once.
    codes, unique = pd.factorize(text)
    once = pd.Series(unique, dtype="str").str.strip()
    once = once.mask(once == "")
    if is_number:
        done = _rewrite_numbers(once, formats)
    else:
        done = _rewrite_days(once, formats, calendar) if kind == "date" else _rewrite_instants(once, formats)
    spread = (
        pd.Series(series.array.take(codes, allow_fill=True), index=text.index) for series in (done.text, done.problems)
    )
    return Rewritten(*spread)


def _none_refused(text: pd.Series) -> pd.Series:
    return pd.Series(np.nan, index=text.index, dtype="str")


def _read_times(text: pd.Series, patterns: tuple[str, ...], zone: str) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Wall-clock values as instants: the first pattern's that fits, whether it was a day alone, and refusals."""
    moments = pd.Series(pd.NaT, index=text.index, dtype=INSTANT)
    is_day = pd.Series(False, index=text.index)
    problems = _none_refused(text)
    for pattern in patterns or ("iso",):
        found, day_alone = _read_pattern(text, pattern, zone)
        problems[moments.notna() & found.notna() & (found != moments)] = (
            f"could be read in two ways, by {' and '.join(patterns)}"
        )
        is_day = is_day.mask(moments.isna() & found.notna(), day_alone)
        moments = moments.fillna(found)
    problems[text.notna() & moments.isna()] = f"written as {' or '.join(patterns or ('ISO 8601',))}, a day that exists"
    return moments, is_day, problems


def _read_pattern(text: pd.Series, pattern: str, zone: str) -> tuple[pd.Series, pd.Series]:
    if pattern.startswith("unix"):
        counts = pd.to_numeric(text.where(text.str.fullmatch(r"-?\d{1,14}").fillna(False).astype(bool)))
        found = pd.to_datetime(counts.astype("Int64"), unit="ms" if pattern == "unix_ms" else "s", utc=True)
        return found.astype(INSTANT), pd.Series(False, index=text.index)
    if pattern == "iso":
        return _read_iso(text, zone)
    naive = pd.to_datetime(text, format=pattern, errors="coerce", utc="%z" in pattern)
    has_time = any(code in pattern for code in ("%H", "%I", "%T", "%X", "%c"))
    found = naive if "%z" in pattern else _in_zone(naive, zone if has_time else "UTC")
    return found.astype(INSTANT), pd.Series(not has_time, index=text.index)


def _read_iso(text: pd.Series, zone: str) -> tuple[pd.Series, pd.Series]:
    day_alone = text.str.match(DATE_PATTERN).fillna(False).astype(bool)
    timed = text.str.match(INSTANT_PATTERN).fillna(False).astype(bool)
    has_offset = timed & text.str.slice(11).str.contains("[Zz+-]").fillna(False).astype(bool)
    with_offset = pd.to_datetime(text.where(has_offset).str.upper(), format="ISO8601", utc=True, errors="coerce")
    local = pd.to_datetime(text.where(timed & ~has_offset), format="ISO8601", errors="coerce")
    days = pd.to_datetime(text.where(day_alone), format="%Y-%m-%d", errors="coerce")
    found = with_offset.astype(INSTANT).fillna(_in_zone(local, zone)).fillna(_in_zone(days, "UTC"))
    return found, day_alone


def _in_zone(local: pd.Series, zone: str) -> pd.Series:
    # Of an hour that comes twice the later one is meant: nothing may be known too early.
    stamps = local.astype("datetime64[us]")
    return stamps.dt.tz_localize(zone, ambiguous=np.zeros(len(stamps), dtype=bool), nonexistent="shift_forward").astype(
        INSTANT
    )


def _rewrite_instants(text: pd.Series, formats: Formats) -> Rewritten:
    moments, is_day, problems = _read_times(text, formats.instant, formats.time_zone or "UTC")
    # A day alone stays one: the import knows the company's midnights.
    written = format_values(moments, "instant").where(~is_day, moments.dt.strftime("%Y-%m-%d"))
    return Rewritten(written.mask(problems.notna()).astype("str"), problems)


def _rewrite_days(text: pd.Series, formats: Formats, calendar: Calendar) -> Rewritten:
    moments, is_day, problems = _read_times(text, formats.date, formats.time_zone or "UTC")
    days = moments.dt.tz_localize(None)
    if formats.time_zone is not None:
        days = days.where(is_day, calendar.local_days(moments))
    written = days.dt.strftime("%Y-%m-%d")
    return Rewritten(written.mask(problems.notna()).astype("str"), problems)


def _rewrite_numbers(text: pd.Series, formats: Formats) -> Rewritten:
    unit = "|".join(map(re.escape, sorted(formats.units, key=len, reverse=True)))
    around = rf"(?:{unit})?" if unit else ""
    gap = rf"[{_SPACES}]*"
    # Units stand around a number, never within: 12 EUR 34 is no number.
    bare = text.str.replace(rf"^([+-]?){gap}{around}{gap}([+-]?)(.*?){gap}{around}$", r"\1\2\3", regex=True)
    thousands = f"[{_SPACES}]" if formats.thousands == " " else re.escape(formats.thousands or "")
    point = re.escape(formats.decimal)
    grouped = rf"\d{{1,3}}(?:{thousands}\d{{3}})+|" if thousands else ""
    fits = bare.str.fullmatch(rf"[+-]?(?:(?:{grouped}\d+)(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?")
    fits = fits.fillna(False).astype(bool)
    number = bare.where(fits)
    if thousands:
        number = number.str.replace(thousands, "", regex=True)
    number = number.str.replace(formats.decimal, ".", regex=False)
    if formats.times is not None:
        factor = Fraction(str(formats.times))
        number = number.map(lambda one: repr(float(Fraction(one.rstrip(".")) * factor)), na_action="ignore").astype(
            "str"
        )
    problems = _none_refused(text)
    separators = f", thousands separated by {formats.thousands!r}" if formats.thousands else ""
    problems[text.notna() & ~fits] = f"a number is written with the decimal sign {formats.decimal!r}{separators}"
    return Rewritten(number, problems)


def is_factor(times: float | str) -> bool:
    """Whether numbers can be multiplied by it: a number, or a fraction such as "1/60"."""
    try:
        return Fraction(str(times)) != 0
    except (ValueError, ZeroDivisionError):
        return False
