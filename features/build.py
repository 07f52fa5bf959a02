"""Features for any deals at any moments: dated facts in, one row per (deal_id, as_of) out; for training and scoring."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from crm.facts import JUST_AFTER, microseconds
from crm.history import DealHistory, values_at
from crm.lives import pipelines_of
from crm.money import RateBook
from crm.tables import CrmTables
from features.catalogue import BY_NAME, CATALOGUE
from features.compiler import SOURCES, Inputs, compile_features
from features.engines import run_on_duckdb


@dataclass(frozen=True)
class FeatureSources:
    """The dated facts of one data version as the relations that compiled features read; made once, used for any spine.

    Attributes
    ----------
    relations : Arrow table by name: state, change, activity, contact, opening, outcome, accounts, owners.
    inputs : which columns there are, and since when each source has rows.
    currencies : every currency that a deal ever had.
    """

    relations: dict[str, pa.Table]
    inputs: Inputs
    currencies: tuple[str, ...]
    tables: CrmTables


def build_sources(tables: CrmTables, history: DealHistory) -> FeatureSources:
    """Lay the dated facts out for the compiler."""
    relations = {
        "state": _state(history),
        "change": _dated("change", history.changes, "at"),
        "activity": _dated("activity", _with_first(history.activities), "known_from"),
        "contact": _dated("contact", _with_first(history.contacts), "known_from"),
        "opening": _dated("opening", history.spells, "opened_at"),
        "outcome": _outcomes(tables, history),
        "accounts": _as_numbers(tables.get("accounts")),
        "owners": _as_numbers(_users(tables)),
    }
    columns = {name: frozenset(relations[name]) for name in ("state", "accounts", "owners")}
    since = _first_rows(tables, relations)
    arrow = {name: pa.Table.from_pandas(frame, preserve_index=False) for name, frame in relations.items()}
    currencies = relations["state"]["currency"].dropna().unique() if "currency" in relations["state"] else ()
    return FeatureSources(arrow, Inputs(columns, since), tuple(currencies), tables)


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
    outcomes = stored.relations["outcome"]
    gone = pa.array(list(replaced), outcomes["deal_id"].type)
    others = outcomes.filter(pc.invert(pc.is_in(outcomes["deal_id"], value_set=gone)))
    both = pa.concat_tables([others, proposed.relations["outcome"]], promote_options="permissive")
    whole = {"outcome": both, "owners": stored.relations["owners"], "accounts": stored.relations["accounts"]}
    columns = {**stored.inputs.columns, "state": proposed.inputs.columns["state"]}
    mine, since = proposed.inputs.since, dict(stored.inputs.since)
    for source, at in mine.items():
        since[source] = min(at, since.get(source, at))
    currencies = tuple(dict.fromkeys((*stored.currencies, *proposed.currencies)))
    return replace(
        stored, relations={**proposed.relations, **whole}, inputs=Inputs(columns, since), currencies=currencies
    )


def build_features(
    tables: CrmTables,
    history: DealHistory,
    spine: pd.DataFrame,
    *,
    names: Iterable[str] | None = None,
    sources: FeatureSources | None = None,
    threads: int | None = None,
) -> pd.DataFrame:
    """Features of each deal as known at each moment.

    Parameters
    ----------
    spine : deal_id, as_of: the deals and moments.
    names : features wanted; default all of the catalogue, in its order.
    sources : the result of `build_sources`, to save making it again.
    threads : processors DuckDB may use; default all.

    Returns
    -------
    frame : deal_id, as_of, then a column per feature (float64, or text for categories; missing = unknown), in the order
        and with the index of the spine.
    """
    sources = build_sources(tables, history) if sources is None else sources
    features = CATALOGUE if names is None else [BY_NAME[name] for name in names]
    relations = {**sources.relations, **spine_relations(sources, spine)}
    built = run_on_duckdb(compile_features(features, sources.inputs), relations, threads=threads).to_pandas()
    columns: dict[str, object] = {"deal_id": spine["deal_id"].array, "as_of": spine["as_of"].array}
    for declared in features:
        dtype = "str" if declared.kind == "category" else "float64"
        columns[declared.name] = built[declared.name].astype(dtype).array
    return pd.DataFrame(columns, index=spine.index)


def spine_relations(sources: FeatureSources, spine: pd.DataFrame) -> dict[str, pa.Table]:
    """The spine with its place in the calendar, and the exchange rates of its moments."""
    calendar = sources.tables.calendar
    moments = pd.Series(spine["as_of"].unique()).astype("datetime64[us, UTC]")
    clock = pd.DataFrame(
        {
            "as_of_day": _days(calendar.local_days(moments)),
            "period_end_day": _days(calendar.period_frame(moments)["end"]),
        }
    ).set_index(pd.Index(moments))
    place = clock.index.get_indexer(spine["as_of"])
    framed = pd.DataFrame(
        {
            "spine_row": np.arange(len(spine)),
            "deal_id": spine["deal_id"].array,
            "as_of": microseconds(spine["as_of"]) / 1e6,
            **{name: clock[name].to_numpy()[place] for name in clock},
        }
    )
    rates = _rates(sources, moments)
    return {
        name: pa.Table.from_pandas(frame, preserve_index=False) for name, frame in (("spine", framed), ("rates", rates))
    }


def _rates(sources: FeatureSources, moments: pd.Series) -> pd.DataFrame:
    """The rate of every currency that deals ever had at every moment; the empty text stands for an unnamed currency."""
    named = sources.currencies
    grid = pd.MultiIndex.from_product([moments, ["", *named]], names=["as_of", "currency"]).to_frame(index=False)
    ones = pd.Series(1.0, index=grid.index)
    currency = grid["currency"].where(grid["currency"] != "").astype("str")
    rate = RateBook.from_tables(sources.tables).to_base(ones, currency, grid["as_of"])
    return pd.DataFrame(
        {"as_of": microseconds(grid["as_of"]) / 1e6, "currency": grid["currency"], "rate_to_base": rate}
    )


def _state(history: DealHistory) -> pd.DataFrame:
    states = history.states
    pipelines = pipelines_of(states)
    rank = history.stage_book.look_up(states["stage"], pipelines, "sort_order")
    numbered = _timed(states, "known_from").assign(state_row=np.arange(len(states)), stage_sort_order=rank)
    return numbered


def _outcomes(tables: CrmTables, history: DealHistory) -> pd.DataFrame:
    """Level (c)'s rows: when every deal was opened, handed over and ended, and whose it was then.

    `step` is what the row adds to the number of open deals. A deal ends with the owner, account and amount it had until
    then: what closing, or a reopening after it, wrote over them is no fact about the time before.
    """
    spells = history.spells
    ended = spells.dropna(subset=["ended_at"]).reset_index(drop=True)
    opened = pd.DataFrame({"deal_id": spells["deal_id"], "at": spells["opened_at"], "kind": "opened", "step": 1.0})
    opened["as_of"] = opened["at"]
    closed = pd.DataFrame(
        {
            "deal_id": ended["deal_id"],
            "at": ended["ended_at"],
            "kind": ended["outcome"].replace("deleted", "lost"),
            "step": -1.0,
            "as_of": ended["ended_at"] - JUST_AFTER,
            "days_open": (ended["ended_at"] - ended["opened_at"]).dt.total_seconds() / 86_400,
        }
    )
    rows = pd.concat([opened, closed], ignore_index=True).astype({"days_open": "float64"})
    then = values_at(history, rows, ["owner_id", "account_id", "amount", "currency"])
    amount_base = RateBook.from_tables(tables).to_base(
        then["amount"].astype("float64"), then["currency"].astype("str"), rows["as_of"]
    )
    outcomes = rows[["deal_id", "at", "kind", "step", "days_open"]].assign(
        owner=then["owner_id"], account=then["account_id"], company="all", amount_base=amount_base
    )
    handed_over = [
        _handed_over(history, field, party) for party, field in (("owner", "owner_id"), ("account", "account_id"))
    ]
    outcomes = pd.concat([outcomes, *handed_over], ignore_index=True)
    return _timed(outcomes.astype(dict.fromkeys(["kind", "owner", "account", "company"], "str")), "at")


def _handed_over(history: DealHistory, field: str, party: str) -> pd.DataFrame:
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
                party: moved[side],
            }
        )
        for side, step in (("before", -1.0), (field, 1.0))
    ]
    return pd.concat(parts, ignore_index=True).dropna(subset=[party])


def _first_rows(tables: CrmTables, relations: dict[str, pd.DataFrame]) -> dict[tuple[str, str | None], float]:
    """Since when each source, and each field's history, has rows at all."""
    first: dict[tuple[str, str | None], float] = {
        (name, None): float(relations[name]["moment"].min()) for name in ("activity", "contact") if len(relations[name])
    }
    history = tables.get("deal_history")
    for field, at in history.groupby("field")["changed_at"].min().items():
        first["change", str(field)] = at.timestamp()
    return first


def _with_first(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order they became known, `is_first` 1.0 on the first one of each contact of a deal."""
    rows = rows.dropna(subset=["deal_id"]).sort_values("known_from", kind="stable")
    first = ~rows.duplicated(["deal_id", "contact_id"]) & rows["contact_id"].notna()
    return rows.assign(is_first=first.astype("float64"))


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
        return _days(values)
    if pd.api.types.is_bool_dtype(values):
        return values.astype("float64")
    return values


def _days(dates: pd.Series) -> pd.Series:
    """Dates as days since 1970-01-01; NaN where missing."""
    days = dates.astype("datetime64[us]").astype("int64") / 86_400e6
    return days.where(dates.notna())
