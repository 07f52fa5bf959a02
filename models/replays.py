"""What the ledger says a forecast was at a past moment; where it says nothing, a replay, kept there as such."""

from collections.abc import Sequence

import pandas as pd

from crm.calendar import Period
from crm.history import DealHistory, snapshot_spine
from crm.tables import CrmTables
from ledger.ledger import Ledger, Publication
from models.bundle import Bundle
from models.forecaster import forecast_nodes
from models.scorer import score_deals

FRESH_FOR = pd.Timedelta(days=7)
"""A cut takes what was published in so many days up to it; what is older is no word on this week."""


def published_nodes(ledger: Ledger, *, cut: pd.Timestamp, period: Period) -> pd.DataFrame | None:
    """The forecast rows published last in the seven days up to a cut, or None."""
    said = ledger.publications("forecast", basis="published", period_start=pd.Timestamp(period.start), at=cut)
    fresh = [head for head in said if head.published_at >= cut - FRESH_FOR and head.as_of <= cut]
    return ledger.nodes_of(fresh[-1]) if fresh else None


def replayed_nodes(
    ledger: Ledger,
    bundle: Bundle,
    tables: CrmTables,
    history: DealHistory,
    *,
    cuts: Sequence[pd.Timestamp],
    period: Period,
    now: pd.Timestamp,
) -> dict[pd.Timestamp, pd.DataFrame]:
    """The forecast rows a bundle gives at past moments of a period, kept in the ledger from the first time on.

    Parameters
    ----------
    tables, history : as `bundle.read_history` gives them.
    now : when new replays are written down.
    """
    version, data_version = bundle.model_version, tables.data_version
    kept = {cut: _kept(ledger, cut, period, version, data_version) for cut in cuts}
    missing = [cut for cut, nodes in kept.items() if nodes is None]
    found = {cut: nodes for cut, nodes in kept.items() if nodes is not None}
    if not missing:
        return found
    scores = score_deals(bundle, tables, history, snapshot_spine(history, missing), explain=False)
    for cut in missing:
        then = scores[scores["as_of"] == cut].reset_index(drop=True)
        nodes = forecast_nodes(bundle, tables, history, then, as_of=cut, period=period)
        ledger.publish_forecast(Publication("forecast", "replayed", cut, now, version, data_version), nodes)
        found[cut] = nodes
    return found


def _kept(
    ledger: Ledger, cut: pd.Timestamp, period: Period, model_version: str, data_version: str
) -> pd.DataFrame | None:
    start = pd.Timestamp(period.start)
    heads = [
        head
        for head in ledger.publications("forecast", basis="replayed", period_start=start, as_of=cut)
        if (head.model_version, head.data_version) == (model_version, data_version)
    ]
    return ledger.nodes_of(heads[-1]) if heads else None
