"""What a forecast has to beat: four ways to forecast a period's bookings with pencil and paper.

Each reads what was known at `as_of` and returns a row per node of the hierarchy then: node_type, node_id, value (base
currency; missing where the data do not reach back far enough). Money of unknown amount counts as nothing.
"""

from datetime import timedelta

import numpy as np
import pandas as pd

from crm.bookings import bookings, shown_deals
from crm.calendar import Period
from crm.hierarchy import build_hierarchy, org_chart, place_owners
from crm.history import DealHistory, open_deals, values_at
from crm.tables import CrmTables

_PLACE = ["rep", "team", "region", "managers"]
_PAST_PERIODS = 8


def revenue_baselines(tables: CrmTables, history: DealHistory, as_of: pd.Timestamp, period: Period) -> pd.DataFrame:
    """All four side by side: forecaster, node_type, node_id, value."""
    forecasters = (stage_weighted, same_day_conversion, last_period, same_period_last_year)
    rows = [build(tables, history, as_of, period).assign(forecaster=build.__name__) for build in forecasters]
    return pd.concat(rows, ignore_index=True)[["forecaster", "node_type", "node_id", "value"]]


def stage_weighted(tables: CrmTables, history: DealHistory, as_of: pd.Timestamp, period: Period) -> pd.DataFrame:
    """Won to date, and the open deals due in the period at the CRM's probability of their stage.

    A close date past or unknown at `as_of` counts as due in the period that holds `as_of`. A stage without a
    probability counts as nothing; where none has one the values are missing.
    """
    probability = _stage_probabilities(tables)
    deals = _open_now(tables, history, as_of)
    stages = zip(deals["pipeline"], deals["stage"], strict=True)
    chance = np.array([probability.get(key, probability.get(("", key[1]), 0.0)) for key in stages])
    money = (deals["amount_base"].fillna(0.0) * chance).where(_due_in(tables, history, as_of, period), 0.0)
    values = _by_node(tables, history, as_of, [_won(tables, history, as_of, period), deals.assign(money=money)])
    return values.assign(value=np.nan) if not probability else values


def same_day_conversion(tables: CrmTables, history: DealHistory, as_of: pd.Timestamp, period: Period) -> pd.DataFrame:
    """Won to date, the open amount of each stage at the rate it was won by period end, and the usual later arrivals.

    Rates and arrivals are those of up to eight past periods, each looked at on the same day of the period as today.
    """
    past = _past_periods(tables, as_of)
    deals = _open_now(tables, history, as_of)
    booked = bookings(tables, history, as_of)
    created_at = tables.get("deals").set_index("deal_id")["created_at"]
    looks, later = [], []
    for each in past:
        moment = min(each.start_at + (as_of - period.start_at), each.end_at)
        won = booked[_booked_in(booked, each)]
        open_then = shown_deals(tables, history, open_deals(history, moment))
        reached = open_then["deal_id"].map(won.set_index("deal_id")["amount_base"].groupby(level=0).sum())
        looks.append(open_then.assign(reached=reached.fillna(0.0)))
        later.append(won[(won["deal_id"].map(created_at) > moment).to_numpy()])
    if not past:
        return _by_node(tables, history, as_of, []).assign(value=np.nan)
    rate_of, overall = _conversion(pd.concat(looks, ignore_index=True))
    rate = deals["stage"].map(rate_of).astype("float64").fillna(overall)
    arrived = pd.concat(later, ignore_index=True)
    return _by_node(
        tables,
        history,
        as_of,
        [
            _won(tables, history, as_of, period),
            deals.assign(money=deals["amount_base"].fillna(0.0) * rate),
            arrived.assign(money=arrived["amount_base"].fillna(0.0) / len(past)),
        ],
    )


def last_period(tables: CrmTables, history: DealHistory, as_of: pd.Timestamp, period: Period) -> pd.DataFrame:
    """What the last period before `as_of`'s brought: for any later period, too, the last one there is."""
    current = tables.calendar.period_of(as_of)
    latest = min(current.start, period.start)
    return _as_booked(tables, history, as_of, tables.calendar.previous_period(tables.calendar.period_holding(latest)))


def same_period_last_year(tables: CrmTables, history: DealHistory, as_of: pd.Timestamp, period: Period) -> pd.DataFrame:
    """What the period a year before brought: the one that holds the day 365 days before the period's middle."""
    middle = period.start + (period.end - period.start) / 2
    return _as_booked(tables, history, as_of, tables.calendar.period_holding(middle - timedelta(days=365)))


def _as_booked(tables: CrmTables, history: DealHistory, as_of: pd.Timestamp, period: Period) -> pd.DataFrame:
    values = _by_node(tables, history, as_of, [_won(tables, history, as_of, period)])
    return values if period.start_at >= first_day(tables) else values.assign(value=np.nan)


def first_day(tables: CrmTables) -> pd.Timestamp:
    """Midnight of the day the first deal was created: a period that starts before is known in part only."""
    first = tables.get("deals")["created_at"].min()
    return tables.calendar.midnight(tables.calendar.local_day(first)) if pd.notna(first) else tables.as_of


def _past_periods(tables: CrmTables, as_of: pd.Timestamp) -> list[Period]:
    past: list[Period] = []
    earlier = tables.calendar.previous_period(tables.calendar.period_of(as_of))
    while earlier.start_at >= first_day(tables) and len(past) < _PAST_PERIODS:
        past.append(earlier)
        earlier = tables.calendar.previous_period(earlier)
    return past


def _conversion(looks: pd.DataFrame) -> tuple[pd.Series, float]:
    """Share of the open amount that was won in its period: by stage, and overall."""
    shown = looks["amount_base"].clip(lower=0).fillna(0.0)
    money = looks.assign(open=shown).groupby("stage")[["reached", "open"]].sum()
    money = money[money["open"] > 0]
    overall = float(money["reached"].sum() / money["open"].sum()) if len(money) else 0.0
    return money["reached"] / money["open"], overall


def _stage_probabilities(tables: CrmTables) -> dict[tuple[str, str], float]:
    """The CRM's probability by (pipeline, stage), and by ("", stage) for every other pipeline."""
    stages = tables.get("stages")
    if "default_probability" not in stages:
        return {}
    pipeline = stages["pipeline"].fillna("") if "pipeline" in stages else pd.Series("", index=stages.index)
    known = stages.assign(pipeline=pipeline).dropna(subset=["default_probability"])
    keys = zip(known["pipeline"], known["stage"], strict=True)
    return dict(zip(keys, known["default_probability"], strict=True))


def _open_now(tables: CrmTables, history: DealHistory, as_of: pd.Timestamp) -> pd.DataFrame:
    deals = shown_deals(tables, history, open_deals(history, as_of))
    return deals.join(place_owners(tables, history, deals["owner_id"], deals["as_of"]))


def _due_in(tables: CrmTables, history: DealHistory, as_of: pd.Timestamp, period: Period) -> pd.Series:
    """Whether each deal open at `as_of` is due in the period."""
    spine = open_deals(history, as_of)
    due_on = values_at(history, spine, ["close_date"])["close_date"]
    current = tables.calendar.period_of(as_of)
    today = pd.Timestamp(tables.calendar.local_day(as_of))
    due_on = pd.to_datetime(due_on).reset_index(drop=True)
    due_on = due_on.where(due_on >= today, pd.Timestamp(current.start))
    return (due_on >= pd.Timestamp(period.start)) & (due_on < pd.Timestamp(period.end))


def _booked_in(booked: pd.DataFrame, period: Period) -> pd.Series:
    return (booked["booked_on"] >= pd.Timestamp(period.start)) & (booked["booked_on"] < pd.Timestamp(period.end))


def _won(tables: CrmTables, history: DealHistory, as_of: pd.Timestamp, period: Period) -> pd.DataFrame:
    won = bookings(tables, history, as_of, period)
    return won.assign(money=won["amount_base"].fillna(0.0))


def _by_node(tables: CrmTables, history: DealHistory, as_of: pd.Timestamp, parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Placed money summed over the nodes of the hierarchy at `as_of`."""
    columns = [*_PLACE, "money"]
    placed = pd.concat([part[columns] for part in parts], ignore_index=True) if parts else pd.DataFrame(columns=columns)
    hierarchy = build_hierarchy(org_chart(tables, history, as_of), placed)
    value = hierarchy.roll_up(placed["money"].to_numpy(dtype=float))
    return hierarchy.nodes[["node_type", "node_id"]].assign(value=value)
