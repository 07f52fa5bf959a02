"""What a forecast has to beat: four ways to forecast a period's bookings with pencil and paper.

Each reads what was known at a moment and returns a row per node of the hierarchy then: node_type, node_id, value (base
currency; missing where the data do not reach back far enough). Money of unknown amount counts as nothing.
"""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd

from crm.bookings import bookings, shown_deals
from crm.calendar import Period
from crm.hierarchy import OrgChart, build_hierarchy, org_chart, place_owners
from crm.history import DealHistory, open_deals, snapshot_spine, values_at
from crm.tables import CrmTables

_PLACE = ["rep", "team", "region", "managers"]
_PAST_PERIODS = 8


@dataclass(frozen=True)
class Known:
    """What was known at a moment, read once for all four.

    Attributes
    ----------
    booked : all wins that count then (`crm.bookings.bookings`).
    pipeline : the deals open then (`crm.bookings.shown_deals`) with their places, and due_on, the close date they show.
    chart : the organisation then.
    """

    tables: CrmTables
    history: DealHistory
    as_of: pd.Timestamp
    booked: pd.DataFrame
    pipeline: pd.DataFrame
    chart: OrgChart

    def won(self, period: Period) -> pd.DataFrame:
        """The wins booked in a period, with their money."""
        booked_on = self.booked["booked_on"]
        won = self.booked[(booked_on >= pd.Timestamp(period.start)) & (booked_on < pd.Timestamp(period.end))]
        return won.assign(money=won["amount_base"].fillna(0.0))

    def by_node(self, parts: list[pd.DataFrame]) -> pd.DataFrame:
        """Placed money summed over the nodes of the hierarchy then: node_type, node_id, value."""
        columns = [*_PLACE, "money"]
        found = [part[columns] for part in parts] or [pd.DataFrame(columns=columns)]
        placed = pd.concat(found, ignore_index=True)
        hierarchy = build_hierarchy(self.chart, placed)
        value = hierarchy.roll_up(placed["money"].to_numpy(dtype=float))
        return hierarchy.nodes[["node_type", "node_id"]].assign(value=value)


def known_at(tables: CrmTables, history: DealHistory, as_of: pd.Timestamp) -> Known:
    """What the baselines read, as it was known at a moment."""
    spine = open_deals(history, as_of)
    deals = shown_deals(tables, history, spine)
    due_on = pd.to_datetime(values_at(history, spine, ["close_date"])["close_date"])
    pipeline = deals.assign(due_on=due_on.to_numpy()).join(
        place_owners(tables, history, deals["owner_id"], deals["as_of"])
    )
    booked = bookings(tables, history, as_of)
    return Known(tables, history, as_of, booked, pipeline, org_chart(tables, history, as_of))


def revenue_baselines(tables: CrmTables, history: DealHistory, as_of: pd.Timestamp, period: Period) -> pd.DataFrame:
    """All four side by side: forecaster, node_type, node_id, value."""
    known = known_at(tables, history, as_of)
    forecasters = (stage_weighted, same_day_conversion, last_period, same_period_last_year)
    rows = [build(known, period).assign(forecaster=build.__name__) for build in forecasters]
    return pd.concat(rows, ignore_index=True)[["forecaster", "node_type", "node_id", "value"]]


def stage_weighted(known: Known, period: Period) -> pd.DataFrame:
    """Won to date, and the open deals due in the period at the CRM's probability of their stage.

    A close date past or unknown at `as_of` counts as due in the period that holds `as_of`. A stage without a
    probability counts as nothing; where none has one the values are missing.
    """
    probability, deals = _stage_probabilities(known.tables), known.pipeline
    stages = zip(deals["pipeline"], deals["stage"], strict=True)
    chance = np.array([probability.get(key, probability.get(("", key[1]), 0.0)) for key in stages])
    money = (deals["amount_base"].fillna(0.0) * chance).where(_due_in(known, period), 0.0)
    values = known.by_node([known.won(period), deals.assign(money=money)])
    return values.assign(value=np.nan) if not probability else values


def same_day_conversion(known: Known, period: Period) -> pd.DataFrame:
    """Won to date, the open amount of each stage at the rate it was won by period end, and the usual later arrivals.

    Rates and arrivals are those of up to eight past periods, each looked at on the same day of the period as today.
    """
    past = _past_periods(known.tables, known.as_of)
    if not past:
        return known.by_node([]).assign(value=np.nan)
    created_at = known.tables.get("deals").set_index("deal_id")["created_at"]
    moments = [min(each.start_at + (known.as_of - period.start_at), each.end_at) for each in past]
    looks = shown_deals(known.tables, known.history, snapshot_spine(known.history, moments))
    reached, later = pd.Series(0.0, looks.index), []
    for each, moment in zip(past, moments, strict=True):
        won = known.won(each)
        here = looks["as_of"] == moment
        reached[here] = looks.loc[here, "deal_id"].map(won.groupby("deal_id")["money"].sum()).fillna(0.0)
        later.append(won[(won["deal_id"].map(created_at) > moment).to_numpy()])
    rate_of, overall = _conversion(looks.assign(reached=reached))
    deals = known.pipeline
    rate = deals["stage"].map(rate_of).astype("float64").fillna(overall)
    arrived = pd.concat(later, ignore_index=True)
    return known.by_node(
        [
            known.won(period),
            deals.assign(money=deals["amount_base"].fillna(0.0) * rate),
            arrived.assign(money=arrived["money"] / len(past)),
        ],
    )


def last_period(known: Known, period: Period) -> pd.DataFrame:
    """What the last period before `as_of`'s brought: for any later period, too, the last one there is."""
    calendar = known.tables.calendar
    latest = min(calendar.period_of(known.as_of).start, period.start)
    return _as_booked(known, calendar.previous_period(calendar.period_holding(latest)))


def same_period_last_year(known: Known, period: Period) -> pd.DataFrame:
    """What the period a year before brought: the one that holds the day 365 days before the period's middle."""
    middle = period.start + (period.end - period.start) / 2
    return _as_booked(known, known.tables.calendar.period_holding(middle - timedelta(days=365)))


def _as_booked(known: Known, period: Period) -> pd.DataFrame:
    values = known.by_node([known.won(period)])
    return values if period.start_at >= first_day(known.tables) else values.assign(value=np.nan)


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


def _due_in(known: Known, period: Period) -> pd.Series:
    """Whether each deal open at the moment is due in the period."""
    calendar, due_on = known.tables.calendar, known.pipeline["due_on"]
    today = pd.Timestamp(calendar.local_day(known.as_of))
    due_on = due_on.where(due_on >= today, pd.Timestamp(calendar.period_of(known.as_of).start))
    return (due_on >= pd.Timestamp(period.start)) & (due_on < pd.Timestamp(period.end))
