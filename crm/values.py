"""Values as text and as typed columns: what can be read in one way only is read, everything else is refused."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from crm.calendar import DATE, DATE_PATTERN, FIRST_YEAR, INSTANT, INSTANT_PATTERN, LAST_YEAR, Calendar

Kind = Literal["id", "text", "instant", "date", "number", "integer", "share", "boolean"]

DTYPES: dict[Kind, str] = {
    "id": "str",
    "text": "str",
    "instant": INSTANT,
    "date": DATE,
    "number": "float64",
    "integer": "float64",
    "share": "float64",
    "boolean": "boolean",
}


@dataclass(frozen=True)
class Parsed:
    """Typed values and, for each value that could not be read, the rule it breaks (NaN where it is fine)."""

    values: pd.Series
    problems: pd.Series


_TRUE, _FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")
_NUMBER = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"
_RULES = {
    "date": "a date is written YYYY-MM-DD, without a time",
    "instant": "a timestamp is written in ISO 8601, such as 2026-01-31T09:00:00Z",
    "slashes": "could be day/month or month/day",
    "day": "no such day or time",
    "year": f"the year lies between {FIRST_YEAR} and {LAST_YEAR}",
    "number": "a number is written with digits and a decimal point",
    "comma": "a number is written with a decimal point and without thousands separators; a comma could be either",
    "finite": "a number is finite; leave it empty if unknown",
    "integer": "a whole number",
    "share": "a share lies between 0 and 1",
    "boolean": "true or false",
}


def parse_values(raw_text: pd.Series, kind: Kind, calendar: Calendar) -> Parsed:
    """Read text as values of a kind; empty is unknown, and what could be read in two ways is refused.

    A timestamp without an offset is UTC; a date alone in a timestamp column is its local midnight.

    Parameters
    ----------
    raw_text : `str` series, NaN or empty = unknown.

    Returns
    -------
    Parsed, both series with the index of `raw_text`; the value of a refused text is unknown.
    """
    if kind in ("id", "text"):
        return Parsed(raw_text.astype("str"), _no_problems(raw_text))
    # Each distinct text is read once: real columns repeat days, stages and amounts.
    codes, unique = pd.factorize(raw_text)
    if not len(unique):
        return Parsed(pd.Series(None, index=raw_text.index, dtype=DTYPES[kind]), _no_problems(raw_text))
    text = pd.Series(unique, dtype="str").str.strip()
    text = text.mask(text == "")
    readers = {"instant": _read_instants, "date": _read_dates, "boolean": _read_booleans}
    parsed = readers[kind](text, calendar) if kind in readers else _read_numbers(text, kind)
    values = pd.Series(parsed.values.array.take(codes, allow_fill=True), index=raw_text.index)
    problems = pd.Series(parsed.problems.array.take(codes, allow_fill=True), index=raw_text.index)
    return Parsed(values, problems)


def format_values(values: pd.Series, kind: Kind) -> pd.Series:
    """Typed values as text that `parse_values` reads back; unknown stays NaN."""
    if kind in ("id", "text"):
        return values
    array = pa.array(values, from_pandas=True)
    if kind == "date":
        array = array.cast(pa.date32())
    elif kind == "instant" and pc.all(pc.equal(pc.microsecond(array), 0)).as_py() is not False:
        whole = pc.all(pc.equal(pc.millisecond(array), 0)).as_py() is not False
        array = array.cast(pa.timestamp("s" if whole else "ms", "UTC"))
    text = pc.replace_substring(array.cast(pa.string()), " ", "T")
    return pd.Series(text.to_pandas().array, index=values.index, dtype="str")


def infer_kind(raw_text: pd.Series, calendar: Calendar) -> Kind | None:
    """The narrowest kind that reads every value of a custom field; None if it holds no value at all.

    Digits that are not a quantity stay text: a leading zero (`0042`), or more than 15 digits.
    """
    text = raw_text.dropna()
    text = text[text.str.strip() != ""]
    if text.empty:
        return None
    code_like = text.str.contains(r"^[+-]?0\d|^\s*\d{16,}\s*$", regex=True).any()
    candidates: tuple[Kind, ...] = ("date", "instant") if code_like else ("number", "date", "instant", "boolean")
    # Most columns are told apart by a few values; only a promising kind reads them all.
    few = text.iloc[:50]
    for kind in candidates:
        if parse_values(few, kind, calendar).problems.isna().all() and (
            parse_values(text, kind, calendar).problems.isna().all()
        ):
            return kind
    return "text"


def _no_problems(text: pd.Series) -> pd.Series:
    return pd.Series(np.nan, index=text.index, dtype="str")


def _read_dates(text: pd.Series, calendar: Calendar) -> Parsed:
    written = text.str.match(DATE_PATTERN).fillna(False).astype(bool)
    values = pd.to_datetime(text.where(written), format="%Y-%m-%d", errors="coerce").astype(DATE)
    problems = _no_problems(text)
    problems[text.notna() & ~written] = _RULES["date"]
    problems[written & values.isna()] = f"{_RULES['date']}; {_RULES['day']}"
    return _explained(text, values, problems, "date")


def _read_instants(text: pd.Series, calendar: Calendar) -> Parsed:
    timed = text.str.match(INSTANT_PATTERN).fillna(False).astype(bool)
    values = pd.to_datetime(text.where(timed).str.upper(), format="ISO8601", utc=True, errors="coerce").astype(INSTANT)
    problems = _no_problems(text)
    if not timed.all():
        days = _read_dates(text.mask(timed), calendar)
        values = values.mask(~timed, calendar.midnights(days.values))
        problems = days.problems.str.replace(_RULES["date"], _RULES["instant"], regex=False)
    problems[timed & values.isna()] = f"{_RULES['instant']}; {_RULES['day']}"
    return _explained(text, values, problems, "instant")


def _explained(text: pd.Series, values: pd.Series, problems: pd.Series, kind: str) -> Parsed:
    """Name the two usual suspects: days written with slashes, and years that mean `never`."""
    refused = problems.notna()
    if refused.any():
        slashes = text.str.contains(r"^\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}", regex=True).fillna(False).astype(bool)
        problems[refused & slashes] = f"{_RULES[kind]}; {_RULES['slashes']}"
    out_of_range = values.notna() & ~values.dt.year.between(FIRST_YEAR, LAST_YEAR)
    problems[out_of_range] = _RULES["year"]
    return Parsed(values.mask(out_of_range), problems)


def _read_numbers(text: pd.Series, kind: Kind) -> Parsed:
    written = text.str.match(_NUMBER).fillna(False).astype(bool)
    values = text.where(written).astype("float64")
    problems = _no_problems(text)
    refused = text.notna() & ~written
    if refused.any():
        problems[refused] = _RULES["number"]
        problems[refused & text.str.contains(r"\d,\d", regex=True).fillna(False).astype(bool)] = _RULES["comma"]
        infinite = text.str.lower().str.fullmatch(r"[+-]?(nan|inf|infinity)").fillna(False).astype(bool)
        problems[refused & infinite] = _RULES["finite"]
    problems[np.isinf(values)] = _RULES["finite"]
    if kind == "integer":
        problems[problems.isna() & values.notna() & (values % 1 != 0)] = _RULES["integer"]
    if kind == "share":
        problems[problems.isna() & values.notna() & ~values.between(0, 1)] = _RULES["share"]
    return Parsed(values.mask(problems.notna()), problems)


def _read_booleans(text: pd.Series, calendar: Calendar) -> Parsed:
    lower = text.str.lower()
    values = pd.Series(pd.NA, index=text.index, dtype="boolean")
    values[lower.isin(_TRUE)] = True
    values[lower.isin(_FALSE)] = False
    problems = _no_problems(text)
    problems[text.notna() & values.isna()] = _RULES["boolean"]
    return Parsed(values, problems)
