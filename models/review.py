"""The forecast review as rows: model, calls, baselines and what came, side by side at every weekly cut of a period.

At a cut nothing later is read: calls as submitted by then, a caller's record from periods whose books had closed by
then, baselines as of the cut. Only `actual`, `error` and `inside_80` are known later.
"""

from datetime import timedelta

import numpy as np
import pandas as pd

from crm.bookings import bookings, bookings_by_node, shown_deals
from crm.calendar import INSTANT, Calendar, Period
from crm.calls import CALLED, calls_at
from crm.hierarchy import build_hierarchy, org_chart, place_owners
from crm.history import DealHistory, open_deals
from crm.tables import CrmTables
from models.callers import caller_traits, with_evidence
from models.forecaster import QUANTILES, with_calls
from models.revenue_baselines import first_day, revenue_baselines

REVIEW_COLUMNS = (
    *("period_start", "cut_at", "week_of_period", "node_type", "node_id", "forecaster", "user_id", "category"),
    *("value", "p10", "p90", "actual", "error", "inside_80", "basis", "actual_latest"),
)
REVENUE_BASELINES = ("stage_weighted", "same_day_conversion", "last_period", "same_period_last_year")
NODE_TYPES = ("company", "region", "team", "manager", "rep")
FORECASTERS = ("model", "model_with_calls", "call", "call_corrected", "call_rolled_up", "override", *REVENUE_BASELINES)
RECORD_COLUMNS = ("period_start", "closed_at", "week", "user_id", "category", "called", "actual")
_NODE = ["node_type", "node_id"]
_PLACE = ["rep", "team", "region", "managers"]
_CUT_AT = timedelta(hours=9)
_RECORD_PERIODS = 8


def review_cuts(calendar: Calendar, period: Period, until: pd.Timestamp) -> list[pd.Timestamp]:
    """The Mondays 09:00 local within a period, up to and including `until`, oldest first."""
    days = [calendar.local_day(monday) for monday in calendar.moments(period.start_at, period.end_at)]
    local = [(pd.Timestamp(day) + _CUT_AT).tz_localize(calendar.time_zone) for day in days]
    cuts = [cut.tz_convert("UTC").as_unit("us") for cut in local]
    return [cut for cut in cuts if cut < period.end_at and cut <= until]


def week_of_period(calendar: Calendar, period: Period, cut: pd.Timestamp) -> int:
    """The week of the period that holds a cut: 1 for the first seven local days."""
    return 1 + (calendar.local_day(cut) - period.start).days // 7


def books_close_at(calendar: Calendar, period: Period) -> pd.Timestamp:
    """The moment from which a period's bookings are final."""
    return calendar.midnight(period.end + timedelta(days=calendar.books_close_days))


def final_bookings(tables: CrmTables, history: DealHistory, period: Period, known_at: pd.Timestamp) -> pd.DataFrame:
    """What a period brought each node when its books closed: node_type, node_id, actual (base currency).

    No rows where the books had not closed by `known_at`. A win undone after the books closed stays in them.
    """
    closed_at = books_close_at(tables.calendar, period)
    if closed_at > known_at:
        return pd.DataFrame({"node_type": [], "node_id": [], "actual": []}).astype(
            {"node_type": "str", "node_id": "str", "actual": "float64"}
        )
    return bookings_by_node(tables, history, closed_at, period).rename(columns={"booked": "actual"})


def latest_bookings(tables: CrmTables, history: DealHistory, period: Period, known_at: pd.Timestamp) -> pd.DataFrame:
    """What a period whose books have closed brought each node as known now: node_type, node_id, actual_latest.

    It differs from `final_bookings` by what was undone, invoiced otherwise or booked after the books closed.
    """
    booked = bookings_by_node(tables, history, known_at, period).rename(columns={"booked": "actual_latest"})
    return booked if books_close_at(tables.calendar, period) <= known_at else booked.iloc[:0]


def called_nodes(tables: CrmTables, history: DealHistory, cut: pd.Timestamp, period: Period) -> pd.DataFrame:
    """The nodes at a cut with their heads' calls, for where no model speaks: its columns are missing values."""
    chart = org_chart(tables, history, cut)
    deals = shown_deals(tables, history, open_deals(history, cut))
    placed = place_owners(tables, history, deals["owner_id"], deals["as_of"])
    places = pd.concat([bookings(tables, history, cut, period)[_PLACE], placed[_PLACE]], ignore_index=True)
    nodes = with_calls(build_hierarchy(chart, places).nodes, tables, history, chart, as_of=cut, period=period)
    return nodes.assign(**dict.fromkeys(["mean", *QUANTILES], np.nan))


def caller_record(tables: CrmTables, history: DealHistory, known_at: pd.Timestamp) -> pd.DataFrame:
    """What everybody called at each weekly cut of past periods, and what their subtree then brought.

    Returns
    -------
    Frame with `RECORD_COLUMNS`, a row per period whose books had closed by `known_at`, cut, caller and category; `week`
    is the week of the period, `closed_at` the moment from which `actual` was known. Money in base currency.
    """
    calendar, called_for = tables.calendar, set(tables.get("forecast_calls")["period_start"].dropna())
    parts = []
    for period in calendar.periods_between(first_day(tables), known_at):
        known = pd.Timestamp(period.start) in called_for and period.start_at >= first_day(tables)
        actual = final_bookings(tables, history, period, known_at) if known else pd.DataFrame()
        if actual.empty:
            continue
        brought = _brought_by_user(actual)
        for cut in review_cuts(calendar, period, known_at):
            calls = _calls(tables, history, cut, period).rename_axis("user_id").reset_index()
            said = calls.melt("user_id", list(CALLED), "category", "called").dropna(subset=["called"])
            said = said.assign(
                period_start=pd.Timestamp(period.start),
                closed_at=books_close_at(calendar, period),
                week=week_of_period(calendar, period, cut),
                actual=said["user_id"].map(brought).astype("float64"),
            )
            parts.append(said.dropna(subset=["actual"]))
    return pd.concat(parts or [pd.DataFrame(columns=list(RECORD_COLUMNS))], ignore_index=True)[list(RECORD_COLUMNS)]


def call_ratios(record: pd.DataFrame, *, week: int, cut: pd.Timestamp) -> pd.Series:
    """By how much callers missed at this week: what came over what they called, by (user_id, category).

    Sums over the last eight periods whose books had closed by `cut`; no ratio for who called nothing above zero there.
    """
    seen = record[(record["week"] == week) & (record["closed_at"] <= cut)]
    recent = sorted(seen["period_start"].unique())[-_RECORD_PERIODS:]
    sums = seen[seen["period_start"].isin(recent)].groupby(["user_id", "category"])[["called", "actual"]].sum()
    sums = sums[sums["called"] > 0]
    return (sums["actual"] / sums["called"]).astype("float64")


def caller_bias(record: pd.DataFrame, *, week: int, at: pd.Timestamp) -> pd.DataFrame:
    """By how much commits of the last eight closed periods were off at this week: above zero, too much was promised.

    Returns
    -------
    Frame indexed by user_id: bias (share of what came; NaN where nothing came), periods (of this week), cases (commits
    of any week whose period's books had closed by `at`: how much stands behind what is said of a person).
    """
    known = record[(record["closed_at"] <= at) & (record["category"] == "commit")]
    cases = known.groupby("user_id").size().rename("cases")
    here = known[known["week"] == week]
    recent = sorted(here["period_start"].unique())[-_RECORD_PERIODS:]
    sums = (
        here[here["period_start"].isin(recent)]
        .groupby("user_id")
        .agg(called=("called", "sum"), came=("actual", "sum"), periods=("period_start", "nunique"))
    )
    bias = (sums["called"] / sums["came"].where(sums["came"] > 0) - 1).astype("float64")
    return pd.DataFrame({"bias": bias, "periods": sums["periods"]}).join(cases, how="left")


def review_rows(
    tables: CrmTables,
    history: DealHistory,
    nodes: pd.DataFrame,
    record: pd.DataFrame,
    *,
    cut: pd.Timestamp,
    period: Period,
    basis: str,
    overrides: pd.DataFrame | None = None,
    baselines: bool = True,
) -> pd.DataFrame:
    """The rows of one cut, actuals not yet known.

    Parameters
    ----------
    nodes : forecast rows (scope `all` counts), or `called_nodes`.
    record : see `caller_record`; what was not known at `cut` is left aside.
    basis : of the model's and the callers' rows; the model with calls, corrected calls and baselines are always
        `replayed`, overrides `published`.
    overrides : of the period, in the order in which they were said (`Ledger.overrides`); of a node the last one
        submitted by `cut` stands.
    baselines : whether to work them out, which takes most of the time.

    Returns
    -------
    Frame with `REVIEW_COLUMNS` and all of `QUANTILES`. No row where a forecaster has nothing to say.
    """
    nodes = nodes[nodes["scope"] == "all"] if "scope" in nodes else nodes
    week = week_of_period(tables.calendar, period, cut)
    calls = _call_rows(nodes)
    said = pd.concat([_model_rows(nodes), calls], ignore_index=True).assign(basis=basis)
    computed = [
        _evidence_rows(nodes, calls, caller_traits(record, week=week, cut=cut)),
        _corrected_rows(calls, call_ratios(record, week=week, cut=cut)),
    ]
    if baselines:
        computed.append(_baseline_rows(tables, history, nodes, cut, period))
    later = pd.concat(computed, ignore_index=True).assign(basis="replayed")
    against = _override_rows(overrides, cut).assign(basis="published")
    rows = pd.concat([said, against, later], ignore_index=True).assign(
        period_start=pd.Timestamp(period.start).as_unit("us"), cut_at=cut, week_of_period=week
    )
    rows = _typed(rows).dropna(subset=["value"])
    return rows.sort_values(["node_type", "node_id", "forecaster", "category"], key=_in_order, ignore_index=True)


def with_actual(rows: pd.DataFrame, actual: pd.DataFrame, latest: pd.DataFrame | None = None) -> pd.DataFrame:
    """Review rows of one period beside its final bookings (`final_bookings`): actual, error, inside_80.

    A node without bookings brought nothing; without final bookings all three are missing. `latest` (see
    `latest_bookings`) gives actual_latest, which nobody is judged by.
    """
    found = rows.drop(columns=["actual", "actual_latest"]).merge(actual, on=_NODE, how="left")
    came = found["actual"].fillna(0.0) if len(actual) else pd.Series(np.nan, index=found.index)
    inside = ((came >= found["p10"]) & (came <= found["p90"])).astype("boolean")
    found = found.assign(
        actual=came, error=found["value"] - came, inside_80=inside.mask(found["p10"].isna() | came.isna())
    )
    if latest is None or latest.empty:
        return found.assign(actual_latest=np.nan)[rows.columns]
    found = found.merge(latest, on=_NODE, how="left")
    return found.assign(actual_latest=found["actual_latest"].fillna(0.0))[rows.columns]


def empty_rows() -> pd.DataFrame:
    """Review rows where there are none."""
    return _typed(pd.DataFrame())


def _in_order(column: pd.Series) -> pd.Series:
    """The company before its parts, the model before those beside it, and the rest by name."""
    orders = {"node_type": NODE_TYPES, "forecaster": FORECASTERS, "category": CALLED}
    named = orders.get(str(column.name))
    return column if named is None else column.map({name: place for place, name in enumerate(named)})


def _typed(rows: pd.DataFrame) -> pd.DataFrame:
    texts = ("node_type", "node_id", "forecaster", "user_id", "category", "basis")
    numbers = ("value", "actual", "error", "actual_latest", *QUANTILES)
    kinds = {**dict.fromkeys(texts, "str"), **dict.fromkeys(numbers, "float64"), "inside_80": "boolean"}
    kinds |= {"period_start": "datetime64[us]", "cut_at": INSTANT, "week_of_period": "int64"}
    columns = [*REVIEW_COLUMNS, *(name for name in QUANTILES if name not in REVIEW_COLUMNS)]
    return rows.reindex(columns=columns).astype(kinds)


def _model_rows(nodes: pd.DataFrame) -> pd.DataFrame:
    return nodes[[*_NODE, *QUANTILES]].assign(forecaster="model", value=nodes["mean"])


def _call_rows(nodes: pd.DataFrame) -> pd.DataFrame:
    """What each node's head called, by category, and what the direct reports commit together."""
    bare = nodes[_NODE]
    rows = [
        bare.assign(forecaster="call", category=each, user_id=nodes["call_user_id"], value=nodes[f"call_{each}"])
        for each in CALLED
    ]
    rows.append(bare.assign(forecaster="call_rolled_up", category="commit", value=nodes["call_rolled_up"]))
    return pd.concat(rows, ignore_index=True).dropna(subset=["value"], ignore_index=True)


def _evidence_rows(nodes: pd.DataFrame, calls: pd.DataFrame, traits: pd.DataFrame) -> pd.DataFrame:
    """The model with the heads' calls as evidence, where both spoke."""
    said = with_evidence(nodes, calls[calls["forecaster"] == "call"], traits)
    return said.drop(columns=["user_id", "category"]).assign(forecaster="model_with_calls")


def _override_rows(overrides: pd.DataFrame | None, cut: pd.Timestamp) -> pd.DataFrame:
    if overrides is None:
        return pd.DataFrame(columns=_NODE)
    said = overrides[overrides["node_type"].notna() & (overrides["submitted_at"] <= cut)]
    said = said.drop_duplicates(_NODE, keep="last")
    return said[[*_NODE, "user_id", "value"]].assign(forecaster="override")


def _corrected_rows(calls: pd.DataFrame, ratios: pd.Series) -> pd.DataFrame:
    called = calls[calls["forecaster"] == "call"]
    keys = pd.MultiIndex.from_frame(called[["user_id", "category"]])
    ratio = ratios.reindex(keys).to_numpy() if len(ratios) else np.full(len(called), np.nan)
    return called.assign(forecaster="call_corrected", value=called["value"] * ratio)


def _baseline_rows(
    tables: CrmTables, history: DealHistory, nodes: pd.DataFrame, cut: pd.Timestamp, period: Period
) -> pd.DataFrame:
    """The baselines for every node of the review: one that a known baseline does not name gets nothing from it."""
    values = revenue_baselines(tables, history, cut, period).dropna(subset=["value"])
    parts = [values]
    for name, known in values.groupby("forecaster"):
        missing = nodes[_NODE].merge(known[_NODE], on=_NODE, how="left", indicator="found")
        missing = missing.loc[missing["found"] == "left_only", _NODE]
        parts.append(missing.assign(forecaster=name, value=0.0))
    return pd.concat(parts, ignore_index=True)


def _brought_by_user(actual: pd.DataFrame) -> dict[str, float]:
    """What the subtree of each user brought; of who has nobody below, their own."""
    people = actual[actual["node_type"].isin(["rep", "manager"])].sort_values("node_type", kind="stable")
    return people.drop_duplicates("node_id").set_index("node_id")["actual"].to_dict()


def _calls(tables: CrmTables, history: DealHistory, cut: pd.Timestamp, period: Period) -> pd.DataFrame:
    # Only calls made per category need to know what was won when they were made.
    converted = tables.calendar.calls == "per_category"
    won = bookings(tables, history, cut, period) if converted else pd.DataFrame()
    return calls_at(tables, cut, period, won)
