"""What a period will bring, and what is asked of it besides: why it moved, what a quota takes, what would be."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pandas as pd

from crm.calendar import Period
from crm.errors import Detail, UsageError
from crm.plain import to_plain
from ledger.ledger import Ledger
from models.forecaster import FORECAST_COLUMNS, DrawnForecast, as_rows
from models.gap import GAP_COLUMNS, quota_gaps
from models.moves import MOVED_COLUMNS, Moves
from models.replays import bundle_that_spoke
from models.supposing import Supposition, suppose, supposed_deals
from serving.blind import has_to_call, models_word_told, without_models_word
from serving.callers import Caller
from serving.errors import SHOWN, Forbidden, asked_in, nobody_sees
from serving.given import head_of
from serving.readings import Readings
from serving.said import nodes_told, scores_told
from serving.schema import ForecastRequest, SupposedDeal, rows_of
from serving.state import State


def answer_forecast(
    asked: ForecastRequest,
    caller: Caller,
    state: State,
    ledger: Ledger,
    *,
    workspace: Path,
    readings: Readings,
    published_at: Callable[[Period, State], pd.Timestamp | None],
    blind_calls: bool = False,
) -> dict[str, Any]:
    """The `forecast` answer.

    Raises
    ------
    NotFound
        No such node, or a deal supposed to be otherwise does not exist, or may not be seen.
    UsageError
        No period starts on the day; `since` is no earlier moment, or one of which no model may speak; what is supposed
        of a deal breaks a rule.
    Forbidden
        `what_if` without the scope of that name; more than the rows from who has to call first.
    """
    calendar = state.tables.calendar
    start = asked.period_start
    period = calendar.period_of(state.as_of) if start is None else calendar.period_starting(start)
    nodes = asked_nodes(asked, caller, state, state.forecast(period))
    if caller.user_id and has_to_call(ledger, caller, state, period, blind_calls=blind_calls):
        if asked.since is not None or asked.gap or asked.what_if:
            raise Forbidden("Calls are blind here: what the model says of this period is told after your call.")
        nodes = without_models_word(nodes, state, caller.user_id, period)
    readings.told(caller, nodes_told(period, models_word_told(nodes)))
    head = head_of(state)
    answer = {
        **head,
        "period_start": to_plain(period.start),
        "period_end": to_plain(period.end),
        "published_at": to_plain(published_at(period, state)),
        "nodes": rows_of(nodes, FORECAST_COLUMNS),
    }
    if asked.since is not None:
        answer |= moved_since(state, ledger, workspace, period, nodes, asked.since, caller)
    if asked.gap:
        expected_on = state.scores.set_index("deal_id")["expected_close_date"]
        gaps = quota_gaps(state.drawn(period), nodes, expected_on)
        readings.told(caller, scores_told([deal for deals in gaps["deals"] for deal in deals]))
        answer["gap"] = rows_of(gaps, GAP_COLUMNS)
    if asked.what_if:
        caller.must_have("what_if")
        answer["what_if"] = what_would_be(asked, caller, state, period)
        readings.told(caller, scores_told(answer["what_if"]["deals"]))
    return answer


def asked_nodes(asked: ForecastRequest, caller: Caller, state: State, nodes: pd.DataFrame) -> pd.DataFrame:
    """The forecast rows that were asked for, of those that may be seen.

    Raises
    ------
    NotFound
        The node named does not exist, or may not be seen.
    """
    nodes = state.visible_nodes(nodes, caller.viewer)
    for column, wanted in (("node_type", asked.node_type), ("node_id", asked.node_id)):
        nodes = nodes if wanted is None else nodes[nodes[column] == wanted]
    if asked.node_id is not None and nodes.empty:
        raise nobody_sees(asked.node_type or "node", asked.node_id)
    return nodes


def moved_since(
    state: State, ledger: Ledger, workspace: Path, period: Period, nodes: pd.DataFrame, since: str, caller: Caller
) -> dict[str, Any]:
    """Why these nodes are not what they were: `since`, `moved`.

    Raises
    ------
    UsageError
        `since` is no moment before the data's, or no model may speak for it.
    """
    at = state.tables.calendar.parse_moment(since, where="since")
    if at >= state.as_of:
        rule = f"earlier than the data's moment, {to_plain(state.as_of)}"
        raise UsageError(
            "A forecast is compared with one made before it.", Detail("since", since[:SHOWN], rule, "name another day")
        )
    with asked_in("since", since):
        before = bundle_that_spoke(workspace, ledger, state.tables, period, at)
    rows = moved_rows(state.moved(period, at, before), nodes, state, caller.viewer)
    spoke = {"as_of": to_plain(at), "model_version": before.model_version}
    return {"since": spoke, "moved": rows_of(rows, MOVED_COLUMNS)}


def moved_rows(moves: Moves, nodes: pd.DataFrame, state: State, viewer: str | None) -> pd.DataFrame:
    """The bars of some nodes; a deal that has left for where the viewer does not see it is not named."""
    rows = moves.rows()
    keys = ["node_type", "node_id"]
    rows = rows[pd.MultiIndex.from_frame(rows[keys]).isin(pd.MultiIndex.from_frame(nodes[keys]))]
    if viewer is None and not state.withheld_owners:
        return rows
    told = []
    for row in rows.to_dict("records"):
        seen = [deal for deal in row["deals"] if state.may_see_score(viewer, deal["deal_id"])]
        hidden = [deal["amount"] for deal in row["deals"] if deal not in seen]
        others = {"other_deals": row["other_deals"] + len(hidden), "other_amount": row["other_amount"] + sum(hidden)}
        told.append({**row, "deals": seen, **others})
    return pd.DataFrame(told, columns=list(MOVED_COLUMNS))


def what_would_be(asked: ForecastRequest, caller: Caller, state: State, period: Period) -> dict[str, Any]:
    """The asked nodes as they would be, and the deals then and now: `nodes`, `deals`.

    Raises
    ------
    NotFound
        A deal does not exist, or may not be seen.
    UsageError
        A deal is not open, is named twice, or nothing is supposed of it.
    """
    drawn = state.drawn(period)
    supposed = read_suppositions(asked.what_if, caller, state, known=set(drawn.parts.deals["deal_id"]))
    otherwise = supposed_deals(state.bundle, state.tables, state.history, state.sources, drawn, supposed)
    dropped = [each.deal_id for each in supposed if each.drop]
    would = suppose(drawn, state.bundle.revenue, otherwise, dropped=dropped)
    told = would.told(state.tables, state.history)
    rows = as_rows(told, state.tables, state.as_of, period, state.bundle.model_version)
    nodes = asked_nodes(asked, caller, state, rows)
    ids = [each.deal_id for each in supposed]
    return {"nodes": rows_of(nodes, FORECAST_COLUMNS), "deals": deals_beside(drawn, would, ids)}


def read_suppositions(
    deals: list[SupposedDeal], caller: Caller, state: State, *, known: Collection[str]
) -> list[Supposition]:
    """What is supposed, each of one open deal that may be seen and is `known` to the forecast."""
    details: list[Detail] = []
    seen: set[str] = set()
    for place, deal in enumerate(deals):
        where = f"what_if[{place}]"
        standing = state.standing_seen(caller.viewer, deal.deal_id)
        if standing is None or not state.shows_score(deal.deal_id):
            raise nobody_sees("deal", deal.deal_id, where=f"{where}.deal_id")
        if standing != "open":
            details.append(
                Detail(
                    f"{where}.deal_id", deal.deal_id[:SHOWN], f"an open deal; this one is {standing}", "leave it out"
                )
            )
        if deal.deal_id in seen:
            details.append(
                Detail(f"{where}.deal_id", deal.deal_id[:SHOWN], "each deal once", "say it all of the deal at once")
            )
        seen.add(deal.deal_id)
        changed = deal.close_date is not None or deal.amount is not None
        if changed is deal.drop:
            rule = "either drop, or a close_date or an amount"
            details.append(Detail(where, deal.deal_id[:SHOWN], rule, "say what is supposed of the deal"))
    if details:
        raise UsageError("What is supposed cannot be answered.", *details)
    return [Supposition(deal.deal_id, deal.drop, deal.close_date, deal.amount) for deal in deals]


def deals_beside(now: DrawnForecast, would: DrawnForecast, deal_ids: list[str]) -> list[dict[str, Any]]:
    """The chance in the period and the amount if won of each deal, as they are and as they would be (null: dropped)."""
    columns = {"win_probability": "period_win_probability", "amount": "expected_amount"}
    beside = [each.parts.deals.set_index("deal_id")[list(columns)].rename(columns=columns) for each in (now, would)]
    return [
        {
            "deal_id": deal_id,
            **to_plain(beside[0].loc[deal_id].to_dict()),
            "would_be": to_plain(beside[1].loc[deal_id].to_dict()) if deal_id in beside[1].index else None,
        }
        for deal_id in deal_ids
    ]
