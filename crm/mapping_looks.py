"""What the values of a column look like: how days and numbers are written, and whether only some stages fill it."""

from dataclasses import dataclass, field
from itertools import product

import pandas as pd

from crm.calendar import Calendar
from crm.mapping_values import Formats, Rewritten, rewrite_values
from crm.values import Kind, parse_values

_UTC = Calendar("XXX")
_DAYS = ("%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y", "%d.%m.%Y", "%d.%m.%y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d")
_TIMES = (" %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
PATTERNS = (
    *_DAYS,
    *(day + time for day, time in product(_DAYS, _TIMES)),
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d %H:%M:%S.%f",
)
NUMBERS = (
    Formats(thousands=","),
    Formats(decimal=",", thousands="."),
    Formats(decimal=",", thousands=" "),
)
FEW = 5
"""Stages with fewer deals say nothing about what they fill."""


@dataclass(frozen=True)
class Looks:
    """How a column could be read as a kind: what to write behind its name, or what only its owner can tell.

    Attributes
    ----------
    settings : keys of a column in a mapping; none: an import reads it as it stands.
    in_doubt : the settings that fit and read values differently.
    """

    settings: dict[str, object] = field(default_factory=dict)
    in_doubt: tuple[str, ...] = ()


def looks_like(text: pd.Series, kind: Kind) -> Looks | None:
    """How a column could be read as a kind; None if it could not, or holds nothing."""
    values = text.dropna().str.strip()
    values = values[values != ""].drop_duplicates().reset_index(drop=True)
    if values.empty:
        return None
    if kind in ("id", "text"):
        return Looks()
    if parse_values(values, kind, _UTC).problems.isna().all():
        return Looks()
    if kind in ("date", "instant"):
        return _as_days(values, kind)
    return None if kind == "boolean" else _as_numbers(values)


def _as_days(values: pd.Series, kind: Kind) -> Looks | None:
    fitting: dict[str, Rewritten] = {}
    for pattern in PATTERNS:
        if (
            rewrite_values(values.head(20), kind, Formats(date=(pattern,), instant=(pattern,)), _UTC)
            .problems.isna()
            .all()
        ):
            done = rewrite_values(values, kind, Formats(date=(pattern,), instant=(pattern,)), _UTC)
            if done.problems.isna().all():
                fitting[pattern] = done
    return _agreed({pattern: ({"format": pattern}, done) for pattern, done in fitting.items()})


def _as_numbers(values: pd.Series) -> Looks | None:
    signs = values.str.extractall(r"([^\d.,\s'+-]+)")[0].unique() if values.str.contains(r"\d").all() else []
    units = tuple(str(sign) for sign in signs)
    if len(units) > 3:
        return None
    fitting = {}
    for formats in NUMBERS:
        done = rewrite_values(
            values, "number", Formats(decimal=formats.decimal, thousands=formats.thousands, units=units), _UTC
        )
        if done.problems.isna().all():
            settings: dict[str, object] = {"decimal": formats.decimal}
            settings |= {"thousands": formats.thousands} if formats.thousands else {}
            settings |= {"units": list(units)} if units else {}
            fitting[f"decimal {formats.decimal!r}, thousands {formats.thousands!r}"] = (settings, done)
    return _agreed(fitting)


def _agreed(fitting: dict[str, tuple[dict[str, object], Rewritten]]) -> Looks | None:
    """The reading that all that fit agree on; in doubt if they differ."""
    if not fitting:
        return None
    (settings, first), *others = fitting.values()
    if all(done.text.equals(first.text) for _, done in others):
        return Looks(settings)
    return Looks(in_doubt=tuple(fitting))


def filled_for_some(values: pd.Series, stages: pd.Series) -> list[str]:
    """The stages whose deals fill a column, if others mostly do not: it probably tells what became of the deal."""
    shares = values.notna().groupby(stages).mean()[stages.value_counts() >= FEW]
    if shares.empty or shares.max() < 0.95 or shares.min() > 0.5:
        return []
    return [str(stage) for stage in shares.index[shares >= 0.95]]
