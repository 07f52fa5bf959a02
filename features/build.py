"""Features for any deals at any moments: dated facts in, one row per (deal_id, as_of) out; for training and scoring."""

from collections.abc import Iterable
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa

from crm.facts import microseconds
from crm.history import DealHistory
from crm.money import RateBook
from crm.tables import CrmTables
from features.catalogue import BY_NAME, catalogue_of
from features.compiler import compile_features, compile_level
from features.engines import Engine, run_on_duckdb
from features.parties import PARTIES
from features.sources import FeatureSources, Levels, build_sources, days_since_1970
from features.spec import Feature

FEW_MOMENTS = 2
"""A spine of so many may be a question about one deal; one of more is a batch, whose levels nobody wants again."""


def build_features(
    tables: CrmTables,
    history: DealHistory,
    spine: pd.DataFrame,
    *,
    names: Iterable[str] | None = None,
    sources: FeatureSources | None = None,
    levels: Levels | None = None,
    engine: Engine | None = None,
    threads: int | None = None,
) -> pd.DataFrame:
    """Features of each deal as known at each moment.

    Parameters
    ----------
    spine : deal_id, as_of: the deals and moments.
    names : features wanted; default all of the catalogue, in its order, then those of the CRM's custom fields.
    sources : the result of `build_sources`, to save making it again.
    levels : the result of `party_levels` for the same names and for all moments of the spine, to save it, too.
    engine : where the statement runs; default DuckDB in this process.
    threads : processors that DuckDB may use; default all.

    Returns
    -------
    frame : deal_id, as_of, then a column per feature (float64, or text for categories; missing = unknown), in the order
        and with the index of the spine.
    """
    sources = build_sources(tables, history) if sources is None else sources
    return build_from_sources(sources, spine, names=names, levels=levels, engine=engine, threads=threads)


def build_from_sources(
    sources: FeatureSources,
    spine: pd.DataFrame,
    *,
    names: Iterable[str] | None = None,
    levels: Levels | None = None,
    engine: Engine | None = None,
    threads: int | None = None,
) -> pd.DataFrame:
    """What `build_features` gives, of facts that are laid out already, for deals that are among them."""
    names = None if names is None else tuple(names)
    features = chosen_features(sources, names)
    run = engine or partial(run_on_duckdb, threads=threads)
    if levels is None:
        levels = _kept_levels(sources, spine, names, run)
    given = {f"{party}_level": level for party, level in (levels or {}).items()}
    relations = {**sources.relations, **given, **spine_relations(sources, spine)}
    statement = compile_features(features, sources.inputs, given=levels or ())
    return to_frame(run(statement, relations), spine, features)


def to_frame(built: pa.Table, spine: pd.DataFrame, features: Iterable[Feature]) -> pd.DataFrame:
    """What an engine gave for a spine, in pandas' types: see `build_features`."""
    table = built.to_pandas()
    columns: dict[str, object] = {"deal_id": spine["deal_id"].array, "as_of": spine["as_of"].array}
    for declared in features:
        dtype = "str" if declared.kind == "category" else "float64"
        values = table[declared.name]
        columns[declared.name] = (values if values.dtype == dtype else values.astype(dtype)).array
    return pd.DataFrame(columns, index=spine.index)


def party_levels(
    sources: FeatureSources,
    moments: Iterable[pd.Timestamp],
    *,
    parties: Iterable[str] = PARTIES,
    names: Iterable[str] | None = None,
    engine: Engine | None = None,
    threads: int | None = None,
) -> dict[str, pa.Table]:
    """What had happened with all deals of every owner, account, stage … by each moment, for any spine of them.

    Returns
    -------
    tables : by party, for those that the features read; columns party, moment and one per aggregate.
    """
    features = chosen_features(sources, names)
    spine = pd.DataFrame({"as_of": pd.Series(list(moments)).astype("datetime64[us, UTC]")})
    relations = {**sources.relations, "spine": pa.table({"as_of": microseconds(spine["as_of"]) / 1e6})}
    statements = {party: compile_level(features, sources.inputs, party) for party in parties}
    run = engine or partial(run_on_duckdb, threads=threads)
    return {party: run(statement, relations) for party, statement in statements.items() if statement is not None}


def _kept_levels(
    sources: FeatureSources, spine: pd.DataFrame, names: tuple[str, ...] | None, engine: Engine
) -> Levels | None:
    """The levels that the sources keep, for a spine of few moments; None where they keep none."""
    moments = spine["as_of"].drop_duplicates()
    if sources.levels is None or not 0 < len(moments) <= FEW_MOMENTS:
        return None
    each = [
        sources.levels.of((moment, names), partial(party_levels, sources, [moment], names=names, engine=engine))
        for moment in moments
    ]
    return {party: pa.concat_tables([levels[party] for levels in each]) for party in each[0]}


def chosen_features(sources: FeatureSources, names: Iterable[str] | None) -> list[Feature]:
    """The features of these names; all that the data allow if none are named."""
    return catalogue_of(sources.tables) if names is None else [BY_NAME[name] for name in names]


def spine_relations(sources: FeatureSources, spine: pd.DataFrame) -> dict[str, pa.Table]:
    """The spine with its place in the calendar, and the exchange rates of its moments."""
    calendar = sources.tables.calendar
    moments = pd.Series(spine["as_of"].unique()).astype("datetime64[us, UTC]")
    period, today = calendar.period_frame(moments), calendar.local_days(moments)
    # Weekdays are counted whatever the country; holidays are nobody's table.
    left = np.busday_count(_day64(today), _day64(period["end"]))
    clock = pd.DataFrame(
        {
            "as_of_day": days_since_1970(today),
            "period_end_day": days_since_1970(period["end"]),
            "business_days_left": left.astype("float64"),
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


def _day64(days: pd.Series) -> np.ndarray:
    return days.to_numpy().astype("datetime64[D]")


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
