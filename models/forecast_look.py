"""One moment's forecast of a period deal by deal: what each brings, where it counts, and how the others had ended."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from crm.calendar import Period
from crm.hierarchy import OrgChart, org_chart
from crm.history import DealHistory, open_deals, values_at
from crm.tables import CrmTables
from models.bundle import Bundle
from models.forecast_parts import PLACE, FittedModels, gather_parts
from models.scorer import chances_in, score_deals

OPEN, COUNTED = "open", "counted"
"""States of a deal that brings something: open, or a win that counts in the period."""

LOOK_COLUMNS = (
    *("deal_id", "state", "chance", "amount", "shown", "currency", "rated_at", "booked_on", "due_on", "expected_on"),
    *PLACE,
)


@dataclass(frozen=True)
class ForecastLook:
    """What a model says at one moment of a period, deal by deal.

    Attributes
    ----------
    deals : `LOOK_COLUMNS`, one row per deal that is open or counted, by deal_id: chance to be won in the period (1 of a
        win), amount if won and amount shown (base currency; shown NaN unknown), currency, the moment it is rated at,
        the day it is booked (of a win), the day its rep promises and the day the model expects (of an open deal; NaT
        unknown), and its place.
    arrivals : money expected of deals yet to come, with the place it counts at.
    closed : outcome (won, lost, deleted, merged) and booked_on of every deal that is closed at the moment, by deal_id.
    chart : who sells for whom at the moment.
    """

    as_of: pd.Timestamp
    period: Period
    model_version: str
    deals: pd.DataFrame
    arrivals: pd.DataFrame
    closed: pd.DataFrame
    chart: OrgChart


def look_at(
    models: FittedModels,
    tables: CrmTables,
    history: DealHistory,
    scores: pd.DataFrame,
    *,
    as_of: pd.Timestamp,
    period: Period,
    win_probability: pd.Series | None = None,
) -> ForecastLook:
    """What `models.forecaster.forecast_nodes` adds up, deal by deal; parameters as there.

    `scores` may have expected_close_date besides.
    """
    scores = scores.sort_values("deal_id", ignore_index=True)
    asked = {"as_of": as_of, "period": period, "win_probability": win_probability}
    parts = gather_parts(models, tables, history, scores, **asked)
    due = values_at(history, scores[["deal_id"]].assign(as_of=as_of), ["close_date"])["close_date"]
    expected = scores["expected_close_date"] if "expected_close_date" in scores else pd.Series(pd.NaT, scores.index)
    still_open = parts.deals.assign(
        state=OPEN,
        chance=parts.deals["win_probability"],
        shown=parts.deals["amount_base"],
        rated_at=as_of,
        booked_on=pd.NaT,
        due_on=pd.to_datetime(due).to_numpy(),
        expected_on=pd.to_datetime(expected).to_numpy(),
    )
    counted = parts.won.assign(
        state=COUNTED,
        chance=1.0,
        amount=parts.won["amount_base"].fillna(0.0),
        shown=parts.won["amount_base"],
        rated_at=tables.calendar.midnights(parts.won["booked_on"]),
        due_on=pd.NaT,
        expected_on=pd.NaT,
    )
    rows = pd.concat([_typed(each) for each in (still_open, counted)], ignore_index=True)
    arrivals = parts.arrivals.assign(money=parts.arrivals["wins"] * parts.arrivals["amount"])
    return ForecastLook(
        as_of=as_of,
        period=period,
        model_version=str(models.manifest["model_version"]),
        deals=rows.sort_values("deal_id", ignore_index=True),
        arrivals=arrivals[["money", *PLACE]],
        closed=_closed(history, as_of),
        chart=org_chart(tables, history, as_of),
    )


def score_and_look(
    bundle: Bundle,
    tables: CrmTables,
    history: DealHistory,
    *,
    as_of: pd.Timestamp,
    period: Period,
    scores: pd.DataFrame | None = None,
) -> ForecastLook:
    """`look_at` of a bundle, scoring the deals open at the moment unless that is done already."""
    if scores is None:
        scores = score_deals(bundle, tables, history, open_deals(history, as_of), explain=False)
    beyond = chances_beyond_scores(bundle, tables, history, as_of=as_of, period=period)
    return look_at(bundle, tables, history, scores, as_of=as_of, period=period, win_probability=beyond)


def chances_beyond_scores(
    bundle: Bundle, tables: CrmTables, history: DealHistory, *, as_of: pd.Timestamp, period: Period
) -> pd.Series | None:
    """Each open deal's chance in a period that score rows do not reach; None for the present and the next one."""
    calendar = tables.calendar
    reached = calendar.next_period(calendar.period_of(as_of))
    if period.start_at <= reached.start_at:
        return None
    return chances_in(bundle, tables, history, open_deals(history, as_of), period)


def _typed(rows: pd.DataFrame) -> pd.DataFrame:
    kinds = dict.fromkeys(("booked_on", "due_on", "expected_on"), "datetime64[us]")
    kinds |= {"rated_at": "datetime64[us, UTC]", **dict.fromkeys(("chance", "amount", "shown"), "float64")}
    return rows[list(LOOK_COLUMNS)].astype({"deal_id": "str", "state": "str", "currency": "str", **kinds})


def _closed(history: DealHistory, as_of: pd.Timestamp) -> pd.DataFrame:
    endings = history.endings
    now = endings[(endings["at"] <= as_of) & ~(endings["until"] <= as_of)].sort_values("at", kind="stable")
    return now.drop_duplicates("deal_id", keep="last").set_index("deal_id")[["outcome", "booked_on"]]


def money_of(deals: pd.DataFrame) -> np.ndarray:
    """What each row of `ForecastLook.deals` brings in expectation, base currency."""
    return (deals["chance"] * deals["amount"]).to_numpy()
