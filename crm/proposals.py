"""Deals as somebody proposes them: given in full as JSON, read by the rules of files, never stored."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from crm.contract import TABLES
from crm.errors import Detail
from crm.plain import to_plain
from crm.reading import HIDDEN_COLUMNS, rows_as_text
from crm.tables import CrmTables
from crm.typed_rows import kind_of, type_rows
from crm.values import Kind, parse_values

PARTS = {"deal": "deals", "history": "deal_history", "activities": "activities", "contacts": "deal_contacts"}
"""What a proposal holds, and the table whose rows they are."""

NOT_LATER = {
    "deals": ("created_at", "closed_at", "deleted_at"),
    "deal_history": ("changed_at",),
    "activities": ("occurred_at", "logged_at"),
    "deal_contacts": ("added_at",),
}
"""Instants that may not lie after the moment asked about."""

CORRECT = "correct the value"
SHOWN = 80
"""Characters of a refused value that are repeated."""
SIDES = ("old_value", "new_value")
PARTIES = {"owner_id": "owner", "account_id": "account"}


@dataclass(frozen=True)
class Proposals:
    """What was proposed, as far as it could be read.

    Attributes
    ----------
    tables : of the store, but with no other deals than these and what hangs on them; their moment is the one asked
        about.
    place_of : index in the call by deal_id, of the proposals without errors.
    errors : by index, what is wrong with a proposal; one wrong row and the whole proposal is left out.
    warnings : by index, what could not be used.
    """

    tables: CrmTables
    place_of: Mapping[str, int]
    errors: Mapping[int, list[Detail]]
    warnings: Mapping[int, list[str]]


@dataclass
class _Reading:
    """The state of reading one call."""

    tables: CrmTables
    as_of: pd.Timestamp
    errors: dict[int, list[Detail]] = field(default_factory=dict)
    warnings: dict[int, list[str]] = field(default_factory=dict)

    def refuse(self, index: int, where: str, value: object, rule: str, next_step: str = CORRECT) -> None:
        shown = None if value is None or value == "" else str(value)[:SHOWN]
        self.errors.setdefault(index, []).append(Detail(f"deals[{index}].{where}", shown, rule, next_step))

    def warn(self, index: int, text: str) -> None:
        if text not in self.warnings.setdefault(index, []):
            self.warnings[index].append(text)


def read_proposals(
    tables: CrmTables,
    proposed: Sequence[Mapping[str, Any]],
    as_of: pd.Timestamp,
    *,
    known: Collection[str],
    owners: Collection[str],
) -> Proposals:
    """Read proposed deals as rows of the tables they would be in.

    Parameters
    ----------
    proposed : each with `deal` (a row) and `history`, `activities`, `contacts` (rows, which may leave out deal_id).
    known : ids of deals that a proposal replaces; any other deal becomes known at `as_of`.
    owners : users whose record may be used; any other owner is unknown.
    """
    reading = _Reading(tables, as_of)
    _check_ids(reading, proposed)
    frames = {table: _read_part(reading, proposed, part) for part, table in PARTS.items()}
    good = frames["deals"][~frames["deals"]["_index"].isin(list(reading.errors))]
    frames = {name: rows[rows["_index"].isin(good["_index"])] for name, rows in frames.items()}
    accounts = [tables.get("accounts")["account_id"], _column(tables.get("deals"), "account_id")]
    frames = _without_strangers(
        reading, frames, {"owner_id": [pd.Series(list(owners), dtype="str")], "account_id": accounts}
    )
    place_of = dict(zip(frames["deals"]["deal_id"], frames["deals"]["_index"].astype(int), strict=True))
    small = {name: rows.drop(columns="_index").reset_index(drop=True) for name, rows in frames.items()}
    small["deals"] = _with_first_seen(small["deals"], tables, known, as_of)
    small["deal_history"] = small["deal_history"].assign(_sequence=np.arange(len(small["deal_history"]), dtype=float))
    kept = {name: tables.tables[name] for name in ("stages", "accounts", "exchange_rates") if name in tables.tables}
    only_these = replace(tables, tables={**kept, **small}, as_of=as_of)
    return Proposals(only_these, place_of, reading.errors, reading.warnings)


def _check_ids(reading: _Reading, proposed: Sequence[Mapping[str, Any]]) -> None:
    """Every deal has an id, each only once, and its rows speak of no other deal."""
    seen: dict[str, int] = {}
    for index, one in enumerate(proposed):
        deal_id = one["deal"].get("deal_id")
        if not isinstance(deal_id, str) or not deal_id:
            reading.refuse(index, "deal.deal_id", deal_id, "an id is a text that is not empty", "give the deal an id")
        elif deal_id in seen:
            rule = f"each deal once in a call; deals[{seen[deal_id]}] has this id"
            reading.refuse(index, "deal.deal_id", deal_id, rule, "ask in another call, or give it another id")
        else:
            seen[deal_id] = index
        for part in list(PARTS)[1:]:
            for place, row in enumerate(one[part]):
                if row.get("deal_id") not in (None, deal_id):
                    rule = "the rows of a deal have its id"
                    reading.refuse(index, f"{part}[{place}].deal_id", row["deal_id"], rule)


def _read_part(reading: _Reading, proposed: Sequence[Mapping[str, Any]], part: str) -> pd.DataFrame:
    """The good rows of one part of all proposals, typed like the stored table, with `_index`."""
    table = PARTS[part]
    stored = reading.tables.get(table)
    placed: list[tuple[int, str, Mapping[str, Any]]] = [
        (index, part if part == "deal" else f"{part}[{place}]", row)
        for index, one in enumerate(proposed)
        for place, row in enumerate([one[part]] if part == "deal" else one[part])
        if index not in reading.errors
    ]
    if not placed:
        return stored.iloc[:0].assign(_index=pd.Series(dtype="int64"))
    columns = [name for name in stored if name not in HIDDEN_COLUMNS]
    rows = [_usable(reading, index, proposed[index], row, table, columns) for index, _, row in placed]
    raw = rows_as_text(table, rows)
    kinds = {name: kind for name in columns if name not in TABLES[table].columns and (kind := kind_of(stored[name]))}
    _check_custom(reading, placed, raw.text, kinds)
    typed = type_rows(raw, reading.tables.calendar, reading.as_of, kinds)
    refused = set()
    for row, column, value, rule, *_ in typed.quarantine:
        index, where, _row = placed[int(row) - 1]
        refused.add(int(row))
        reading.refuse(index, f"{where}.{column}", value, rule)
    kept = [place for place in range(len(placed)) if place + 1 not in refused]
    frame = typed.frame.reindex(columns=list(stored.columns)).astype(dict(stored.dtypes))
    frame["_index"] = [placed[place][0] for place in kept]
    _check_moments(reading, frame, [placed[place][1] for place in kept], table)
    return frame.drop_duplicates(ignore_index=True)


def _usable(
    reading: _Reading, index: int, one: Mapping[str, Any], row: Mapping[str, Any], table: str, columns: Sequence[str]
) -> dict[str, Any]:
    """A row with the fields that the store has, the required ones always, and the id of its deal."""
    for name in row:
        if name not in columns:
            reading.warn(index, f"{name} is no field of the imported table {table}: it is not used")
    usable = {name: row.get(name) for name in columns if name in row or name in TABLES[table].required}
    return {**usable, "deal_id": one["deal"]["deal_id"]}


def _check_custom(
    reading: _Reading,
    placed: Sequence[tuple[int, str, Mapping[str, Any]]],
    text: pd.DataFrame,
    kinds: Mapping[str, Kind],
) -> None:
    """Refuse values that do not fit what a custom field holds; one of them must not turn the others into text."""
    for name in kinds:
        if name not in text:
            continue
        problems = parse_values(text[name], kinds[name], reading.tables.calendar).problems
        for place in problems.index[problems.notna()]:
            index, where, _ = placed[place]
            reading.refuse(index, f"{where}.{name}", text.loc[place, name], problems[place])
        text[name] = text[name].mask(problems.notna())


def _check_moments(reading: _Reading, frame: pd.DataFrame, places: Sequence[str], table: str) -> None:
    for name in NOT_LATER[table]:
        late = frame[name] > reading.as_of if name in frame else pd.Series(False, index=frame.index)
        for place in np.flatnonzero(late).tolist():
            rule = f"not later than the moment asked about, {to_plain(reading.as_of)}"
            value = to_plain(frame[name].iloc[place])
            reading.refuse(int(frame["_index"].iloc[place]), f"{places[place]}.{name}", value, rule)


def _without_strangers(
    reading: _Reading, frames: Mapping[str, pd.DataFrame], known: Mapping[str, Sequence[pd.Series]]
) -> dict[str, pd.DataFrame]:
    """Owners and accounts that nobody knows become unknown, and a warning says so.

    Parameters
    ----------
    known : by field, columns whose values are known.
    """
    deals, history = frames["deals"], frames["deal_history"]
    for name, party in PARTIES.items():
        if name not in deals:
            continue
        named = pd.concat([deals[name], *(history.loc[history["field"] == name, side] for side in SIDES)]).dropna()
        here = {each for column in known[name] for each in column[column.isin(named)]}
        strange = deals[name].notna() & ~deals[name].isin(here)
        for index, value in zip(deals.loc[strange, "_index"], deals.loc[strange, name], strict=True):
            reading.warn(int(index), f"the {party} {value} is not known: what depends on the {party} is unknown")
        deals = deals.assign(**{name: deals[name].mask(strange)})
        for side in SIDES:
            other = (history["field"] == name) & ~history[side].isin(here)
            history = history.assign(**{side: history[side].mask(other)})
    return {**frames, "deals": deals, "deal_history": history}


def _with_first_seen(
    deals: pd.DataFrame, tables: CrmTables, known: Collection[str], as_of: pd.Timestamp
) -> pd.DataFrame:
    """A deal that the store knows was first seen when it was; any other one is seen at this moment."""
    stored = tables.get("deals")
    stored = stored[stored["deal_id"].isin(deals["deal_id"])].set_index("deal_id")
    never = pd.Series(pd.NaT, index=stored.index, dtype="datetime64[us, UTC]")
    seen = stored.get("_first_seen_at", never).reindex(deals["deal_id"]).set_axis(deals.index)
    return deals.assign(_first_seen_at=seen.where(deals["deal_id"].isin(list(known)), as_of))


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    return frame[name] if name in frame else pd.Series(dtype="str")
