"""The language of mapping files: what may stand in one and in what form; docs/mapping.md is its reference."""

import codecs
import datetime
from dataclasses import replace
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from crm.mapping_values import SPECIAL_FORMATS, Formats, is_factor
from crm.values import Kind

HISTORIES = {"deal_history": "deal_id", "user_history": "user_id"}
"""The tables of changes, and whose changes they hold."""


def _as_text(value: object) -> object:
    """TOML's own numbers, booleans and dates as a file would hold them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.date):
        return value.isoformat()
    return str(value) if isinstance(value, int | float) else value


def _as_several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _as_condition(value: object) -> object:
    if value in ("filled", "empty") or isinstance(value, list):
        return value
    raise ValueError('a condition is "filled", "empty", or a list of values')


def _as_rules(value: object) -> object:
    rules = value if isinstance(value, list) else [value]
    return [{"column": rule} if isinstance(rule, str) else rule for rule in rules]


Text = Annotated[str, BeforeValidator(_as_text)]
Several = Annotated[tuple[str, ...], BeforeValidator(_as_several)]
Condition = Annotated[str | tuple[Text, ...], BeforeValidator(_as_condition)]
Conditions = dict[str, Condition]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, given: object) -> object:
        if not isinstance(given, dict):
            raise ValueError(f"a table with the keys {', '.join(cls.model_fields)}")
        unknown = [key for key in given if key not in cls.model_fields]
        if unknown:
            raise ValueError(f"unknown: {', '.join(unknown)}; the keys are {', '.join(cls.model_fields)}")
        return given


def _check_format(pattern: str) -> str:
    if pattern not in SPECIAL_FORMATS:
        try:
            pd.to_datetime(["0"], format=pattern, errors="coerce")
        except ValueError as error:
            raise ValueError(f"not a format: {error}") from None
        if "%" not in pattern:
            known = ", ".join(SPECIAL_FORMATS)
            raise ValueError(f"a format is written with codes, such as %m/%d/%Y (month first), or is one of {known}")
    return pattern


def _check_zone(name: str) -> str:
    try:
        pd.Timestamp(0, tz=name)
    except (KeyError, ValueError, OSError):
        raise ValueError("an IANA time zone such as Europe/Amsterdam") from None
    return name


Patterns = Annotated[tuple[Annotated[str, BeforeValidator(_check_format)], ...], BeforeValidator(_as_several)]
Zone = Annotated[str, BeforeValidator(_check_zone)]


def _check_encoding(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise ValueError("an encoding such as utf-8 or cp1252") from None


class Written(_Strict):
    """How values are written; what is left out holds on from the level above."""

    date: Patterns | None = None
    instant: Patterns | None = None
    time_zone: Zone | None = None
    decimal: Literal[".", ","] | None = None
    thousands: Literal[",", ".", " ", "'"] | None = None
    units: Several | None = None
    delimiter: Literal[",", ";", "\t", "|"] | None = None
    encoding: Annotated[str, BeforeValidator(_check_encoding)] | None = None

    @model_validator(mode="after")
    def _two_signs(self) -> "Written":
        if self.thousands is not None and self.thousands == (self.decimal or "."):
            raise ValueError("decimal and thousands are two signs; the decimal sign is a point if it is not given")
        return self

    def over(self, general: Formats) -> Formats:
        """The general formats with these in their place."""
        return replace(general, **self.model_dump(exclude_none=True))


class Rule(_Strict):
    """Where one value comes from: a column, a constant, or (`previous`) the change before; and how it is read."""

    column: str | None = None
    constant: Text | None = None
    previous: bool = False
    values: dict[str, Text] = Field(default_factory=dict)
    when: Conditions = Field(default_factory=dict)
    kind: Kind | None = None
    format: Patterns | None = None
    time_zone: Zone | None = None
    decimal: Literal[".", ","] | None = None
    thousands: Literal[",", ".", " ", "'"] | None = None
    units: Several | None = None
    times: float | str | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> "Rule":
        if (self.column is not None) + (self.constant is not None) + self.previous != 1:
            raise ValueError("a value comes from one of column, constant and previous = true")
        if self.times is not None and not is_factor(self.times):
            raise ValueError('times is a number, or a fraction such as "1/60"')
        return self

    def over(self, general: Formats) -> Formats:
        """The general formats with this column's own in their place."""
        own = self.model_dump(exclude_none=True, include={"time_zone", "decimal", "thousands", "units", "times"})
        if self.format is not None:
            own |= {"date": self.format, "instant": self.format}
        return replace(general, **own)


class Join(_Strict):
    """Another file whose columns are read as NAME.COLUMN: its first row with the same values in the columns `on`."""

    file: Several
    on: dict[str, str] = Field(min_length=1)
    where: Conditions = Field(default_factory=dict)


class Source(_Strict):
    """One file, or rows written down here, that a table's rows come from."""

    file: Several = ()
    rows: tuple[dict[str, Text], ...] = ()
    where: Conditions = Field(default_factory=dict)
    since: dict[str, Text] = Field(default_factory=dict)
    join: dict[str, Join] = Field(default_factory=dict)
    columns: dict[str, Annotated[tuple[Rule, ...], BeforeValidator(_as_rules)]] = Field(default_factory=dict)
    fields: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    formats: Written = Written()


class Document(_Strict):
    """A whole mapping file."""

    calendar: dict[str, Any] = Field(default_factory=dict)
    formats: Written = Written()
    partial: bool = False
    tables: dict[str, tuple[Source, ...]] = Field(default_factory=dict)
