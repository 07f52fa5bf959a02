"""The forecast of a period as rows, node by node: what is won, what is still expected, how sure, what people call."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crm.bookings import bookings
from crm.calendar import Period
from crm.calls import CALLED, calls_at, quotas_at
from crm.errors import Detail, UsageError
from crm.hierarchy import OrgChart, org_chart
from crm.history import DealHistory
from crm.tables import CrmTables
from models.forecast_parts import FittedModels, ForecastParts, Outlook, gather_parts

QUANTILES = {"p05": 0.05, "p10": 0.10, "p25": 0.25, "p50": 0.50, "p75": 0.75, "p90": 0.90, "p95": 0.95}
FORECAST_COLUMNS = (
    *("as_of", "period_start", "period_end", "scope", "node_type", "node_id", "node_name", "parent_type", "parent_id"),
    *("won_to_date", "open_pipeline", "not_yet_created", "mean", *QUANTILES),
    *("call_commit", "call_most_likely", "call_best_case", "call_user_id", "call_submitted_at", "call_rolled_up"),
    *("quota", "probability_of_quota", "model_version", "data_version"),
)
BREAKDOWNS = ("deal_type", "pipeline", "segment", "currency")


@dataclass(frozen=True)
class DrawnForecast:
    """A forecast of everything, with what it adds up and the draws behind its ranges.

    Attributes
    ----------
    parts : the money by where it comes from.
    chart : who sells for whom at the moment.
    outlook : the parts added up.
    samples : (nodes, draws) of the whole period.
    """

    as_of: pd.Timestamp
    period: Period
    parts: ForecastParts
    chart: OrgChart
    outlook: Outlook
    samples: np.ndarray

    def told(self, tables: CrmTables, history: DealHistory) -> pd.DataFrame:
        """The nodes with their ranges, calls and quotas, scope `all`; `as_rows` makes forecast rows of them."""
        asked = {"as_of": self.as_of, "period": self.period}
        nodes = _with_quantiles(self.outlook.nodes, self.samples)
        nodes = with_calls(nodes, tables, history, self.chart, **asked)
        return _with_quotas(nodes, self.samples, tables, **asked).assign(scope="all")


def draw_forecast(
    bundle: FittedModels,
    tables: CrmTables,
    history: DealHistory,
    scores: pd.DataFrame,
    *,
    as_of: pd.Timestamp,
    period: Period,
    win_probability: pd.Series | None = None,
) -> DrawnForecast:
    """A period's bookings, drawn; parameters as for `forecast_nodes`."""
    chart = org_chart(tables, history, as_of)
    parts = gather_parts(bundle, tables, history, scores, as_of=as_of, period=period, win_probability=win_probability)
    outlook = parts.add_up(chart)
    return DrawnForecast(as_of, period, parts, chart, outlook, outlook.draw(bundle.revenue))


def forecast_nodes(
    bundle: FittedModels,
    tables: CrmTables,
    history: DealHistory,
    scores: pd.DataFrame,
    *,
    as_of: pd.Timestamp,
    period: Period,
    by: str | None = None,
    win_probability: pd.Series | None = None,
) -> pd.DataFrame:
    """Forecast a period's bookings for every node of the hierarchy.

    Parameters
    ----------
    scores : a row per deal open at `as_of`: deal_id, period_win_probability, next_period_win_probability,
        expected_amount.
    period : the period that holds `as_of`, the one after it, or one that is over (then all is won_to_date).
    by : one of `BREAKDOWNS`: adds a row per node and value, scope `by=value` (`(none)` where unknown), without calls
        and quota, which cover everything.
    win_probability : indexed by deal_id, the chance to be won in `period`: needed for a period further ahead.

    Returns
    -------
    Frame with `FORECAST_COLUMNS`, scope `all` first. Money in base currency; unknown is missing. Means are exact and
    add up over reps, over teams and over regions; quantiles of all nodes come from the same draws.

    Raises
    ------
    UsageError
        If `by` is not a breakdown, or the period is further ahead than the scores reach.
    """
    if by is not None and by not in BREAKDOWNS:
        rule = f"one of {', '.join(BREAKDOWNS)}"
        raise UsageError(f"A forecast cannot be broken down by {by}.", Detail("--by", by, rule, "Choose one of these."))
    drawn = draw_forecast(bundle, tables, history, scores, as_of=as_of, period=period, win_probability=win_probability)
    rows = [drawn.told(tables, history)]
    for value in drawn.parts.values_of(by) if by else []:
        part = drawn.parts.only(str(by), value).add_up(drawn.chart)
        rows.append(_with_quantiles(part.nodes, part.draw(bundle.revenue)).assign(scope=f"{by}={value}"))
    version = str(bundle.manifest["model_version"])
    return as_rows(pd.concat(rows, ignore_index=True), tables, as_of, period, version)


def as_rows(
    nodes: pd.DataFrame, tables: CrmTables, as_of: pd.Timestamp, period: Period, model_version: str
) -> pd.DataFrame:
    """Nodes as forecast rows: `FORECAST_COLUMNS`, unknown where a column is not there."""
    rows = nodes.assign(
        as_of=as_of,
        period_start=pd.Timestamp(period.start).as_unit("us"),
        period_end=pd.Timestamp(period.end).as_unit("us"),
        model_version=model_version,
        data_version=tables.data_version,
    )
    return rows.reindex(columns=list(FORECAST_COLUMNS))


def forecast_spread(
    bundle: FittedModels,
    tables: CrmTables,
    history: DealHistory,
    scores: pd.DataFrame,
    *,
    as_of: pd.Timestamp,
    period: Period,
) -> pd.DataFrame:
    """What `models.revenue.fit_shocks` needs of a past forecast: how far it may stray, deal by deal and under a shock.

    Returns
    -------
    Frame: node_type, node_id, mean, variance_independent, sensitivity (see `fit_shocks`).
    """
    parts = gather_parts(bundle, tables, history, scores, as_of=as_of, period=period)
    nodes = parts.add_up(org_chart(tables, history, as_of)).nodes
    nodes = nodes.rename(columns={"variance": "variance_independent"})
    return nodes[["node_type", "node_id", "mean", "variance_independent", "sensitivity"]]


def _with_quantiles(nodes: pd.DataFrame, samples: np.ndarray) -> pd.DataFrame:
    levels = np.quantile(samples, list(QUANTILES.values()), axis=1)
    return nodes.assign(**dict(zip(QUANTILES, levels, strict=True)))


def with_calls(
    rows: pd.DataFrame,
    tables: CrmTables,
    history: DealHistory,
    chart: OrgChart,
    *,
    as_of: pd.Timestamp,
    period: Period,
) -> pd.DataFrame:
    """Nodes of a hierarchy with their heads' calls beside them: the call columns of a forecast row."""
    calls = calls_at(tables, as_of, period, bookings(tables, history, as_of, period))
    head = rows["head_id"]
    said = calls.reindex(head).set_axis(rows.index)
    rows = rows.assign(**{f"call_{category}": said[category] for category in CALLED})
    rows["call_user_id"] = head.where(head.isin(calls.index))
    rows["call_submitted_at"] = said["submitted_at"]
    commits = calls["commit"].dropna().to_dict()
    rows["call_rolled_up"] = [_rolled_up(chart, commits, user) for user in head]
    return rows


def _with_quotas(
    rows: pd.DataFrame, samples: np.ndarray, tables: CrmTables, *, as_of: pd.Timestamp, period: Period
) -> pd.DataFrame:
    """The nodes with their heads' quotas and the chance to reach them."""
    rows = rows.assign(quota=quotas_at(tables, as_of, period).reindex(rows["head_id"]).set_axis(rows.index))
    reached = (samples >= rows["quota"].to_numpy()[:, None]).mean(axis=1)
    return rows.assign(probability_of_quota=np.where(rows["quota"].notna(), reached, np.nan))


def _rolled_up(chart: OrgChart, commits: Mapping[str, float], head: str | float) -> float:
    """Sum of what the direct reports commit; NaN if none of them has called."""
    if not isinstance(head, str):
        return float("nan")
    called = [commits[user] for user in chart.reports_of(head) if user in commits]
    return float(sum(called)) if called else float("nan")
