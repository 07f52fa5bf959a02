"""Changes out of what CRMs keep of the past: values without the one before, or rows that are whole states of a deal."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from crm.calendar import Calendar
from crm.values import parse_values

A_MOMENT = pd.Timedelta(1, "min")
A_DAY = pd.Timedelta(1, "D")


@dataclass(frozen=True)
class Changes:
    """What making changes needs to know: whose changes they are, the calendar, and when each of them began.

    Attributes
    ----------
    owner : `deal_id` or `user_id`.
    created_at : text as an import reads it, by owner; None if nothing is known of it.
    """

    owner: str
    calendar: Calendar
    created_at: pd.Series | None


@dataclass(frozen=True)
class Change:
    """Rows of changes, and how many first states were left out since they were found later than the beginning."""

    text: pd.DataFrame
    first_seen_later: int


def old_values(text: pd.DataFrame, changes: Changes) -> pd.Series:
    """The value before each change: the new_value of the change before, of the same owner and field."""
    order = _in_time(text, changes)
    ordered = text.loc[order]
    before = ordered.groupby([changes.owner, "field"], dropna=False)["new_value"].shift()
    return before.reindex(text.index).astype("str")


def told_again(text: pd.DataFrame, changes: Changes) -> pd.Series:
    """Which rows tell a change a second time, as a page that is delivered twice does."""
    told = text.loc[_in_time(text, changes), [changes.owner, "field", "changed_at", "new_value"]]
    before = told.groupby([changes.owner, "field"], dropna=False)[["changed_at", "new_value"]].shift()
    same = (told["changed_at"] == before["changed_at"]) & (told["new_value"] == before["new_value"])
    return same.fillna(False).astype(bool).reindex(text.index)


def changes_between_versions(text: pd.DataFrame, changes: Changes) -> Change:
    """Whole states as changes of one field: rows whose value differs from the state before.

    The first state is the field's initial value if it is as old as its owner. Found later it is no change, and what the
    value was before is not known: it is left out.

    Parameters
    ----------
    text : owner, changed_at, field, new_value; a row is a state.
    """
    order = _in_time(text, changes)
    ordered = text.loc[order]
    owner = ordered[changes.owner]
    is_first = ~owner.duplicated()
    before = ordered.groupby(changes.owner, dropna=False)["new_value"].shift()
    now = ordered["new_value"]
    differs = ~is_first & (now != before) & ~(now.isna() & before.isna())
    dated = with_first_values_dated(ordered[is_first].assign(old_value=np.nan), changes)
    is_initial = _is_from_the_beginning(ordered[is_first], changes)
    initial = dated[is_initial & dated["new_value"].notna()]
    changed = ordered[differs].assign(old_value=before[differs])
    found = pd.concat([initial, changed]).astype("str").sort_index()
    return Change(found, int((~is_initial & ordered.loc[is_first, "new_value"].notna()).sum()))


def with_first_values_dated(text: pd.DataFrame, changes: Changes) -> pd.DataFrame:
    """First values of the moment (if only the day is known: of the day) their owner began hold from its beginning."""
    first = text["old_value"].isna() & _is_from_the_beginning(text, changes)
    if changes.created_at is None or not first.any():
        return text
    began = text[changes.owner].map(changes.created_at)
    return text.assign(changed_at=text["changed_at"].mask(first, began))


def _is_from_the_beginning(text: pd.DataFrame, changes: Changes) -> pd.Series:
    if changes.created_at is None or text.empty:
        return pd.Series(False, index=text.index)
    began = text[changes.owner].map(changes.created_at).astype("str")
    at, moments = (parse_values(column, "instant", changes.calendar).values for column in (began, text["changed_at"]))
    slack = pd.Series(A_MOMENT, index=text.index).mask(began.str.len() == 10, A_DAY)
    return ((moments - at) <= slack) & ((at - moments) <= A_MOMENT)


def _in_time(text: pd.DataFrame, changes: Changes) -> pd.Index:
    """The rows by time; those of one instant as they stand in the file."""
    moments = parse_values(text["changed_at"], "instant", changes.calendar).values
    return moments.sort_values(kind="stable", na_position="last").index
