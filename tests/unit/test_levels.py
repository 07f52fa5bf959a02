"""What parties have at a moment is worked out once, and never changes an answer."""

import pandas as pd
import pytest

from crm.history import DealHistory, build_history, open_deals
from crm.synthetic import CompanyConfig, export, simulate
from crm.tables import CrmTables
from features.build import build_from_sources
from features.sources import FeatureSources, build_sources, overlay_sources

Company = tuple[CrmTables, DealHistory, FeatureSources]


@pytest.fixture(scope="module")
def company() -> Company:
    config = CompanyConfig(seed=4, n_reps=4, n_teams=2, deals_per_week=3.0, days=300, currencies=("USD", "EUR"))
    tables = export(simulate(config))
    history = build_history(tables)
    return tables, history, build_sources(tables, history)


def alone(company: Company, deal_id: str, **instead: object) -> tuple[FeatureSources, FeatureSources]:
    """One deal proposed, with some fields otherwise: over sources that keep levels, and over those that do not."""
    tables, _, sources = company
    its = tables.of_deals({deal_id})
    proposed = its.with_tables(deals=its.get("deals").assign(**instead))
    few = build_sources(proposed, build_history(proposed), bulk=sources.bulk)
    keeping = overlay_sources(sources.keeping_levels(), few, {deal_id})
    return keeping, overlay_sources(sources, few, {deal_id})


def test_one_deal_or_all_at_one_moment_or_two_are_as_without_kept_levels(company):
    tables, history, sources = company
    keeping = sources.keeping_levels()
    now = open_deals(history, tables.as_of)
    past = open_deals(history, tables.as_of - pd.Timedelta(days=40))
    for spine in (now, now.iloc[[3]], pd.concat([past, now], ignore_index=True)):
        pd.testing.assert_frame_equal(build_from_sources(keeping, spine), build_from_sources(sources, spine))


def test_a_proposal_that_changes_nothing_of_its_parties_is_read_beside_kept_levels(company):
    tables, history, _ = company
    spine = open_deals(history, tables.as_of).iloc[[5]]
    keeping, whole = alone(company, spine["deal_id"].iloc[0], amount=12_345.0)
    assert keeping.levels is not None
    pd.testing.assert_frame_equal(build_from_sources(keeping, spine), build_from_sources(whole, spine))


def test_a_proposal_that_changes_what_its_parties_have_is_not(company):
    tables, history, _ = company
    spine = open_deals(history, tables.as_of).iloc[[5]]
    deals = tables.get("deals").set_index("deal_id")
    deal_id = spine["deal_id"].iloc[0]
    keeping, whole = alone(company, deal_id, created_at=deals.loc[deal_id, "created_at"] - pd.Timedelta(days=3))
    assert keeping.levels is None
    pd.testing.assert_frame_equal(build_from_sources(keeping, spine), build_from_sources(whole, spine))
