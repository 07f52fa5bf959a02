"""Rows that systems send one by one: read by the rules of files, in the order of their moments.

Where a row tells when it was written, the order in which rows come in makes no difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from crm.calendar import INSTANT, INSTANT_PATTERN, Calendar
from crm.contract import TABLES, TableSpec
from crm.errors import Detail
from crm.facts import microseconds
from crm.reading import HIDDEN_COLUMNS, RawTable, rows_as_text
from crm.tables import CrmTables
from crm.typed_rows import kind_of, type_rows
from crm.values import Kind, parse_values

CORRECT = "correct the value"
SHOWN = 80
"""Characters of a refused value that are repeated."""
LONGEST_NAME = 100
"""Characters of a custom field's name."""
EVER_AFTER = pd.Timestamp("2200-01-01", tz="UTC").as_unit("us")


@dataclass(frozen=True)
class CrmEvent:
    """A row that was sent.

    Attributes
    ----------
    number : its place in the inbox.
    row : values by column as JSON knows them; a column that is not there keeps what is stored, null empties it.
    moment : the latest past timestamp in the row; None if it has none.
    """

    number: int
    event_id: str
    table: str
    row: Mapping[str, Any]
    moment: pd.Timestamp | None

    def to_dict(self) -> dict[str, Any]:
        """The event as JSON values."""
        return {**vars(self), "moment": None if self.moment is None else self.moment.isoformat()}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "CrmEvent":
        """The event from JSON values."""
        moment = stored["moment"]
        return CrmEvent(**{**stored, "moment": None if moment is None else pd.Timestamp(moment).as_unit("us")})


@dataclass
class Checked:
    """What is wrong with a row (`where` is its column), and the latest past timestamp in it."""

    details: list[Detail] = field(default_factory=list)
    moment: pd.Timestamp | None = None


def check_rows(tables: CrmTables, table: str, rows: Sequence[Mapping[str, Any]], *, now: pd.Timestamp) -> list[Checked]:
    """What an import would say of rows of one table.

    A custom field that the tables hold must fit what it holds; a new one may hold anything.

    Parameters
    ----------
    now : the wall clock: nothing that was created, changed or submitted is later.
    """
    checked = [Checked() for _ in rows]
    spec, stored = TABLES[table], tables.get(table)
    for place, row in enumerate(rows):
        for name in row:
            if rule := _rule_of_name(name, spec, stored):
                checked[place].details.append(Detail(name[:SHOWN], None, rule, "rename or remove it"))
    text = _text_of(spec, rows)
    declared = [name for name in text if name in spec.columns]
    raw = RawTable(replace(spec, key=()), table, text[declared], np.arange(len(text)))
    for row_number, column, value, rule, *_ in type_rows(raw, tables.calendar, now, {}).quarantine:
        shown = value[:SHOWN] or None
        checked[int(row_number)].details.append(Detail(column, shown, rule, CORRECT if shown else "add it"))
    for name in text:
        kind = kind_of(stored[name]) if name in stored and name not in spec.columns else None
        if kind is None:
            continue
        problems = parse_values(text[name], kind, tables.calendar).problems.dropna()
        for place, rule in problems.items():
            checked[place].details.append(Detail(name, str(text.loc[place, name])[:SHOWN], rule, CORRECT))
    for place, moment in enumerate(_moments(spec, text, tables.calendar, now)):
        checked[place].moment = None if pd.isna(moment) else moment
    return checked


def _rule_of_name(name: str, spec: TableSpec, stored: pd.DataFrame) -> str | None:
    """What speaks against a field's name; nothing against one that an import brought."""
    if name in HIDDEN_COLUMNS:
        return "the name is used by dealcast itself"
    if (
        name not in spec.columns
        and name not in stored
        and not (name.strip() == name != "" and name.isprintable() and len(name) < LONGEST_NAME)
    ):
        return f"a field's name is printable, without spaces around it, and shorter than {LONGEST_NAME} characters"
    return None


def _text_of(spec: TableSpec, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a file would hold them, with the required columns."""
    told = [{name: value for name, value in row.items() if name not in HIDDEN_COLUMNS} for row in rows]
    return rows_as_text(spec.name, [{**dict.fromkeys(spec.required), **row} for row in told]).text


def _moments(spec: TableSpec, text: pd.DataFrame, calendar: Calendar, now: pd.Timestamp) -> pd.Series:
    """The latest past timestamp of each row: of its instants, and of what else is written like one."""
    latest = pd.Series(pd.NaT, index=text.index, dtype=INSTANT)
    for name in text:
        declared = spec.columns.get(name)
        if declared and declared.kind != "instant":
            continue
        written = text[name] if declared else text[name].where(text[name].str.match(INSTANT_PATTERN).eq(True))
        at = parse_values(written, "instant", calendar).values
        at = at.where(at <= now)
        latest = latest.where(~(at > latest) & latest.notna(), at)
    return latest


# -- laid over the tables --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SentRows:
    """The events of one table, typed, in the order in which they count.

    Attributes
    ----------
    frame : the columns that any of them gives, index 0..n-1.
    given : (same shape) which of them each row gives.
    at : from when on each counts, never before the last import: its own moment if that is later, else the moment of
        what came before it for the same row. What is sent after an import and tells of nothing later is so counted
        from the import on.
    """

    frame: pd.DataFrame
    given: pd.DataFrame
    at: pd.Series


def read_rows(
    table: str, stored: pd.DataFrame | None, events: Sequence[CrmEvent], *, calendar: Calendar, imported: pd.Timestamp
) -> SentRows:
    """The events of one table as typed rows.

    Parameters
    ----------
    stored : the table as imported, None if it was not.
    events : in the order in which they came.
    imported : the moment of the last import.
    """
    spec = replace(TABLES[table], key=())  # the rows of one key are told apart below
    text = _text_of(spec, [event.row for event in events])
    kinds: dict[str, Kind] = {}
    if stored is not None:
        kinds = {name: kind for name in stored if name not in spec.columns and (kind := kind_of(stored[name]))}
    typed = type_rows(RawTable(spec, table, text, np.arange(len(text))), calendar, EVER_AFTER, kinds)
    refused = {int(row) for row, *_ in typed.quarantine}
    good = [event for place, event in enumerate(events) if place not in refused]
    given = pd.DataFrame([{name: name in event.row for name in typed.frame} for event in good], dtype=bool)
    given = given.reindex(columns=typed.frame.columns)
    if "booked_on" in typed.frame and "booked_on" not in text:
        given["booked_on"] = given["closed_at"]  # a closing given as a day is booked on it
    key = [name for name in TABLES[table].key if name in typed.frame]
    at = _counts_from(typed.frame[key], good, imported)
    arrival = np.arange(len(good))
    # Rows of a log that tell of the time before the import keep the order of what they tell.
    told = pd.Series([None if key else event.moment for event in good], dtype=INSTANT)
    order = np.lexsort((arrival, microseconds(told), microseconds(at)))
    frame, given, at = (part.iloc[order].reset_index(drop=True) for part in (typed.frame, given, at))
    return SentRows(frame, given, at)


def _counts_from(keys: pd.DataFrame, events: Sequence[CrmEvent], imported: pd.Timestamp) -> pd.Series:
    """From when on each event counts; see `SentRows.at`."""
    latest: dict[object, pd.Timestamp] = {}
    at: list[pd.Timestamp] = [imported] * len(events)
    row_of = keys.groupby(list(keys), dropna=False, sort=False).ngroup() if len(keys.columns) else range(len(events))
    for place, (key, event) in enumerate(zip(row_of, events, strict=True)):
        before = latest.get(key, imported)
        at[place] = event.moment if event.moment is not None and event.moment > imported else before
        latest[key] = max(before, at[place])
    return pd.Series(at, index=range(len(events)), dtype=INSTANT)


def combined(sent: SentRows, key: Sequence[str]) -> SentRows:
    """One row a key: of each column the value given last; it counts from the first of them on."""
    if sent.frame.empty:
        return sent
    codes = sent.frame.groupby([name for name in key if name in sent.frame], dropna=False, sort=False).ngroup()
    first = ~codes.duplicated()
    columns, given = {}, {}
    for name in sent.frame:
        last = np.full(int(first.sum()), -1)
        np.maximum.at(last, codes.to_numpy(), np.where(sent.given[name], np.arange(len(codes)), -1))
        columns[name] = sent.frame[name].array.take(np.maximum(last, 0))
        given[name] = last >= 0
    return SentRows(pd.DataFrame(columns), pd.DataFrame(given), sent.at[first].reset_index(drop=True))
