"""Rows of a delivery into the rows already held: upsert by key, absent rows stay, unannounced changes are noted."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crm.calendar import INSTANT, Calendar
from crm.contract import TABLES, TableSpec
from crm.typed_rows import kind_of
from crm.values import DTYPES, Kind, format_values, parse_values

SYNC = "sync"
# What tells of the outcome is dated by closed_at, booked_on and deleted_at themselves.
OUTCOME_FIELDS = {"deal_id", "created_at", "closed_at", "is_closed", "is_won", "booked_on", "deleted_at", "merged_into"}
# What happened stays, also when a full export no longer reaches back to it.
NEVER_REMOVED = {"deals", "deal_history", "user_history", "activities", "forecast_calls", "exchange_rates"}


@dataclass(frozen=True)
class Merged:
    """A table after a delivery.

    Attributes
    ----------
    frame : all rows, with every column of the contract and every custom field, sorted by deal_id where there is one.
    new : the rows that were not there before.
    changed, unchanged, removed : how many rows.
    """

    frame: pd.DataFrame
    new: pd.DataFrame
    changed: int
    unchanged: int
    removed: int = 0

    @property
    def differs(self) -> bool:
        """Whether the table is another one than before."""
        return bool(len(self.new) or self.changed or self.removed)


def merge_table(spec: TableSpec, stored: pd.DataFrame | None, delivered: pd.DataFrame, *, full: bool) -> Merged:
    """Upsert a delivery by the table's key.

    A column that was not delivered keeps its stored values; an empty value of a delivered column is a value.

    Parameters
    ----------
    stored : the rows held so far, None for a table never delivered.
    delivered : typed rows in file order, one a key but for copies.
    full : rows that are absent from the delivery go, except from logs of what happened and from deals.
    """
    if not spec.key:
        return _append_to_log(spec, stored, delivered)
    key = list(spec.key)
    rows = delivered.drop_duplicates([name for name in key if name in delivered], keep="last")
    copies = len(delivered) - len(rows)
    before, after = _align(spec, stored, rows)
    place = _place_of(before, after, key)
    known = place >= 0
    held = before.take(place[known]).reset_index(drop=True)
    given = after[known].reset_index(drop=True)
    differs = np.zeros(len(held), dtype=bool)
    for name in delivered.columns:
        differs |= ~equal_values(held[name], given[name])
    updated = held[differs].assign(**{name: given.loc[differs, name] for name in delivered.columns})
    new = after[~known]
    stays = np.ones(len(before), dtype=bool)
    stays[place[known][differs]] = False
    removed = 0
    if full and spec.name not in NEVER_REMOVED:
        absent = np.ones(len(before), dtype=bool)
        absent[place[known]] = False
        stays &= ~absent
        removed = int(absent.sum())
    frame = _sorted(pd.concat([before[stays], updated, new], ignore_index=True))
    return Merged(frame, new, int(differs.sum()), int((~differs).sum()) + copies, removed)


def equal_values(left: pd.Series, right: pd.Series) -> np.ndarray:
    """Where two series of one dtype and length hold the same value, or both none."""
    same = pd.Series(left.array == right.array).to_numpy(dtype=bool, na_value=False)
    return same | (left.isna().to_numpy() & right.isna().to_numpy())


def _append_to_log(spec: TableSpec, stored: pd.DataFrame | None, delivered: pd.DataFrame) -> Merged:
    """Add the rows a log does not hold yet; the whole row is the key, and `_sequence` keeps the file's order."""
    rows = delivered.drop_duplicates()
    before, after = _align(spec, stored, rows)
    if "_sequence" not in before:
        before["_sequence"] = pd.Series(dtype="float64")
    own = before[before["changed_by"] != SYNC] if "changed_by" in before else before
    # A column that only one side was ever given cannot tell rows apart.
    key = [name for name in delivered if own.empty or name in spec.required or own[name].notna().any()]
    new = after[_place_of(before, after, key) < 0]
    first = 0.0 if before.empty else before["_sequence"].max() + 1
    new = new.assign(_sequence=first + np.arange(len(new), dtype="float64"))
    frame = _sorted(pd.concat([before, new], ignore_index=True))
    return Merged(frame, new, 0, len(delivered) - len(new))


def _align(spec: TableSpec, stored: pd.DataFrame | None, delivered: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both frames with the same columns and dtypes: the contract's, then custom fields; text where kinds disagree."""
    before = delivered.iloc[:0] if stored is None else stored
    names = list(dict.fromkeys([*spec.columns, *before.columns, *delivered.columns]))
    left, right = {}, {}
    for name in names:
        dtype = _common_dtype(spec, name, before, delivered)
        left[name] = _as_dtype(before, name, dtype)
        right[name] = _as_dtype(delivered, name, dtype)
    return (
        pd.DataFrame(left, index=before.index).reset_index(drop=True),
        pd.DataFrame(right, index=delivered.index).reset_index(drop=True),
    )


def _common_dtype(spec: TableSpec, name: str, before: pd.DataFrame, delivered: pd.DataFrame) -> str:
    if name in spec.columns:
        return DTYPES[spec.columns[name].kind]
    held = [frame[name] for frame in (before, delivered) if name in frame]
    dtypes = {str(column.dtype) for column in held if column.notna().any()} or {str(held[-1].dtype)}
    return dtypes.pop() if len(dtypes) == 1 else "str"


def _as_dtype(frame: pd.DataFrame, name: str, dtype: str) -> pd.Series:
    if name not in frame or (str(frame[name].dtype) != dtype and frame[name].isna().all()):
        return pd.Series(pd.NA if dtype == "boolean" else None, index=frame.index, dtype=dtype)
    column = frame[name]
    if str(column.dtype) == dtype:
        return column
    return format_values(column, kind_of(column) or "text")


def _place_of(before: pd.DataFrame, after: pd.DataFrame, key: list[str]) -> np.ndarray:
    """The position in `before` of each row of `after` by key, -1 where there is none."""
    if before.empty or after.empty:
        return np.full(len(after), -1, dtype="int64")
    both = pd.concat([before[key], after[key]], ignore_index=True)
    codes = both.groupby(key, sort=False, dropna=False).ngroup().to_numpy()
    place = np.full(codes.max() + 1, -1, dtype="int64")
    place[codes[: len(before)]] = np.arange(len(before))
    return place[codes[len(before) :]]


def _sorted(frame: pd.DataFrame) -> pd.DataFrame:
    if "deal_id" not in frame:
        return frame
    # Sorting the codes of the distinct ids is far quicker than sorting millions of texts.
    codes, _ = pd.factorize(frame["deal_id"], sort=True, use_na_sentinel=False)
    return frame.take(np.argsort(codes, kind="stable")).reset_index(drop=True)


# -- changes nobody announced ----------------------------------------------------------------------------------------


def noticed_changes(
    before: pd.DataFrame,
    after: pd.DataFrame,
    *,
    fields: Iterable[str],
    new_history: pd.DataFrame,
    moment: pd.Timestamp,
    calendar: Calendar,
) -> pd.DataFrame:
    """History rows for deal fields that changed between two imports although no delivered history row says so.

    Parameters
    ----------
    before, after : deals as held and as now; only deals in both are compared.
    fields : the delivered columns of deals.
    new_history : the history rows of this import that were not held before.
    moment : the import's moment, at which the changes become known.

    Returns
    -------
    deal_id, changed_at, field, old_value, new_value, changed_by (`sync`), by deal and field.
    """
    place = _place_of(before, after, ["deal_id"])
    held = before.take(place[place >= 0]).reset_index(drop=True)
    now = after[place >= 0].reset_index(drop=True)
    told = new_history.sort_values(["changed_at", "_sequence"]).drop_duplicates(["deal_id", "field"], keep="last")
    found = []
    for field in fields:
        if field in OUTCOME_FIELDS or field not in held:
            continue
        old, new = _align_column(held[field], now[field])
        differs = ~equal_values(old, new)
        if not differs.any():
            continue
        kind = kind_of_field(field, now)
        rows = pd.DataFrame(
            {
                "deal_id": now.loc[differs, "deal_id"],
                "old_value": format_values(old[differs], kind),
                "new_value": format_values(new[differs], kind),
            }
        )
        last = told.loc[told["field"] == field].set_index("deal_id")["new_value"]
        last_told = canonical_values(last.reindex(rows["deal_id"]).set_axis(rows.index), kind, calendar)
        is_told = rows["deal_id"].isin(last.index)
        rows["old_value"] = rows["old_value"].where(~is_told, last_told)
        found.append(rows[~equal_values(rows["old_value"], rows["new_value"])].assign(field=field))
    if not found:
        return new_history.iloc[:0][["deal_id", "changed_at", "field", "old_value", "new_value", "changed_by"]]
    rows = pd.concat(found, ignore_index=True).sort_values(["deal_id", "field"])
    rows["changed_at"] = pd.Series(moment, index=rows.index, dtype=INSTANT)
    rows["changed_by"] = pd.Series(SYNC, index=rows.index, dtype="str")
    return rows[["deal_id", "changed_at", "field", "old_value", "new_value", "changed_by"]]


def without_explained(
    history: pd.DataFrame, new_history: pd.DataFrame, deals: pd.DataFrame, calendar: Calendar
) -> pd.DataFrame:
    """History without the `sync` rows whose change has now been delivered with its true moment.

    That lies before the row's, or after it: then the delivered change is the next one of the field and the very same.
    """
    is_sync = (history["changed_by"] == SYNC).to_numpy()
    if not is_sync.any() or new_history.empty:
        return history
    own, told = history[is_sync], new_history[new_history["changed_by"] != SYNC]
    told = told[told["field"].isin(own["field"].unique())]
    pairs = _with_canonical(own, deals, calendar).reset_index(names="place")
    pairs = pairs.merge(_with_canonical(told, deals, calendar), on=["deal_id", "field"], suffixes=("", "_told"))
    pairs = pairs.sort_values("changed_at_told", kind="stable")
    is_later = pairs["changed_at_told"] > pairs["changed_at"]
    pairs = pairs[~is_later | ~pairs[is_later].duplicated("place").reindex(pairs.index, fill_value=False)]
    same = equal_values(pairs["new"], pairs["new_told"])
    same &= (pairs["changed_at_told"] <= pairs["changed_at"]) | equal_values(pairs["old"], pairs["old_told"])
    explained = pairs.loc[same, "place"].unique()
    return history.drop(index=explained).reset_index(drop=True)


def canonical_values(text: pd.Series, kind: Kind, calendar: Calendar) -> pd.Series:
    """Text as `format_values` would write its value (`20000.0` is `20000`); what cannot be read stays as it is."""
    parsed = parse_values(text, kind, calendar)
    return format_values(parsed.values, kind).where(parsed.problems.isna(), text)


def _with_canonical(rows: pd.DataFrame, deals: pd.DataFrame, calendar: Calendar) -> pd.DataFrame:
    """Rows of history with both values as `format_values` would write them."""
    parts = []
    for field, part in rows.groupby("field", sort=False):
        kind = kind_of_field(str(field), deals)
        old, new = (canonical_values(part[f"{side}_value"], kind, calendar) for side in ("old", "new"))
        parts.append(part[["deal_id", "changed_at", "field"]].assign(new=new, old=old))
    return pd.concat(parts) if parts else rows.iloc[:0].assign(new="", old="")


def kind_of_field(field: str, deals: pd.DataFrame) -> Kind:
    """The kind of a deal field: as declared, else as the deals hold it."""
    declared = TABLES["deals"].columns.get(field)
    if declared:
        return declared.kind
    return (kind_of(deals[field]) if field in deals else None) or "text"


def _align_column(old: pd.Series, new: pd.Series) -> tuple[pd.Series, pd.Series]:
    dtype = str(new.dtype)
    frame = old.to_frame("value")
    return _as_dtype(frame, "value", dtype), new
