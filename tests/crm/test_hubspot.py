"""What HubSpot alone has: merged deals, searches that end early, batches refused as a whole."""

import json
from pathlib import Path

import pandas as pd
import pytest
from commercial_crms import HUBSPOT, assert_is_the_company
from hubspot_stand_in import deal_id
from invented_company import invented_company, moments_ago
from what_stands import open_ids, publish

from crm.connectors import hubspot_client
from crm.connectors.hubspot import SCORE_PROPERTIES
from crm.store import read_tables

pytestmark = pytest.mark.slow


@pytest.fixture
def portal(dealcast, monkeypatch):
    monkeypatch.setenv(*HUBSPOT.secret)
    with HUBSPOT.stand_in(invented_company(24)).running() as stand_in:
        yield stand_in


def connect(dealcast, portal, *words: str, **how: int):
    return dealcast("connect", "hubspot", *HUBSPOT.settings(portal.url), *words, **how)


def test_what_a_connection_finds_is_told(portal, dealcast):
    found = connect(dealcast, portal)
    assert found["tables"]["users"] == 3 and found["writes_to"] == "deals.dealcast_win_probability"
    assert any("custom properties not read: region" in note for note in found["notes"])


def test_people_teams_companies_and_own_properties_come_along(portal, dealcast):
    connect(dealcast, portal, "also_read=region", "time_zone=America/New_York")
    dealcast("sync")
    tables = read_tables(dealcast.workspace)
    assert set(tables.get("users")["team"]) == {"North"} and len(tables.get("accounts")) == 5
    deals = tables.get("deals")
    assert set(deals["region"]) == {f"Region {n}" for n in range(4)}
    assert set(deals["account_id"]) == {"500", "501", "502", "503", "504"}
    assert set(tables.get("activities")["direction"]) == {"outbound"}
    assert tables.calendar.time_zone == "America/New_York"
    quotas = tables.get("quotas")
    told = zip(quotas["user_id"], quotas["period_start"].astype("str"), quotas["amount"], strict=True)
    assert list(told) == [("70", "2026-10-01", 9000.0)]  # the goal of the quarter, not that of November
    portal.without_goals = True
    assert "crm.objects.goals.read" in {note["what"]: note["because"] for note in dealcast("sync")["notes"]}["goals"]


def test_a_deal_that_was_merged_into_another_is_followed(portal, dealcast):
    connect(dealcast, portal)
    dealcast("sync")
    kept, merged, *_ = portal.company.open_ones()
    portal.company.deals[merged].merged_into = kept
    portal.company.deals[kept].touched_at = moments_ago(5)
    dealcast("sync")
    dealcast("sync")
    deals = read_tables(dealcast.workspace).get("deals").set_index("deal_id")
    assert deals.at[deal_id(merged), "merged_into"] == deal_id(kept) and pd.notna(
        deals.at[deal_id(merged), "deleted_at"]
    )
    assert deals["merged_into"].notna().sum() == 1
    assert deal_id(merged) not in open_ids(dealcast.workspace) and deal_id(kept) in open_ids(dealcast.workspace)


def test_a_search_that_ends_early_is_taken_up_where_it_ended(portal, dealcast, monkeypatch):
    connect(dealcast, portal)
    dealcast("sync")
    for seconds, deal in enumerate(portal.company.deals):
        deal.touched_at = moments_ago(60 + seconds // 2)
    portal.company.move(portal.company.open_ones()[0], "Signed")
    monkeypatch.setattr(hubspot_client, "SEARCH_RESULTS", 10)
    monkeypatch.setattr(hubspot_client, "PAGE", 5)
    dealcast("sync")
    assert_is_the_company(read_tables(dealcast.workspace), portal.company, HUBSPOT)
    for deal in portal.company.deals:
        deal.touched_at = moments_ago(30)
    failure = dealcast("sync", exits=5)["error"]
    assert "--full" in failure["details"][0]["next_step"]
    dealcast("sync", "--full")


def test_a_batch_that_is_refused_for_one_deal_is_written_without_it(portal, dealcast):
    connect(dealcast, portal)
    dealcast("sync")
    deals = open_ids(dealcast.workspace)
    publish(dealcast.workspace, deals, 0.4)
    portal.refuses[deals[3]], portal.refuses_all = "the pipeline is locked", True
    pushed = dealcast("push")
    assert pushed["written"] == len(deals) - 1 == len(portal.scores())
    assert "the pipeline is locked" in pushed["failed"][0]["reason"] and pushed["failed"][0]["deal_id"] == deals[3]


def test_without_the_properties_scores_are_not_written(portal, dealcast):
    portal.without_scores = True
    assert connect(dealcast, portal)["writes_to"] is None
    dealcast("sync")
    publish(dealcast.workspace, open_ids(dealcast.workspace), 0.4)
    assert "crm_modules/hubspot" in dealcast("push", exits=2)["error"]["details"][0]["next_step"]


def test_the_shipped_properties_are_those_that_are_written():
    shipped = Path(__file__).parents[2] / "crm_modules" / "hubspot" / "properties.json"
    inputs = json.loads(shipped.read_text("utf-8"))["inputs"]
    assert [each["name"] for each in inputs] == list(SCORE_PROPERTIES)
