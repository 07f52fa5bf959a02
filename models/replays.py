"""What the ledger says a forecast was at a past moment; where it says nothing, a replay, kept there as such."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from crm.calendar import Period
from crm.errors import DealcastError
from crm.history import DealHistory, snapshot_spine
from crm.tables import CrmTables
from ledger.ledger import Ledger, Publication
from models.bundle import Bundle, bundle_for, read_bundle_to_score
from models.forecaster import forecast_nodes
from models.scorer import score_deals

FRESH_FOR = pd.Timedelta(days=7)
"""A cut takes what was published in so many days up to it; what is older is no word on this week."""


def published_nodes(ledger: Ledger, *, cut: pd.Timestamp, period: Period) -> pd.DataFrame | None:
    """The forecast rows published last in the seven days up to a cut, or None."""
    fresh = fresh_publications(ledger, cut=cut, period=period)
    return ledger.nodes_of(fresh[-1]) if fresh else None


def fresh_publications(ledger: Ledger, *, cut: pd.Timestamp, period: Period) -> list[Publication]:
    """The forecasts of a period published in the seven days up to a cut, the one that stands last."""
    said = ledger.publications("forecast", basis="published", period_start=pd.Timestamp(period.start), at=cut)
    return [head for head in said if head.published_at >= cut - FRESH_FOR and head.as_of <= cut]


def bundle_that_spoke(workspace: Path, ledger: Ledger, tables: CrmTables, period: Period, at: pd.Timestamp) -> Bundle:
    """The model whose forecast of the period was the last word at a moment; where none was, the one that may speak.

    Raises
    ------
    NoModel
        Nothing had been published in the week before, and no model may speak for the moment.
    """
    said = fresh_publications(ledger, cut=at, period=period)
    if said:
        with contextlib.suppress(DealcastError):
            return read_bundle_to_score(workspace, said[-1].model_version)
    return bundle_for(workspace, at, tables.as_of)


def replayed_nodes(
    ledger: Ledger,
    bundle: Bundle,
    tables: CrmTables,
    history: DealHistory,
    *,
    cuts: Sequence[pd.Timestamp],
    period: Period,
    now: pd.Timestamp,
    keep_scores: bool = False,
) -> dict[pd.Timestamp, pd.DataFrame]:
    """The forecast rows a bundle gives at past moments of a period, kept in the ledger from the first time on.

    Parameters
    ----------
    tables, history : as `bundle.read_history` gives them.
    now : when new replays are written down.
    keep_scores : whether the deals' scores behind new replays are written down too.
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
        head = Publication("forecast", "replayed", cut, now, version, data_version)
        if keep_scores:
            ledger.publish_scores(replace(head, kind="scores"), then)
        ledger.publish_forecast(head, nodes)
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
