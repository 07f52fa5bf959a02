"""Dated facts laid out as the relations that compiled features read: made once per data version, used for any spine."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from crm.facts import JUST_AFTER, microseconds
from crm.history import DealHistory, values_at
from crm.kept import Kept
from crm.lives import pipelines_of
from crm.money import RateBook
from crm.tables import CrmTables
from features.bulk import began_unseen, bulk_loaded
from features.custom import custom_columns
from features.inputs import PARTY_SOURCES, SOURCES, Inputs
from features.running import DAYS, MONEY, after_inbound, first_of_contact, in_sequence, summable
from features.stages import position_numbers, stage_keys, stage_passages

MOMENTS_KEPT = 8

Levels = Mapping[str, pa.Table]
"""What owners, accounts, stages … have from all their deals, by party: the result of `compile_level`'s statement."""


@dataclass(frozen=True)
class FeatureSources:
    """The dated facts of one data version.

    Attributes
    ----------
    relations : Arrow table by name: state, the deals' sources, outcome, passage, accounts, owners.
    inputs : which columns there are, and since when what has been recorded.
    currencies : every currency that a deal ever had.
    levels : what parties have, by moment and names of features (None: all), kept for whoever asks about few deals again
        and again; None: not kept.
    """

    relations: dict[str, pa.Table]
    inputs: Inputs
    currencies: tuple[str, ...]
    tables: CrmTables
    levels: Kept[tuple[pd.Timestamp, tuple[str, ...] | None], Levels] | None = None

    @cached_property
    def bulk(self) -> pd.Index:
        """Ids of the deals that were loaded in bulk."""
        return bulk_loaded(self.tables.get("deals"), self.tables.calendar.time_zone)

    def keeping_levels(self) -> "FeatureSources":
        """The same, and what parties have is worked out once a moment, not in every build."""
        return replace(self, levels=Kept(MOMENTS_KEPT))


def build_sources(tables: CrmTables, history: DealHistory, *, bulk: pd.Index | None = None) -> FeatureSources:
    """Lay the dated facts out for the compiler.

    Parameters
    ----------
    bulk : what `bulk_loaded` says of all deals, where the tables hold only some; default: of those in the tables.
    """
    bulk = bulk_loaded(tables.get("deals"), tables.calendar.time_zone) if bulk is None else bulk
    custom = custom_columns(tables)
    relations = {
        "state": _state(history, custom),
        "change": _dated("change", _changes(history), "at"),
        "activity": _dated("activity", _activities(history), "known_from"),
        "contact": _dated("contact", first_of_contact(in_sequence(history.contacts, "known_from")), "known_from"),
        "line": _dated("line", _lines(tables), "added_at"),
        "opening": _dated("opening", _openings(history, bulk), "opened_at"),
        "outcome": _outcomes(tables, history, bulk),
        "passage": _timed(stage_passages(history, bulk), "at"),
        "accounts": _as_numbers(tables.get("accounts")),
        "owners": _as_numbers(_users(tables)),
    }
    columns = {name: frozenset(relations[name]) for name in ("state", "accounts", "owners", *PARTY_SOURCES)}
    mailboxes = "activity_from" in relations["owners"] and bool(relations["owners"]["activity_from"].notna().any())
    inputs = Inputs(columns, _first_rows(tables, relations), custom, mailboxes)
    arrow = {name: pa.Table.from_pandas(frame, preserve_index=False) for name, frame in relations.items()}
    currencies = relations["state"]["currency"].dropna().unique() if "currency" in relations["state"] else ()
    return FeatureSources(arrow, inputs, tuple(currencies), tables)


def overlay_sources(stored: FeatureSources, proposed: FeatureSources, replaced: Collection[str]) -> FeatureSources:
    """The facts of a few proposed deals, beside what owners, accounts and the company have from all others.

    Parameters
    ----------
    stored : of the whole store.
    proposed : of tables with the proposed deals alone.
    replaced : ids of stored deals that are left out, because a proposed one stands in their place.

    Returns
    -------
    Sources for spines of proposed deals only.
    """
    whole = {name: stored.relations[name] for name in ("owners", "accounts")}
    inputs = stored.inputs.recorded_also(proposed.inputs.since)
    levels = stored.levels if inputs.since == stored.inputs.since else None
    for name in PARTY_SOURCES:
        rows, instead = stored.relations[name], proposed.relations[name]
        is_gone = pc.is_in(rows["deal_id"], value_set=pa.array(list(replaced), rows["deal_id"].type))
        whole[name] = rows
        if not _same_rows(rows.filter(is_gone), instead):
            others = rows.filter(pc.invert(is_gone))
            whole[name], levels = pa.concat_tables([others, instead], promote_options="permissive"), None
    columns = {**stored.inputs.columns, "state": proposed.inputs.columns["state"]}
    inputs = replace(inputs, columns=columns, custom=proposed.inputs.custom)
    currencies = tuple(dict.fromkeys((*stored.currencies, *proposed.currencies)))
    relations = {**proposed.relations, **whole}
    return replace(stored, relations=relations, inputs=inputs, currencies=currencies, levels=levels)


def _same_rows(some: pa.Table, others: pa.Table) -> bool:
    """Whether two tables of few rows say the same, in whatever order; a column that one lacks is unknown there."""
    told = [
        sorted(repr(sorted((name, value) for name, value in row.items() if value is not None)) for row in rows)
        for rows in (some.to_pylist(), others.to_pylist())
    ]
    return told[0] == told[1]


def _state(history: DealHistory, custom: dict[str, str]) -> pd.DataFrame:
    states = history.states
    numbered = _timed(states.rename(columns=custom), "known_from")
    return numbered.assign(
        state_row=np.arange(len(states)),
        stage_sort_order=history.stage_book.look_up(states["stage"], pipelines_of(states), "sort_order"),
        stage_key=stage_keys(states),
    )


def _changes(history: DealHistory) -> pd.DataFrame:
    """Recorded changes whose numbers compare also for stages and forecast categories."""
    rows = in_sequence(history.changes, "at")
    return position_numbers(history, rows)


def _activities(history: DealHistory) -> pd.DataFrame:
    rows = in_sequence(history.activities.dropna(subset=["deal_id"]), "known_from")
    rows = rows.assign(duration_minutes=summable(rows["duration_minutes"], DAYS))
    return after_inbound(first_of_contact(rows))


def _lines(tables: CrmTables) -> pd.DataFrame:
    """Line items with a date; the discount is the share of the list price that is not charged."""
    lines = in_sequence(tables.get("line_items").dropna(subset=["added_at"]), "added_at")
    listed = lines["quantity"] * lines["list_price"]
    discount = summable(1 - lines["amount"] / listed.where(listed > 0), DAYS)
    return lines.assign(discount=discount)


def _openings(history: DealHistory, bulk: pd.Index) -> pd.DataFrame:
    """When deals were opened; `trusted` is the same instant, missing where it is only that of a bulk load."""
    spells = history.spells
    at = pd.Series(microseconds(spells["opened_at"]) / 1e6, index=spells.index)
    return spells[["deal_id", "opened_at"]].assign(trusted=at.mask(began_unseen(spells, bulk)))


def _outcomes(tables: CrmTables, history: DealHistory, bulk: pd.Index) -> pd.DataFrame:
    """Level (c)'s rows: when every deal was opened, handed over and ended, and whose it was then.

    `step` is what the row adds to the number of open deals; amounts are those of ended deals. A deal ends with the
    owner, account and amount it had until then: what closing, or a reopening after it, wrote over them is no fact about
    the time before.
    """
    spells = history.spells
    spells = spells.assign(trusted=spells["opened_at"].mask(began_unseen(spells, bulk)))
    spells["created"] = spells.groupby("deal_id")["opened_at"].transform("min").mask(spells["deal_id"].isin(bulk))
    ended = spells.dropna(subset=["ended_at"]).reset_index(drop=True)
    opened = pd.DataFrame({"deal_id": spells["deal_id"], "at": spells["opened_at"], "kind": "opened", "step": 1.0})
    opened = opened.assign(as_of=opened["at"], created=spells["created"])
    closed = pd.DataFrame(
        {
            "deal_id": ended["deal_id"],
            "at": ended["ended_at"],
            "kind": ended["outcome"].replace("deleted", "lost"),
            "step": -1.0,
            "as_of": ended["ended_at"] - JUST_AFTER,
            "created": ended["created"],
            "days_open": summable((ended["ended_at"] - ended["trusted"]).dt.total_seconds() / 86_400, DAYS),
            "pushes": _pushes_until(history, ended),
        }
    )
    rows = pd.concat([opened, closed], ignore_index=True).astype({"days_open": "float64", "pushes": "float64"})
    fields = ["owner_id", "account_id"]
    then = values_at(history, rows, [*fields, "amount", "currency"])
    amount_base = RateBook.from_tables(tables).to_base(
        then["amount"].astype("float64"), then["currency"].astype("str"), rows["as_of"]
    )
    columns = ["deal_id", "at", "kind", "step", "created", "days_open", "pushes"]
    amount_base = amount_base.where(rows["kind"] != "opened")
    outcomes = rows[columns].assign(amount_base=summable(amount_base, MONEY))
    outcomes = pd.concat([outcomes, then[fields]], axis=1)
    handed_over = [_handed_over(history, field) for field in fields]
    outcomes = pd.concat([outcomes, *handed_over], ignore_index=True)
    return _timed(outcomes.astype(dict.fromkeys(["kind", *fields], "str")), "at")


def _pushes_until(history: DealHistory, ended: pd.DataFrame) -> np.ndarray:
    """How often each ended deal's close date had moved later, as far as that was recorded."""
    changes = history.changes[history.changes["field"] == "close_date"]
    pushes = changes[changes["new_number"] > changes["old_number"]].sort_values("at", kind="stable")
    pushes = pushes[["deal_id", "at"]].assign(pushes=pushes.groupby("deal_id").cumcount() + 1.0)
    asked = ended[["deal_id", "ended_at"]].assign(row=np.arange(len(ended))).sort_values("ended_at", kind="stable")
    found = pd.merge_asof(asked, pushes, left_on="ended_at", right_on="at", by="deal_id")
    return found.set_index("row")["pushes"].fillna(0.0).reindex(range(len(ended))).to_numpy()


def _handed_over(history: DealHistory, field: str) -> pd.DataFrame:
    """A step down for whoever had an open deal until then, a step up for whoever has it from then on."""
    if field not in history.states:
        return pd.DataFrame()
    states = history.states[["deal_id", "known_from", field]]
    before = states[field].shift().where(states["deal_id"].eq(states["deal_id"].shift()))
    moved = states.assign(before=before)[states[field].fillna("").ne(before.fillna(""))]
    moved = moved.merge(history.spells[["deal_id", "opened_at", "ended_at"]], on="deal_id")
    moved = moved[(moved["known_from"] > moved["opened_at"]) & ~(moved["known_from"] >= moved["ended_at"])]
    parts = [
        pd.DataFrame(
            {
                "deal_id": moved["deal_id"],
                "at": moved["known_from"],
                "kind": "handed over",
                "step": step,
                field: moved[side],
            }
        )
        for side, step in (("before", -1.0), (field, 1.0))
    ]
    return pd.concat(parts, ignore_index=True).dropna(subset=[field])


def _first_rows(tables: CrmTables, relations: dict[str, pd.DataFrame]) -> dict[str, float]:
    """Since when each source, each part of the activities and each field's history has rows at all."""
    first = {name: float(rows["moment"].min()) for name in (*SOURCES, "outcome") if len(rows := relations[name])}
    activity, contact = relations["activity"], relations["contact"]
    for name in ("type", "direction"):
        for value, at in activity.groupby(name)["moment"].min().items():
            first[f"activity:{name}={value}"] = float(at)
    told = [("activity", name, activity) for name in ("contact_id", "duration_minutes")]
    for source, name, rows in (*told, ("contact", "role", contact)):
        if rows[name].notna().any():
            first[f"{source}:{name}"] = float(rows.loc[rows[name].notna(), "moment"].min())
    for field, at in tables.get("deal_history").groupby("field")["changed_at"].min().items():
        first[f"change:{field}"] = at.timestamp()
    return first


def _users(tables: CrmTables) -> pd.DataFrame:
    """The users, with the local day they were hired on."""
    users = tables.get("users")
    return users.assign(hired_at=tables.calendar.local_days(users["hired_at"])) if "hired_at" in users else users


def _dated(source: str, rows: pd.DataFrame, moment: str) -> pd.DataFrame:
    """The rows of a source of the deal, with the columns that features may read."""
    return _timed(rows[["deal_id", moment, *SOURCES[source]]], moment)


def _timed(rows: pd.DataFrame, moment: str) -> pd.DataFrame:
    """Rows with their moment as `moment`, epoch seconds, and all values in the types the compiler reads."""
    at = microseconds(rows[moment]) / 1e6
    return _as_numbers(rows.drop(columns=[moment])).assign(moment=at)


def _as_numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Dates as days since 1970, instants as epoch seconds, booleans as 0 and 1; text and numbers as they are."""
    return frame.assign(**{str(name): _as_number(values) for name, values in frame.items()})


def _as_number(values: pd.Series) -> pd.Series:
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        return pd.Series(microseconds(values) / 1e6, index=values.index).where(values.notna())
    if pd.api.types.is_datetime64_dtype(values):
        return days_since_1970(values)
    if pd.api.types.is_bool_dtype(values):
        return values.astype("float64")
    return values


def days_since_1970(dates: pd.Series) -> pd.Series:
    """Dates as days since 1970-01-01; NaN where missing."""
    days = dates.astype("datetime64[us]").astype("int64") / 86_400e6
    return days.where(dates.notna())
