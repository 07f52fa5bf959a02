"""What the company knew at any moment: dated facts, the lives of deals, and the export as it would have stood then.

Everything downstream (features, labels, models, reports) reads a `DealHistory` and only rows dated until its moment.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from crm.facts import DatedRows, build_states, classify_fields, deal_fields, microseconds, typed_values, values_as_of
from crm.lives import StageBook, build_lives, read_stage_book
from crm.tables import CrmTables

__all__ = [
    "DealHistory",
    "HasSpells",
    "build_history",
    "classify_fields",
    "deal_fields",
    "open_deals",
    "owner_places",
    "snapshot_spine",
    "values_at",
    "wins_counting",
]

PLACE_FIELDS = ("team", "region", "manager_id", "role", "territory")


@dataclass(frozen=True)
class DealHistory:
    """The dated facts of one data version.

    Attributes
    ----------
    states : deal_id, known_from, then a typed column per deal field; the value at T is that of the last row with
        known_from <= T, missing = unknown.
    changes : deal_id, at, field, old_value, new_value, old_number, new_number: recorded changes, no initial ones;
        numbers as they are, dates as days since 1970, stages as their sort order.
    spells : deal_id, opened_at, ended_at, outcome, closed_stage, booked_on; open at T: opened_at <= T < ended_at.
    endings : deal_id, at, until, outcome, closed_stage, booked_on: how a deal that is not open came to be so.
    wins : deal_id, won_at, undone_at, booked_on: a win counts from won_at until undone_at.
    activities : the activities with `known_from`, the later of occurred_at and logged_at.
    contacts : dated rows of deal_contacts: deal_id, contact_id, role, known_from.
    user_states : user_id, known_from, team, region, manager_id, role, territory as a step function like `states`.
    left_out : ids of deals that are closed although nobody knows since when.
    stage_book : meaning of the stages.
    """

    states: pd.DataFrame
    changes: pd.DataFrame
    spells: pd.DataFrame
    endings: pd.DataFrame
    wins: pd.DataFrame
    activities: pd.DataFrame
    contacts: pd.DataFrame
    user_states: pd.DataFrame
    left_out: pd.Index
    stage_book: StageBook


def build_history(tables: CrmTables) -> DealHistory:
    """Turn the tables of a data version, with its field classes, into dated facts."""
    book = read_stage_book(tables)
    lives = build_lives(tables, book)
    activities = tables.get("activities")
    logged_at = activities["logged_at"] if "logged_at" in activities else activities["occurred_at"]
    later = logged_at.where(logged_at > activities["occurred_at"], activities["occurred_at"])
    contacts = tables.get("deal_contacts")
    won = lives.endings[lives.endings["outcome"] == "won"].reset_index(drop=True)
    return DealHistory(
        states=build_states(tables, lives, book),
        changes=_build_changes(tables, book, lives.left_out),
        spells=lives.spells,
        endings=lives.endings,
        wins=won.rename(columns={"at": "won_at", "until": "undone_at"})[
            ["deal_id", "won_at", "undone_at", "booked_on"]
        ],
        activities=activities.assign(known_from=later),
        contacts=contacts.rename(columns={"added_at": "known_from"}).dropna(subset=["known_from"]),
        user_states=_build_user_states(tables),
        left_out=lives.left_out,
        stage_book=book,
    )


def _build_changes(tables: CrmTables, book: StageBook, left_out: pd.Index) -> pd.DataFrame:
    deals, rows = tables.get("deals"), tables.get("deal_history")
    deals = deals[~deals["deal_id"].isin(left_out)]
    rows = rows.sort_values("changed_at", kind="stable", ignore_index=True)
    created = deals.set_index("deal_id")["created_at"].reindex(rows["deal_id"]).set_axis(rows.index)
    initial = rows["changed_at"].eq(created) & rows["old_value"].isna()
    same = rows["old_value"].eq(rows["new_value"])
    # A row dated before the deal was created became known with the deal.
    rows = rows.assign(changed_at=rows["changed_at"].where(rows["changed_at"] > created, created))
    rows = rows[created.notna() & ~initial & ~same].sort_values("changed_at", kind="stable", ignore_index=True)
    numbers = {side: pd.Series(float("nan"), index=rows.index) for side in ("old", "new")}
    for field, places in rows.groupby("field").groups.items():
        for side, column in numbers.items():
            column.loc[places] = _as_numbers(rows.loc[places, f"{side}_value"], str(field), deals, book)
    return pd.DataFrame(
        {
            "deal_id": rows["deal_id"],
            "at": rows["changed_at"],
            "field": rows["field"],
            "old_value": rows["old_value"],
            "new_value": rows["new_value"],
            "old_number": numbers["old"],
            "new_number": numbers["new"],
        }
    )


def _as_numbers(text: pd.Series, field: str, deals: pd.DataFrame, book: StageBook) -> pd.Series:
    """Values that can be compared: numbers as they are, dates as days since 1970, stages as their sort order."""
    if field == "stage":
        return text.map(book.by_name["sort_order"]).astype("float64")
    if field not in deals or pd.api.types.is_string_dtype(deals[field]):
        return pd.Series(float("nan"), index=text.index)
    values = typed_values(text, deals[field])
    if pd.api.types.is_datetime64_any_dtype(values):
        days = microseconds(values.dt.tz_localize("UTC") if values.dt.tz is None else values) / 86_400e6
        return pd.Series(days, index=text.index).where(values.notna().to_numpy())
    return values.astype("float64")


def _build_user_states(tables: CrmTables) -> pd.DataFrame:
    """Where people belonged: a field's old values before its recorded changes, else as it stands."""
    users, rows = tables.get("users"), tables.get("user_history").dropna(subset=["changed_at"])
    rows = rows.sort_values("changed_at", kind="stable")
    current = users.set_index("user_id").reindex(columns=list(PLACE_FIELDS)).astype("str")
    rows = rows[rows["field"].isin(PLACE_FIELDS) & rows["user_id"].isin(current.index)]
    first = rows.drop_duplicates(["user_id", "field"]).pivot(index="user_id", columns="field", values="old_value")
    start = current.copy()
    for field in first.columns:
        changed = first.index[~first[field].isna() | first.index.isin(rows.loc[rows["field"] == field, "user_id"])]
        start.loc[changed, field] = first.loc[changed, field]
    moves = rows[["user_id", "changed_at"]].drop_duplicates()
    user = np.concatenate([np.arange(len(current)), current.index.get_indexer(moves["user_id"])])
    at = np.concatenate([np.zeros(len(current), dtype=np.int64), microseconds(moves["changed_at"])])
    columns = {}
    for field in PLACE_FIELDS:
        its = rows[rows["field"] == field]
        recorded = DatedRows(current.index.get_indexer(its["user_id"]), microseconds(its["changed_at"]))
        # Positions in the values at the start, followed by the recorded ones.
        place = recorded.last_until(user, at)
        values = pd.concat([start[field], its["new_value"]]).array
        columns[field] = values.take(np.where(place >= 0, len(start) + place, user))
    states = pd.DataFrame(
        {
            "user_id": current.index.array.take(user),
            "known_from": pd.to_datetime(at, unit="us", utc=True).as_unit("us"),
            **columns,
        }
    ).astype({"user_id": "str", **dict.fromkeys(PLACE_FIELDS, "str")})
    return states.sort_values(["user_id", "known_from"], ignore_index=True)


class HasSpells(Protocol):
    """What tells when deals were open: a whole history, or what is kept of a large one."""

    @property
    def spells(self) -> pd.DataFrame:
        """As in `DealHistory`."""
        ...


def snapshot_spine(history: HasSpells, moments: Sequence[pd.Timestamp]) -> pd.DataFrame:
    """One row per deal open at each moment.

    Returns
    -------
    frame : deal_id, as_of; by moment, then by deal_id.
    """
    spells = history.spells.sort_values(["deal_id", "opened_at"])
    asked = pd.Series(list(moments), dtype="datetime64[us, UTC]")
    at = microseconds(asked)
    in_time = np.argsort(at, kind="stable")
    first = np.searchsorted(at[in_time], microseconds(spells["opened_at"]))
    count = np.maximum(np.searchsorted(at[in_time], microseconds(spells["ended_at"])) - first, 0)
    spell = np.repeat(np.arange(len(spells)), count)
    # The moments of a spell follow one another: the first, and as many places on as rows since the spell's first row.
    since_first = np.arange(len(spell)) - np.repeat(np.cumsum(count) - count, count)
    moment = in_time[first[spell] + since_first]
    by_moment = np.argsort(moment, kind="stable")
    spine = {
        "deal_id": spells["deal_id"].array.take(spell[by_moment]),
        "as_of": asked.array.take(moment[by_moment]),
    }
    return pd.DataFrame(spine).astype({"deal_id": "str", "as_of": "datetime64[us, UTC]"})


def open_deals(history: HasSpells, moment: pd.Timestamp) -> pd.DataFrame:
    """The deals open at one moment: deal_id, as_of."""
    return snapshot_spine(history, [moment])


def values_at(history: DealHistory, spine: pd.DataFrame, fields: Iterable[str]) -> pd.DataFrame:
    """The as-of values of deal fields for a spine of deal_id and as_of, in its order; undelivered ones are unknown."""
    wanted = list(fields)
    states = history.states
    missing = {name: pd.Series(None, index=states.index, dtype="str") for name in wanted if name not in states}
    return values_as_of(states.assign(**missing), "deal_id", spine, wanted)


def owner_places(history: DealHistory, owners: pd.Series, moments: pd.Series | pd.Timestamp) -> pd.DataFrame:
    """Team, region and manager of each owner at each moment; missing where the owner is unknown."""
    spine = pd.DataFrame({"user_id": owners, "as_of": moments})
    return values_as_of(history.user_states, "user_id", spine, PLACE_FIELDS)


def wins_counting(history: DealHistory, moment: pd.Timestamp) -> pd.DataFrame:
    """The wins that count at a moment: won_at <= moment < undone_at, columns of `DealHistory.wins`."""
    wins = history.wins
    return wins[(wins["won_at"] <= moment) & ~(wins["undone_at"] <= moment)].reset_index(drop=True)
