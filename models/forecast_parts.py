"""What a forecast adds up: deals won, deals open and deals yet to come, each with the place where its money counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from crm.bookings import bookings, shown_deals
from crm.calendar import Period
from crm.errors import Detail, UsageError
from crm.hierarchy import UNKNOWN, Hierarchy, OrgChart, build_hierarchy, org_chart, place_owners
from crm.history import DealHistory
from crm.tables import CrmTables
from models.amount import AmountModel
from models.creation import CreationModel
from models.revenue import RevenueModel, expected_money, simulate_money

PLACE = ["rep", "team", "region", "managers"]
# Owners of open deals who created none lately are expected to create as if they had created half a deal.
_NEWCOMER_DEALS = 0.5


class FittedModels(Protocol):
    """The parts of a model bundle that a forecast needs."""

    @property
    def amount(self) -> AmountModel: ...
    @property
    def creation(self) -> CreationModel: ...
    @property
    def revenue(self) -> RevenueModel: ...
    @property
    def manifest(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class ForecastParts:
    """A period's money by where it comes from; every row has rep, team, region, managers and the breakdown columns.

    Attributes
    ----------
    won : amount_base of the wins that count.
    deals : win_probability, amount, log_spread of the open deals, sorted by deal_id.
    arrivals : wins, amount, amount_cv, rate_spread of deals yet to come, by owner and deal type.
    mixes : shares of the arrivals' wins by deal type and by value of the other breakdowns.
    """

    won: pd.DataFrame
    deals: pd.DataFrame
    arrivals: pd.DataFrame
    mixes: Mapping[str, Mapping[str, Mapping[str, float]]]

    def values_of(self, by: str) -> list[str]:
        """The values a breakdown has, `(none)` for unknown."""
        values = {*self.won[by], *self.deals[by]}
        if by == "deal_type":
            return sorted(values | set(self.arrivals[by]))
        return sorted(values | {value for mix in self.mixes.values() for value in mix.get(by, {})})

    def only(self, by: str, value: str) -> "ForecastParts":
        """The part of the money that has one value of a breakdown."""
        if by == "deal_type":
            arrivals = self.arrivals[self.arrivals[by] == value]
        else:
            share = self.arrivals["deal_type"].map(lambda kind: self.mixes[kind].get(by, {}).get(value, 0.0))
            arrivals = self.arrivals.assign(wins=self.arrivals["wins"] * share.astype("float64"))
        return ForecastParts(self.won[self.won[by] == value], self.deals[self.deals[by] == value], arrivals, self.mixes)

    def add_up(self, chart: OrgChart) -> "Outlook":
        """Expected money and its spread at every node of the hierarchy."""
        places, place_of = distinct_places([self.won, self.deals, self.arrivals])
        hierarchy = build_hierarchy(chart, places)
        expected_open, expected_new = expected_money(self.deals, self.arrivals)

        def rolled(values: list[pd.Series], of: list[int]) -> np.ndarray:
            placed = [np.bincount(place_of[part], v, len(places)) for part, v in zip(of, values, strict=True)]
            return hierarchy.roll_up(np.sum(placed, axis=0))

        nodes = hierarchy.nodes.assign(
            won_to_date=rolled([self.won["amount_base"].fillna(0.0)], [0]),
            open_pipeline=rolled([expected_open["mean"]], [1]),
            not_yet_created=rolled([expected_new["mean"]], [2]),
        )
        nodes["mean"] = nodes["won_to_date"] + nodes["open_pipeline"] + nodes["not_yet_created"]
        for name in ("variance", "sensitivity"):
            nodes[name] = rolled([expected_open[name], expected_new[name]], [1, 2])
        deals, arrivals = self.deals.assign(place=place_of[1]), self.arrivals.assign(place=place_of[2])
        return Outlook(nodes, hierarchy, deals, arrivals)


@dataclass(frozen=True)
class Outlook:
    """A forecast before it is told as rows.

    Attributes
    ----------
    nodes : the hierarchy's nodes with won_to_date, open_pipeline, not_yet_created, mean; variance (money^2, of
        independent deals) and sensitivity (money per unit of shared shock).
    hierarchy : how places add up to nodes.
    deals, arrivals : as in `ForecastParts`, with the number of their place.
    """

    nodes: pd.DataFrame
    hierarchy: Hierarchy
    deals: pd.DataFrame
    arrivals: pd.DataFrame

    def draw(self, model: RevenueModel) -> np.ndarray:
        """(nodes, samples) draws of the whole period, the same every time."""
        places = self.hierarchy.membership.shape[1]
        remaining = simulate_money(model, self.deals, self.arrivals, places=places)
        return self.nodes["won_to_date"].to_numpy()[:, None] + self.hierarchy.roll_up(remaining)


def gather_parts(
    models: FittedModels,
    tables: CrmTables,
    history: DealHistory,
    scores: pd.DataFrame,
    *,
    as_of: pd.Timestamp,
    period: Period,
    win_probability: pd.Series | None = None,
) -> ForecastParts:
    """Collect what is known at `as_of` of a period's money; parameters as for `models.forecaster.forecast_nodes`."""
    scores = scores.sort_values("deal_id", ignore_index=True)
    won = bookings(tables, history, as_of, period)
    deals = shown_deals(tables, history, scores[["deal_id"]].assign(as_of=as_of))
    deals = deals.join(place_owners(tables, history, deals["owner_id"], deals["as_of"])).assign(
        win_probability=_chances(tables, scores, as_of, period, win_probability),
        amount=scores["expected_amount"].astype("float64"),
        log_spread=models.amount.log_spread(deals),
    )
    breakdowns = ["deal_type", "pipeline", "segment", "currency"]
    won, deals = (part.assign(**part[breakdowns].fillna(UNKNOWN)) for part in (won, deals))
    arrivals = _arrivals(models.creation, org_chart(tables, history, as_of), deals["owner_id"], as_of, period)
    arrivals = arrivals.join(place_owners(tables, history, arrivals["owner_id"], pd.Series(as_of, arrivals.index)))
    return ForecastParts(won, deals, arrivals, {kind: s.mixes for kind, s in models.creation.streams.items()})


def _chances(
    tables: CrmTables, scores: pd.DataFrame, as_of: pd.Timestamp, period: Period, given: pd.Series | None
) -> pd.Series:
    """Each open deal's chance to be won in the period."""
    current = tables.calendar.period_of(as_of)
    if period.end_at <= as_of:
        return pd.Series(0.0, index=scores.index)
    if given is not None:
        return scores["deal_id"].map(given).astype("float64")
    if period.start == current.start:
        return scores["period_win_probability"]
    following = tables.calendar.next_period(current)
    if period.start == following.start:
        return scores["next_period_win_probability"]
    rule = "scores reach to the end of the next period"
    next_step = f"Use {current.start} ({current.label}) or {following.start} ({following.label}), or ask later."
    detail = Detail("period_start", str(period.start), rule, next_step)
    raise UsageError(f"The period {period.label} is too far ahead of {as_of:%Y-%m-%d}.", detail)


def _arrivals(
    creation: CreationModel, chart: OrgChart, open_owners: pd.Series, as_of: pd.Timestamp, period: Period
) -> pd.DataFrame:
    """Deals yet to come, allotted to the owners still here by the deals they lately created."""
    gone = set(chart.users.index[~chart.users["present"]])
    newcomers = set(open_owners.dropna()) - gone
    rows = []
    for kind, wins, *money in creation.arrivals(period, as_of).itertuples(index=False):
        lately = creation.streams[kind].owners
        deals = {owner: lately.get(owner, _NEWCOMER_DEALS) for owner in sorted({*lately, *newcomers} - gone)}
        total = sum(deals.values())
        shares = {owner: n / total for owner, n in deals.items()} if total else {None: 1.0}
        rows += [(owner, kind, wins * share, *money) for owner, share in shares.items()]
    columns = ["owner_id", "deal_type", "wins", "amount", "amount_cv", "rate_spread"]
    return pd.DataFrame(rows, columns=columns).astype({"owner_id": "str", "deal_type": "str", "wins": "float64"})


def distinct_places(parts: list[pd.DataFrame]) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """The distinct places of all rows, and for each part the place number of each row."""
    keys = [list(zip(*(part[name] for name in PLACE), strict=True)) for part in parts]
    distinct = sorted({key for part in keys for key in part})
    number = {key: place for place, key in enumerate(distinct)}
    places = pd.DataFrame(distinct, columns=PLACE)
    return places, [np.array([number[key] for key in part], dtype=np.int64) for part in keys]
