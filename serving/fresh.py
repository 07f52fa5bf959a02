"""A few deals of a newer data version, scored at once; the rest of it follows when it is loaded whole."""

from pathlib import Path

from crm.history import open_deals
from crm.store import SomeDeals, read_columns, read_tables
from crm.tables import DEAL_TABLES
from features.build import build_features
from features.bulk import bulk_loaded
from features.sources import build_sources, overlay_sources
from ledger.ledger import Ledger
from models.scorer import score_deals
from serving.state import State, changed_since, published_earlier

FEATURE_TABLES = (*DEAL_TABLES, "stages", "accounts", "exchange_rates")
"""What the score of a deal is made from, beside what owners and accounts have from all deals."""


def score_newer(workspace: Path, ledger: Ledger, state: State, deal_ids: frozenset[str], version: str) -> State:
    """A state of some deals alone, as a newer data version has them: scored as they will be when it is loaded whole.

    Parameters
    ----------
    state : what is served; it knows what owners and accounts have from all other deals.
    deal_ids : every deal that is another one in the newer version.
    """
    tables = read_tables(workspace, version, within=SomeDeals(deal_ids), only=FEATURE_TABLES)
    tables, history = state.bundle.read_history(tables)
    births = read_columns(workspace, "deals", ("deal_id", "created_at", "_first_seen_at"), version)
    few = build_sources(tables, history, bulk=bulk_loaded(births, tables.calendar.time_zone))
    sources = overlay_sources(state.sources, few, deal_ids)
    spine = open_deals(history, tables.as_of)
    features = build_features(tables, history, spine, sources=sources)
    scores = score_deals(state.bundle, tables, history, spine, features=features)
    earlier = published_earlier(scores["deal_id"].tolist(), ledger, tables.as_of)
    said, withheld = changed_since(scores, earlier), state.withheld_owners
    return State(tables, history, state.bundle, state.card, said, features, earlier, withheld_owners=withheld)
