"""What a workspace holds after a sync, and scores said of its open deals."""

import json

import pandas as pd

from crm.history import build_history, open_deals
from crm.store import read_tables
from ledger.ledger import Publication, open_ledger


def held(workspace) -> tuple[pd.DataFrame, ...]:
    """What the workspace holds of the deals and their history, without regard to the order of rows."""
    tables = read_tables(workspace)
    deals = tables.get("deals").drop(columns="_first_seen_at")
    history = tables.get("deal_history").drop(columns="_sequence")
    by = ["deal_id", "changed_at", "field"]
    return deals.reset_index(drop=True), history.sort_values(by, ignore_index=True), tables.get("accounts")


def assert_same(some: tuple[pd.DataFrame, ...], others: tuple[pd.DataFrame, ...]) -> None:
    for one, other in zip(some, others, strict=True):
        pd.testing.assert_frame_equal(one, other)


def publish(workspace, deals: list[str], probability: float) -> None:
    """Scores of deals, said just now."""
    tables = read_tables(workspace)
    at, numbers = tables.as_of, ("win_probability_low", "win_probability_high", "next_period_win_probability")
    period = {"period_start": pd.Timestamp("2026-10-01"), "period_end": pd.Timestamp("2027-01-01")}
    parts = {"period_win_probability": 0.2, "period_loss_probability": 0.3, "period_slip_probability": 0.5}
    known = {"reasons": json.dumps([{"feature": "no_such", "text": "x", "effect": 1.0}]), "score_change": 4.2, **parts}
    shared = {"as_of": at, **period, **known, **dict.fromkeys(numbers, 0.3)}
    rows = [{"deal_id": deal, "win_probability": probability, **shared} for deal in deals]
    versions = {"model_version": "m1", "data_version": tables.data_version}
    said = Publication("scores", "published", at, pd.Timestamp.now("UTC").as_unit("us"), **versions)
    ledger = open_ledger(f"sqlite:///{workspace / 'dealcast.db'}")
    ledger.publish_scores(said, pd.DataFrame(rows).assign(**versions))
    ledger.engine.dispose()


def open_ids(workspace) -> list[str]:
    tables = read_tables(workspace)
    return open_deals(build_history(tables), tables.as_of)["deal_id"].tolist()
