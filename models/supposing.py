"""What a forecast would be if deals were other than they are: dropped, due on another day, worth another amount.

Each deal has random numbers of its own, so only the deals named are drawn again: what they brought is taken out of the
draws that are there, and what they would bring is put in. The answer is that of a forecast computed anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pandas as pd

from crm.bookings import shown_deals
from crm.errors import Detail, UsageError
from crm.hierarchy import nodes_of_place
from crm.history import DealHistory, build_history, open_deals
from crm.money import RateBook
from crm.tables import CrmTables
from features.sources import FeatureSources, build_sources, overlay_sources
from models.bundle import Bundle
from models.forecast_look import chances_beyond_scores
from models.forecast_parts import PLACE, gather_parts
from models.forecaster import DrawnForecast
from models.revenue import RevenueModel, expected_money, simulate_money
from models.scorer import score_deals


@dataclass(frozen=True)
class Supposition:
    """A deal as it might be: not there, or with another close date or amount (base currency), or both."""

    deal_id: str
    drop: bool = False
    close_date: date | None = None
    amount: float | None = None


def suppose(
    drawn: DrawnForecast, model: RevenueModel, supposed: pd.DataFrame, *, dropped: Sequence[str]
) -> DrawnForecast:
    """A drawn forecast with some of its open deals otherwise.

    Parameters
    ----------
    supposed : rows of `ForecastParts.deals` that stand in place of those with the same deal_id.
    dropped : deals that are not there.

    Returns
    -------
    The forecast as if it had been drawn with these deals; its nodes are those of `drawn`.
    """
    deals = drawn.parts.deals
    out = deals[deals["deal_id"].isin([*dropped, *supposed["deal_id"]])]
    kept = pd.concat([deals.drop(index=out.index), supposed[deals.columns]], ignore_index=True)
    parts = replace(drawn.parts, deals=kept.sort_values("deal_id", ignore_index=True))
    (money, draws), (money_out, draws_out) = (_brought(drawn, model, each) for each in (supposed, out))
    nodes = drawn.outlook.nodes.copy()
    nodes[list(_MONEY)] += money - money_out
    outlook = replace(drawn.outlook, nodes=nodes)
    return replace(drawn, parts=parts, outlook=outlook, samples=drawn.samples + draws - draws_out)


_MONEY = {"open_pipeline": "mean", "mean": "mean", "variance": "variance", "sensitivity": "sensitivity"}
"""Columns of an outlook's nodes that open deals are in, and which of their expected money is."""


def _brought(drawn: DrawnForecast, model: RevenueModel, deals: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """What some deals bring at each node: (nodes, `_MONEY`) expected, (nodes, draws) drawn."""
    nodes = drawn.outlook.nodes
    number = {node: row for row, node in enumerate(zip(nodes["node_type"], nodes["node_id"], strict=True))}
    money, drawn_money = np.zeros((len(nodes), len(_MONEY))), np.zeros(drawn.samples.shape)
    if deals.empty:
        return money, drawn_money
    nothing = drawn.outlook.arrivals.iloc[:0]
    expected = expected_money(deals, nothing)[0][list(_MONEY.values())].to_numpy()
    alone = deals.assign(place=np.arange(len(deals)))
    draws = simulate_money(model, alone, nothing, places=len(deals), samples=drawn.samples.shape[1])
    for row, deal in enumerate(deals[PLACE].to_dict("records")):
        for node in nodes_of_place(deal):
            money[number[node]] += expected[row]
            drawn_money[number[node]] += draws[row]
    return money, drawn_money


def supposed_deals(
    bundle: Bundle,
    tables: CrmTables,
    history: DealHistory,
    sources: FeatureSources,
    drawn: DrawnForecast,
    suppositions: Sequence[Supposition],
) -> pd.DataFrame:
    """The deals as supposed, scored by the model as if that stood in the CRM since the forecast's moment.

    Parameters
    ----------
    tables, history, sources : what `drawn` was made from, at the data's moment.
    suppositions : of open deals, each named once; those that drop a deal are left aside.

    Returns
    -------
    Rows as in `ForecastParts.deals`, for `suppose`.
    """
    edits = [each for each in suppositions if not each.drop]
    if not edits:
        return drawn.parts.deals.iloc[:0]
    ids = frozenset(each.deal_id for each in edits)
    small = _edited(tables.of_deals(ids), tables, history, edits, drawn.as_of)
    dated = build_history(small)
    few = build_sources(small, dated, bulk=sources.bulk)
    scores = score_deals(
        bundle,
        small,
        dated,
        open_deals(dated, drawn.as_of),
        explain=False,
        sources=overlay_sources(sources, few, ids),
    )
    asked = {"as_of": drawn.as_of, "period": drawn.period}
    beyond = chances_beyond_scores(bundle, small, dated, **asked)
    return gather_parts(bundle, small, dated, scores, **asked, win_probability=beyond).deals


def _edited(
    small: CrmTables, tables: CrmTables, history: DealHistory, edits: Sequence[Supposition], at: pd.Timestamp
) -> CrmTables:
    """The tables with the edits recorded at a moment."""
    deals, rows = small.get("deals").copy(), []
    place = pd.Series(deals.index, index=deals["deal_id"])
    for edit in edits:
        new = {} if edit.close_date is None else {"close_date": pd.Timestamp(edit.close_date)}
        if edit.amount is not None:
            new[tables.calendar.measure] = edit.amount / _rate_of(tables, history, edit.deal_id, at)
        for field, value in new.items():
            old = deals.loc[place[edit.deal_id], field]
            deals.loc[place[edit.deal_id], field] = value
            texts = {"old_value": None if pd.isna(old) else _text(old), "new_value": _text(value)}
            rows.append({"deal_id": edit.deal_id, "changed_at": at, "field": field, **texts})
    recorded = small.get("deal_history")
    added = pd.DataFrame(rows).reindex(columns=recorded.columns).astype(recorded.dtypes.to_dict())
    if "_sequence" in recorded:
        added["_sequence"] = np.arange(len(added)) + recorded["_sequence"].max() + 1 if len(recorded) else 0.0
    return small.with_tables(deals=deals, deal_history=pd.concat([recorded, added], ignore_index=True))


def _text(value: object) -> str:
    return value.date().isoformat() if isinstance(value, pd.Timestamp) else str(value)


def _rate_of(tables: CrmTables, history: DealHistory, deal_id: str, at: pd.Timestamp) -> float:
    """The rate of a deal's currency to the base currency.

    Raises
    ------
    UsageError
        It has none: an amount in base currency cannot be written in it.
    """
    shown = shown_deals(tables, history, pd.DataFrame({"deal_id": [deal_id], "as_of": [at]}))
    rate = RateBook.from_tables(tables).to_base(pd.Series([1.0]), shown["currency"], at).iloc[0]
    if pd.isna(rate):
        rule = "an amount in base currency needs the exchange rate of the deal's currency"
        raise UsageError(
            f"The currency of {deal_id} has no rate.", Detail("what_if.amount", deal_id, rule, "import its rate")
        )
    return float(rate)
