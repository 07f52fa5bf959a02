"""Dated facts: the value of every deal field at every moment, by one rule that never looks at the outcome.

Whether a value is known may not depend on what happened later, or "unknown" alone tells lost from won. A field's value
before its first recorded change is read back only where the history of that field is complete for won, lost and open
deals alike (its class is `tracked`); otherwise it is unknown, for every deal. See docs/as-of.md for the rule in words.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crm.lives import OUTCOME_COLUMNS, DealLives, StageBook, pipelines_of, read_stage_book
from crm.tables import CrmTables, FieldClass

COMPLETE_SHARE = 0.99
FEWEST_DEALS = 20
JUST_AFTER = pd.Timedelta(1, "us")


def deal_fields(deals: pd.DataFrame) -> list[str]:
    """The columns of deals that the as-of rule covers: all but the id, created_at and the outcome columns."""
    return [name for name in deals.columns if name not in {"deal_id", "created_at", *OUTCOME_COLUMNS}]


def typed_values(text: pd.Series, like: pd.Series) -> pd.Series:
    """History's text values in the dtype of the deal column `like`; what cannot be read is unknown."""
    if pd.api.types.is_bool_dtype(like):
        return text.str.lower().map({"true": True, "1": True, "false": False, "0": False}).astype("boolean")
    if pd.api.types.is_numeric_dtype(like):
        return pd.to_numeric(text, errors="coerce").astype("float64")
    if isinstance(like.dtype, pd.DatetimeTZDtype):
        return pd.to_datetime(text, errors="coerce", utc=True, format="ISO8601").astype("datetime64[us, UTC]")
    if pd.api.types.is_datetime64_dtype(like):
        return pd.to_datetime(text.str.slice(0, 10), errors="coerce", format="%Y-%m-%d").astype("datetime64[us]")
    return text.astype("str")


class DatedRows:
    """Rows of (key, moment) that can be asked for the last one at or before, or the first one after, any moment."""

    def __init__(self, keys: np.ndarray, moments: np.ndarray) -> None:
        self._order = np.lexsort((np.arange(len(keys)), moments, keys))
        self._moments = np.unique(moments)
        self._keys = keys[self._order]
        self._ranked = self._rank(self._keys, moments[self._order])

    def _rank(self, keys: np.ndarray, moments: np.ndarray) -> np.ndarray:
        seen = np.searchsorted(self._moments, moments, side="right")
        return keys.astype(np.int64) * (len(self._moments) + 1) + seen

    def last_until(self, keys: np.ndarray, moments: np.ndarray) -> np.ndarray:
        """Row number of each key's last row at or before the moment; -1 if there is none."""
        return self._pick(keys, np.searchsorted(self._ranked, self._rank(keys, moments), side="right") - 1)

    def first_after(self, keys: np.ndarray, moments: np.ndarray) -> np.ndarray:
        """Row number of each key's first row after the moment; -1 if there is none."""
        return self._pick(keys, np.searchsorted(self._ranked, self._rank(keys, moments), side="right"))

    def _pick(self, keys: np.ndarray, places: np.ndarray) -> np.ndarray:
        inside = (places >= 0) & (places < len(self._keys))
        places = np.where(inside, places, 0)
        if not len(self._keys):
            return np.full(len(keys), -1)
        return np.where(inside & (self._keys[places] == keys), self._order[places], -1)


@dataclass(frozen=True)
class Steps:
    """A field as a step function of time: from each moment on, the value at `reference` in a pool (-1: unknown)."""

    deal: np.ndarray
    known_from: np.ndarray
    reference: np.ndarray


@dataclass(frozen=True)
class _Deals:
    """What the rule needs to know of every deal, by position; moments as integer microseconds."""

    created_at: np.ndarray
    first_seen_at: np.ndarray
    closed: "DatedRows"
    closed_at: np.ndarray
    closed_deal: np.ndarray
    reopened_at: np.ndarray


NEVER = np.iinfo(np.int64).max


def microseconds(moments: pd.Series) -> np.ndarray:
    """Moments as integer microseconds since 1970; NEVER where missing."""
    stamps = moments.astype("datetime64[us, UTC]").astype("int64").to_numpy().copy()
    stamps[moments.isna().to_numpy()] = NEVER
    return stamps


def build_states(tables: CrmTables, lives: DealLives, book: StageBook) -> pd.DataFrame:
    """The as-of value of every field from every moment on.

    Returns
    -------
    frame : deal_id, known_from, then one typed column per deal field. The value at T is that of its last row with
        known_from <= T; missing means unknown (or known to be empty). Sorted by deal_id, known_from. Deals left out of
        all lives (closed at an unknown moment) have no rows.
    """
    deals = tables.get("deals")
    deals = deals[~deals["deal_id"].isin(lives.left_out)].reset_index(drop=True)
    history = _history_of(tables, deals)
    facts = _deal_facts(deals, lives)
    nothing, of_field = history.iloc[:0], dict(iter(history.groupby("field", sort=False)))
    pools, steps = {}, {}
    for field in deal_fields(deals):
        rows = of_field.get(field, nothing)
        pools[field] = _pool(deals, rows, field, lives, book)
        steps[field] = _field_steps(tables, deals, rows, field, facts, lives, pools[field], book)
    return _wide(deals, facts, pools, steps)


def _history_of(tables: CrmTables, deals: pd.DataFrame) -> pd.DataFrame:
    history = tables.get("deal_history")
    position = pd.Series(np.arange(len(deals)), index=deals["deal_id"])
    history = history.assign(deal=history["deal_id"].map(position)).dropna(subset=["deal", "changed_at"])
    history = history.astype({"deal": np.int64}).sort_values("changed_at", kind="stable")
    created_at = microseconds(deals["created_at"])[history["deal"].to_numpy()]
    history["is_initial"] = (microseconds(history["changed_at"]) == created_at) & history["old_value"].isna().to_numpy()
    return history


def _deal_facts(deals: pd.DataFrame, lives: DealLives) -> _Deals:
    position = pd.Series(np.arange(len(deals)), index=deals["deal_id"])
    never = pd.Series(pd.NaT, index=deals.index, dtype="datetime64[us, UTC]")
    first_seen = deals.get("_first_seen_at", never)
    closed_deal = lives.closed_times["deal_id"].map(position).to_numpy(dtype=np.int64)
    closed_at = microseconds(lives.closed_times["closed_at"])
    return _Deals(
        created_at=microseconds(deals["created_at"]),
        first_seen_at=microseconds(first_seen),
        closed=DatedRows(closed_deal, closed_at),
        closed_at=closed_at,
        closed_deal=closed_deal,
        reopened_at=microseconds(lives.closed_times["reopened_at"]),
    )


def _pool(deals: pd.DataFrame, rows: pd.DataFrame, field: str, lives: DealLives, book: StageBook) -> pd.Series:
    """All values a field's steps refer to: current, old and new ones; for `stage` also first open and closed ones."""
    like = deals[field]
    if rows.empty and field != "stage":
        return like
    parts = [like, typed_values(rows["old_value"], like), typed_values(rows["new_value"], like)]
    if field == "stage":
        parts += [book.first_open_of(pipelines_of(deals)), lives.closed_times["closed_stage"]]
    return pd.concat([part.astype(like.dtype) for part in parts], ignore_index=True)


def _field_steps(
    tables: CrmTables,
    deals: pd.DataFrame,
    rows: pd.DataFrame,
    field: str,
    facts: _Deals,
    lives: DealLives,
    pool: pd.Series,
    book: StageBook,
) -> Steps:
    """The contract's rule for one field; the numbered comments are the rule's own numbers."""
    count, row_deal, row_at = len(deals), rows["deal"].to_numpy(), microseconds(rows["changed_at"])
    changes = np.flatnonzero(~rows["is_initial"].to_numpy())
    change_rows = DatedRows(row_deal[changes], row_at[changes])
    everyone = np.arange(count)

    def old_value_after(deal: np.ndarray, moments: np.ndarray) -> np.ndarray:
        """The old value of the first change after the moment, else the current value."""
        place = change_rows.first_after(deal, moments)
        return np.where(place >= 0, count + changes[place] if len(changes) else deal, deal)

    def is_closed(reference: np.ndarray) -> np.ndarray:
        """Whether the referenced stages are closed ones; no value of another field is."""
        if field != "stage":
            return np.zeros(len(reference), dtype=bool)
        stages = pool.take(reference).reset_index(drop=True)
        return book.look_up(stages, pipelines_of(deals), "is_closed") == 1

    # 1. the last history row at or before T
    steps = [(row_deal, row_at, count + len(rows) + np.arange(len(rows)))]
    # 1. what an import found counts from that import on (the first: only later than it); closings excepted
    first_seen = facts.first_seen_at
    found_at = np.where(first_seen != NEVER, first_seen, _first_import(tables))
    found = old_value_after(everyone, found_at)
    keep = ~is_closed(found)
    steps.append((everyone[keep], found_at[keep], found[keep]))
    # 2. a tracked field looks back to the old value of its first change, from the moment its history is complete
    known = tables.field_classes.get(field)
    if known is not None and known.tracked == "tracked":
        since = np.int64(0) if known.since is None else known.since.as_unit("us").asm8.astype(np.int64)
        start = np.maximum(facts.created_at, since)
        start = np.where(first_seen != NEVER, np.maximum(start, first_seen), start)
        first_row = DatedRows(row_deal, row_at).last_until(everyone, start)
        reference = old_value_after(everyone, start)
        # … and a closed stage read backwards becomes the pipeline's first open one
        reference = np.where(is_closed(reference), count + 2 * len(rows) + everyone, reference)
        keep = first_row < 0
        steps.insert(0, (everyone[keep], start[keep], reference[keep]))
    if field == "stage":
        silently = np.flatnonzero(deals["deal_id"].isin(lives.reopened_silently))
        steps.append((silently, np.full(len(silently), microseconds(pd.Series([tables.as_of]))[0]), silently))
    deal, at, reference = (np.concatenate(part) for part in zip(*steps, strict=True))
    keep = at != NEVER
    open_steps = Steps(deal[keep], at[keep], reference[keep])
    closed_base = count * 2 + 2 * len(rows) if field == "stage" else None
    return _while_closed(open_steps, facts, row_deal[changes], row_at[changes], old_value_after, closed_base, lives)


def _while_closed(
    steps: Steps,
    facts: _Deals,
    change_deal: np.ndarray,
    change_at: np.ndarray,
    old_value_after: Callable[[np.ndarray, np.ndarray], np.ndarray],
    closed_base: int | None,
    lives: DealLives,
) -> Steps:
    """0. while a deal is closed its values are those that stood until the next change; reopening takes that back."""

    def spell_of(deal: np.ndarray, moments: np.ndarray) -> np.ndarray:
        """The closed time that holds each moment, -1 if the deal was open."""
        place = facts.closed.last_until(deal, moments)
        return (
            np.where((place >= 0) & (moments < facts.reopened_at[place]), place, -1)
            if len(facts.closed_at)
            else (np.full(len(deal), -1))
        )

    open_deal = spell_of(steps.deal, steps.known_from) < 0
    during = spell_of(change_deal, change_at) >= 0
    deal = np.concatenate([facts.closed_deal, change_deal[during]])
    at = np.concatenate([facts.closed_at, change_at[during]])
    reference = old_value_after(deal, at)
    if closed_base is not None:
        spell = spell_of(deal, at)
        named = lives.closed_times["closed_stage"].notna().to_numpy()[spell]
        reference = np.where(named, closed_base + spell, reference)
    back = np.flatnonzero(facts.reopened_at != NEVER)
    back_deal, back_at = facts.closed_deal[back], facts.reopened_at[back]
    before = DatedRows(steps.deal, steps.known_from).last_until(back_deal, back_at)
    back_reference = np.where(before >= 0, steps.reference[before], -1) if len(steps.deal) else np.full(len(back), -1)
    return Steps(
        np.concatenate([steps.deal[open_deal], deal, back_deal]),
        np.concatenate([steps.known_from[open_deal], at, back_at]),
        np.concatenate([steps.reference[open_deal], reference, back_reference]),
    )


def _first_import(tables: CrmTables) -> np.int64:
    """The moment just after the first import, or NEVER where there was none."""
    if tables.first_import_at is None:
        return np.int64(NEVER)
    return (tables.first_import_at + JUST_AFTER).as_unit("us").asm8.astype(np.int64)


def _wide(deals: pd.DataFrame, facts: _Deals, pools: dict[str, pd.Series], steps: dict[str, Steps]) -> pd.DataFrame:
    """Merge the fields' step functions into one row per deal and moment, each field carried forward."""
    deal = np.concatenate([np.arange(len(deals)), *(step.deal for step in steps.values())])
    at = np.concatenate([facts.created_at, *(step.known_from for step in steps.values())])
    moments = pd.MultiIndex.from_arrays([deal, at]).unique().sort_values()
    row_deal, row_at = moments.get_level_values(0).to_numpy(), moments.get_level_values(1).to_numpy()
    places = DatedRows(row_deal, row_at)
    first_row = np.searchsorted(row_deal, row_deal, side="left")
    columns: dict[str, object] = {
        "deal_id": deals["deal_id"].take(row_deal).array,
        "known_from": pd.to_datetime(row_at, unit="us", utc=True).as_unit("us"),
    }
    for field, step in steps.items():
        reference = np.full(len(row_deal), -1)
        reference[places.last_until(step.deal, step.known_from)] = step.reference
        filled = np.zeros(len(row_deal), dtype=bool)
        filled[places.last_until(step.deal, step.known_from)] = True
        filled[first_row] = True
        last = np.maximum.accumulate(np.where(filled, np.arange(len(row_deal)), 0))
        reference = reference[last]
        values = pools[field].take(np.maximum(reference, 0)).reset_index(drop=True)
        columns[field] = values.where(reference >= 0).array
    return pd.DataFrame(columns)


def classify_fields(tables: CrmTables) -> dict[str, FieldClass]:
    """Class of every deal field: may its history be read backwards before its first recorded change?

    Tracked are the declared `stable_fields`, always, and, from a field's first history row on, the fields whose last
    recorded value equals today's in 99 % of won, of lost and of open deals with history of that field, at least 20 of
    each; rows made by an import's comparison (`sync`) do not count as history. For `stage`, a closed deal without a row
    into a closed stage counts as a mismatch.
    """
    deals, book = tables.get("deals"), read_stage_book(tables)
    closed, won = book.closed_and_won(deals)
    group = pd.Series(np.where(closed, np.where(won, "won", "lost"), "open"), index=deals.index)
    for gone in ("deleted_at", "merged_into"):
        if gone in deals:
            group = group.mask(deals[gone].notna())
    history = tables.get("deal_history")
    if "changed_by" in history:
        history = history[history["changed_by"].ne("sync") | history["changed_by"].isna()]
    history = history.sort_values("changed_at", kind="stable")
    return {
        field: _class_of(field, deals, group, history[history["field"] == field], tables)
        for field in deal_fields(deals)
    }


def _class_of(field: str, deals: pd.DataFrame, group: pd.Series, rows: pd.DataFrame, tables: CrmTables) -> FieldClass:
    last = rows.drop_duplicates("deal_id", keep="last").set_index("deal_id")["new_value"]
    has_rows = deals["deal_id"].isin(last.index)
    declared = field in tables.calendar.stable_fields
    complete = declared or _history_is_complete(field, deals, group, last, has_rows)
    since = None if declared or not complete else pd.Timestamp(rows["changed_at"].min())
    open_now = group.eq("open") if group.eq("open").any() else group.notna()
    known = (complete | has_rows)[open_now]
    return FieldClass(
        tracked="tracked" if complete else "untracked",
        since=since,
        known_share=float(known.mean()) if len(known) else 0.0,
        declared=declared,
        filled=bool(deals[field].notna().any()),
    )


def _history_is_complete(
    field: str, deals: pd.DataFrame, group: pd.Series, last: pd.Series, has_rows: pd.Series
) -> bool:
    if not len(last):
        return False
    current = deals[field]
    recorded = typed_values(deals["deal_id"].map(last).astype("str"), current)
    same = (recorded == current).fillna(False).astype(bool) | (recorded.isna() & current.isna())
    counted = has_rows
    if field == "stage":
        counted = has_rows | group.isin(["won", "lost"])
        same = same & has_rows
    by_group = same[counted].groupby(group[counted])
    shares, sizes = by_group.mean(), by_group.size()
    return all(
        sizes.get(name, 0) >= FEWEST_DEALS and shares[name] >= COMPLETE_SHARE for name in ("won", "lost", "open")
    )


def values_as_of(states: pd.DataFrame, key: str, spine: pd.DataFrame, fields: Iterable[str]) -> pd.DataFrame:
    """The values of `fields` for each (key, as_of) of the spine, in its order; missing where unknown."""
    keys = pd.Index(states[key].unique())
    rows = DatedRows(keys.get_indexer(states[key]), microseconds(states["known_from"]))
    wanted = keys.get_indexer(spine[key])
    place = rows.last_until(wanted, microseconds(spine["as_of"]))
    known = pd.Series((place >= 0) & (wanted >= 0), index=spine.index)
    picked = (
        states[list(fields)].take(np.maximum(place, 0)) if len(states) else states[list(fields)].reindex(spine.index)
    )
    return picked.set_axis(spine.index).where(known)
