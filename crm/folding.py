"""Events laid over the tables of an import: rows upserted, and what changed on deals dated and written down.

A function of the import and of the set of events: folding them one by one, all at once, in another order or twice ends
in the same tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from crm.calendar import INSTANT
from crm.contract import TABLES, empty_frame
from crm.events import CrmEvent, SentRows, combined, read_rows
from crm.facts import microseconds
from crm.lives import pipelines_of, read_stage_book
from crm.merge import OUTCOME_FIELDS, SYNC, canonical_values, kind_of_field, merge_table, without_explained
from crm.tables import CrmTables
from crm.values import format_values, parse_values

DEAL_GROUP = frozenset({"deals", "deal_history"})
"""An event of one of these may change both."""
UNSET = object()


def tables_touched(events: Sequence[CrmEvent]) -> frozenset[str]:
    """The tables that events may change, but for stages that are concluded from deals."""
    named = frozenset(event.table for event in events)
    return named | DEAL_GROUP if named & DEAL_GROUP else named


def fold(base: CrmTables, events: Sequence[CrmEvent], touched: frozenset[str]) -> dict[str, pd.DataFrame]:
    """The tables that events change, as they stand with them.

    Parameters
    ----------
    base : as imported; its `as_of` is the import's moment. Only the tables of `touched` and stages are read.
    touched : tables to be made; see `tables_touched`.
    """
    frames: dict[str, pd.DataFrame] = {}
    sent: dict[str, SentRows] = {}
    for table in sorted(touched):
        stored = base.tables.get(table)
        mine = [event for event in events if event.table == table]
        if mine:
            sent[table] = read_rows(table, stored, mine, calendar=base.calendar, imported=base.as_of)
        if mine and table not in DEAL_GROUP:
            frames[table] = _upserted(table, stored, combined(sent[table], TABLES[table].key))
    if touched & DEAL_GROUP:
        frames |= _fold_deals(base, sent.get("deals"), sent.get("deal_history"))
    return frames


def _upserted(table: str, stored: pd.DataFrame | None, rows: SentRows) -> pd.DataFrame:
    """A table after its rows were sent, those that give the same columns together."""
    frame = stored
    patterns = rows.given.groupby(list(rows.given), sort=False).ngroup() if len(rows.given) else pd.Series(dtype=int)
    for _, places in patterns.groupby(patterns).groups.items():
        columns = [name for name in rows.frame if rows.given.loc[places[0], name]]
        frame = merge_table(TABLES[table], frame, rows.frame.loc[places, columns], full=False).frame
    return empty_frame(table) if frame is None else frame


def listed_periods(periods: pd.DataFrame) -> tuple[tuple[date, date, str], ...]:
    """The table of periods as the calendar keeps it."""
    ordered = periods.sort_values("period_start")
    starts, ends = ordered["period_start"].dt.date, ordered["period_end"].dt.date
    labels = ordered["label"].fillna(ordered["period_start"].dt.strftime("%Y-%m-%d"))
    return tuple(zip(starts, ends, labels, strict=True))


# -- deals and their history -----------------------------------------------------------------------------------------


def _fold_deals(base: CrmTables, rows: SentRows | None, told: SentRows | None) -> dict[str, pd.DataFrame]:
    log = TABLES["deal_history"]
    none = merge_table(log, None, empty_frame("deal_history"), full=False).frame
    stored = base.get("deals")
    history = base.tables.get("deal_history", none)
    new = none
    if told is not None:
        # What counts for the deal is when it changed, also where the change was sent late.
        merged = merge_table(log, history, told.frame, full=False)
        history, new = merged.frame, merged.new
        history = without_explained(history, new, stored, base.calendar)
    rows = _with_removals(rows) if rows is not None else _no_rows()
    changes, values = _timelines(base, rows, new)
    final = combined(rows, ["deal_id"])
    deals = _upserted("deals", stored, _flags_follow_stages(base, _with_values(base, final, values)))
    deals = _with_first_seen(deals, stored, final)
    if len(changes):
        history = merge_table(log, history, changes, full=False).frame
    return {"deals": deals, **({"deal_history": history} if len(history) else {})}


def _no_rows() -> SentRows:
    empty = pd.DataFrame({"deal_id": pd.Series(dtype="str")})
    return SentRows(empty, empty.astype(bool), pd.Series(dtype=INSTANT))


@dataclass(frozen=True)
class _Said:
    """A value that a field of a deal has from an instant (µs) on: as its history tells, or as the deal's row says."""

    at: int
    told: bool
    text: str | None


def _timelines(
    base: CrmTables, rows: SentRows, new_history: pd.DataFrame
) -> tuple[pd.DataFrame, dict[tuple[str, str], str | None]]:
    """Walk through what was said of every field of every deal.

    Returns
    -------
    changes : history rows (`sync`) for what a deal's row says although no history does, now or later.
    values : by deal_id and field, what history told after the last row: it is the value now.
    """
    stored = base.get("deals")
    said = _said(base, rows, new_history)
    deal_ids = {deal_id for deal_id, _ in said}
    held = stored[stored["deal_id"].isin(list(deal_ids))]
    known = set(held["deal_id"])
    start: dict[tuple[str, str], Any] = {}
    for name in {name for _, name in said} & set(held):
        texts = _plain(format_values(held[name], kind_of_field(name, held)))
        start |= {(deal_id, name): text for deal_id, text in zip(held["deal_id"], texts, strict=True)}
    changes: list[tuple[str, int, str, str | None, str | None]] = []
    values: dict[tuple[str, str], str | None] = {}
    for (deal_id, name), line in said.items():
        before: Any = start.get((deal_id, name), None if deal_id in known else UNSET)
        last_told = False
        for place, each in enumerate(line):
            if each.told:
                before, last_told = each.text, True
            elif before is UNSET:
                before, last_told = each.text, False
            elif each.text != before and not any(later.told and later.text == each.text for later in line[place:]):
                changes.append((deal_id, each.at, name, before, each.text))
                before, last_told = each.text, False
        if last_told:
            values[deal_id, name] = before
    columns = ["deal_id", "changed_at", "field", "old_value", "new_value"]
    found = pd.DataFrame(sorted(changes, key=lambda row: (row[1], row[0], row[2])), columns=columns)
    found["changed_at"] = pd.to_datetime(found["changed_at"].astype("int64"), unit="us", utc=True).astype(INSTANT)
    texts = ["deal_id", "field", "old_value", "new_value"]
    found = found.astype(dict.fromkeys(texts, "str")).assign(changed_by=SYNC).astype({"changed_by": "str"})
    return found, values


def _said(base: CrmTables, rows: SentRows, new_history: pd.DataFrame) -> dict[tuple[str, str], list[_Said]]:
    """Everything said since the import, by deal and field, in order; at one instant history speaks first."""
    stored = base.get("deals")
    fields = {str(name) for name in (*stored, *rows.frame) if name not in OUTCOME_FIELDS and name[0] != "_"}
    is_known = new_history["deal_id"].isin(stored["deal_id"])
    is_new = new_history["deal_id"].isin(rows.frame["deal_id"]) & ~is_known
    told = new_history[is_new | (is_known & (new_history["changed_at"] > base.as_of))]
    said: dict[tuple[str, str], list[_Said]] = {}
    for name, part in told[told["field"].isin(fields)].groupby("field", sort=False):
        kind = kind_of_field(str(name), stored if name in stored else rows.frame)
        texts = _plain(canonical_values(part["new_value"], kind, base.calendar))
        for deal_id, at, text in zip(part["deal_id"], microseconds(part["changed_at"]), texts, strict=True):
            said.setdefault((deal_id, str(name)), []).append(_Said(int(at), True, text))
    moments = microseconds(rows.at)
    # What the first row of a new deal does not give is empty until a later one gives it.
    begins = ~rows.frame["deal_id"].duplicated() & ~rows.frame["deal_id"].isin(stored["deal_id"])
    for name in sorted(fields & set(rows.frame)):
        texts = _plain(format_values(rows.frame[name], kind_of_field(name, rows.frame)))
        for place in np.flatnonzero(rows.given[name] | begins):
            line = said.setdefault((rows.frame["deal_id"].iloc[place], name), [])
            line.append(_Said(int(moments[place]), False, texts[place]))
    return {key: sorted(line, key=lambda each: (each.at, not each.told)) for key, line in said.items()}


def _plain(texts: pd.Series) -> list[str | None]:
    return texts.astype(object).where(texts.notna(), None).tolist()


def _with_removals(rows: SentRows) -> SentRows:
    """A deal merged away without a date went when the event said so."""
    if "merged_into" not in rows.frame:
        return rows
    frame, given = rows.frame.copy(), rows.given.copy()
    if "deleted_at" not in frame:
        frame["deleted_at"], given["deleted_at"] = pd.Series(pd.NaT, index=frame.index, dtype=INSTANT), False
    undated = frame["merged_into"].notna() & given["merged_into"] & frame["deleted_at"].isna()
    frame["deleted_at"] = frame["deleted_at"].mask(undated, rows.at)
    given["deleted_at"] |= undated
    return SentRows(frame, given, rows.at)


def _with_values(base: CrmTables, final: SentRows, values: Mapping[tuple[str, str], str | None]) -> SentRows:
    """The rows of deals with what history told last; what cannot be read as a value of its field is left aside."""
    if not values:
        return final
    stored = base.get("deals")
    ids = list(dict.fromkeys([*final.frame["deal_id"], *(deal_id for deal_id, _ in values)]))
    places = pd.Index(final.frame["deal_id"]).get_indexer(ids)
    columns = {name: final.frame[name].array.take(places, allow_fill=True) for name in final.frame}
    frame = pd.DataFrame({**columns, "deal_id": pd.Series(ids, dtype="str")})
    given = final.given.reindex(places, fill_value=False).reset_index(drop=True).assign(deal_id=True)
    for name in sorted({name for _, name in values}):
        like = stored if name in stored else frame
        if name not in frame:
            frame[name] = pd.Series(None, index=frame.index, dtype=like[name].dtype)
            given[name] = False
        texts = pd.Series([values.get((deal_id, name)) for deal_id in ids], dtype="str")
        parsed = parse_values(texts, kind_of_field(name, like), base.calendar)
        told = pd.Series([(deal_id, name) in values for deal_id in ids]) & parsed.problems.isna()
        frame[name] = frame[name].mask(told, parsed.values)
        given[name] |= told
    return SentRows(frame, given, final.at)


def _flags_follow_stages(base: CrmTables, final: SentRows) -> SentRows:
    """Where deals say themselves whether they are closed and won, a new stage says so for whom an event does not."""
    stored = base.get("deals").set_index("deal_id")
    if "stage" not in final.frame or stored["is_closed"].isna().all() or not base.has("stages"):
        return final
    frame, given = final.frame.copy(), final.given.copy()
    before = stored.reindex(frame["deal_id"]).reset_index()
    nobody = pd.Series(False, index=frame.index)
    pipelines = pipelines_of(frame).where(given.get("pipeline", nobody), pipelines_of(before))
    moved = given["stage"] & frame["stage"].ne(before["stage"])
    book = read_stage_book(base)
    for flag in ("is_closed", "is_won"):
        meant = pd.Series(book.look_up(frame["stage"], pipelines, flag)).astype("boolean")
        said = given.get(flag, nobody)
        follows = moved & ~said & meant.notna()
        old = frame[flag] if flag in frame else pd.Series(pd.NA, index=frame.index, dtype="boolean")
        frame[flag], given[flag] = old.mask(follows, meant), said | follows
    return SentRows(frame, given, final.at)


def _with_first_seen(deals: pd.DataFrame, stored: pd.DataFrame, final: SentRows) -> pd.DataFrame:
    """Deals that events brought are known from their first event on."""
    if "_first_seen_at" not in deals:
        deals = deals.assign(_first_seen_at=pd.Series(pd.NaT, index=deals.index, dtype=INSTANT))
    came = final.at.set_axis(final.frame["deal_id"]).reindex(deals["deal_id"]).set_axis(deals.index)
    is_new = ~deals["deal_id"].isin(stored["deal_id"])
    return deals.assign(_first_seen_at=deals["_first_seen_at"].mask(is_new, came))
