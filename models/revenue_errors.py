"""How far forecasts of past periods would have missed: the evidence for the size of the shared shocks."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from crm.bookings import bookings_by_node, shown_deals
from crm.calendar import Period
from crm.history import DealHistory
from crm.tables import CrmTables
from models.amount import AmountModel, fit_amount
from models.creation import CreationModel, fit_creation
from models.forecaster import forecast_spread
from models.revenue import SHOCK_LEVELS, RevenueModel, fit_revenue

ERROR_COLUMNS = (
    *("period_start", "node_type", "node_id", "week"),
    *("mean", "variance_independent", "sensitivity", "actual"),
)
# Two looks at a period, a third and two thirds through it, tell nearly all that every week of it would.
_LOOKS = (1 / 3, 2 / 3)


@dataclass(frozen=True)
class _KnownThen:
    """The amount and creation models as they would have been fitted at a past moment."""

    amount: AmountModel
    creation: CreationModel
    revenue: RevenueModel = field(default_factory=fit_revenue)
    manifest: dict[str, Any] = field(default_factory=dict)


def find_past_errors(
    tables: CrmTables, history: DealHistory, judged: pd.DataFrame, known_at: pd.Timestamp
) -> pd.DataFrame:
    """Forecast past periods with what was known then, beside what they brought.

    Parameters
    ----------
    judged : deal_id, as_of, win_probability: for past moments, the chance that each deal open then is won in its
        period, as a model that knew nothing later said.
    known_at : only periods that had ended by then are looked at, and only wins known by then are counted.

    Returns
    -------
    Frame with `ERROR_COLUMNS`, a row per look and node of `models.revenue.SHOCK_LEVELS`, for `fit_shocks`; without rows
    where no judged period had ended.
    """
    parts = [pd.DataFrame(columns=list(ERROR_COLUMNS))]
    for period, moments in _looks(tables, judged, known_at):
        then = _KnownThen(fit_amount(tables, history, moments[0]), fit_creation(tables, history, moments[0]))
        booked = bookings_by_node(tables, history, known_at, period).rename(columns={"booked": "actual"})
        for moment in moments:
            scores = judged.loc[judged["as_of"] == moment, ["deal_id", "as_of", "win_probability"]]
            shown = shown_deals(tables, history, scores)
            scores = scores.rename(columns={"win_probability": "period_win_probability"})
            scores = scores.assign(expected_amount=then.amount.expected(shown))
            spread = forecast_spread(then, tables, history, scores, as_of=moment, period=period)
            errors = spread.merge(booked, on=["node_type", "node_id"], how="left").fillna({"actual": 0.0})
            week = 1 + (moment - period.start_at).days // 7
            parts.append(errors.assign(period_start=pd.Timestamp(period.start), week=week))
    errors = pd.concat(parts[1:] or parts, ignore_index=True)
    return errors.loc[errors["node_type"].isin(SHOCK_LEVELS), list(ERROR_COLUMNS)].reset_index(drop=True)


def _looks(tables: CrmTables, judged: pd.DataFrame, known_at: pd.Timestamp) -> list[tuple[Period, list[pd.Timestamp]]]:
    """The periods that had ended, oldest first, each with the judged moments nearest to where it is looked at."""
    moments: dict[Period, list[pd.Timestamp]] = {}
    for moment in sorted(judged["as_of"].unique()):
        moments.setdefault(tables.calendar.period_of(moment), []).append(moment)
    return [(period, _nearest(period, there)) for period, there in moments.items() if period.end_at <= known_at]


def _nearest(period: Period, moments: list[pd.Timestamp]) -> list[pd.Timestamp]:
    wanted = [period.start_at + (period.end_at - period.start_at) * share for share in _LOOKS]
    return sorted({min(moments, key=lambda each: abs(each - aim)) for aim in wanted})
