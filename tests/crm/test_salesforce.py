"""What Salesforce alone has: its budget, its bulk interface, objects that an org may lack."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from commercial_crms import SALESFORCE, assert_is_the_company
from invented_company import invented_company
from salesforce_stand_in import key
from what_stands import open_ids, publish

from crm.connectors.salesforce import SCORE_FIELDS
from crm.store import read_tables
from crm.versions import current_version

pytestmark = pytest.mark.slow


@pytest.fixture
def org(dealcast, monkeypatch):
    monkeypatch.setenv(*SALESFORCE.secret)
    with SALESFORCE.stand_in(invented_company(24)).running() as stand_in:
        yield stand_in


def connect(dealcast, org, *words: str, **how: int):
    return dealcast("connect", "salesforce", *SALESFORCE.settings(org.url), *words, **how)


def test_what_a_connection_finds_is_told(org, dealcast):
    found = connect(dealcast, org)
    assert found["tables"] == {"deals": 24, "deal_history": 96, "accounts": 5, "users": 3}
    assert found["writes_to"] == "Opportunity.Win_Probability__c" and found["history_since"]
    assert found["api_budget"].endswith("of 15,000 calls in 24 hours")
    said = " ".join(found["notes"])
    assert "Owner has been tracked since" in said and "custom fields not read: Region__c" in said


def test_calls_quotas_splits_rates_and_people_come_along(org, dealcast):
    connect(dealcast, org, "also_read=Region__c")
    dealcast("sync")
    tables = read_tables(dealcast.workspace)
    calls, quotas, splits = (tables.get(name) for name in ("forecast_calls", "quotas", "deal_splits"))
    assert [(c, a) for c, a in zip(calls["category"], calls["amount"], strict=True)] == [("commit", 5000.5)]
    assert f"{calls['period_start'][0]:%Y-%m-%d}" == "2026-10-01" and quotas["amount"].tolist() == [9000.0]
    assert sorted(splits["share"]) == [0.5, 0.5] and set(splits["kind"]) == {"revenue"}
    assert tables.get("exchange_rates")[["currency", "rate_to_base"]].values.tolist() == [["USD", 0.8]]
    assert (tables.calendar.base_currency, tables.calendar.time_zone) == ("EUR", "Europe/Berlin")
    assert tables.get("users").set_index("user_id").at[key("005", 1), "manager_id"] == key("005", 0)
    assert set(tables.get("deals")["Region__c"]) == {f"Region {n}" for n in range(4)}
    contacts = tables.get("deal_contacts")[["deal_id", "contact_id", "role"]]
    assert contacts.values.tolist() == [[key("006", 0), key("003", 1), "Decision Maker"]]
    activities = tables.get("activities").set_index("activity_id")
    assert activities.loc[key("00U", 1), ["type", "duration_minutes"]].tolist() == ["meeting", 45.0]
    assert activities.at[key("00T", 1), "type"] == "call"
    history = tables.get("deal_history")
    owners = history[history["field"] == "owner_id"]
    assert owners[["old_value", "new_value"]].values.tolist() == [[key("005", 2), key("005", 1)]]
    assert history.loc[history["field"] == "Region__c", "old_value"].tolist() == ["Region 9"]


def test_objects_that_an_org_lacks_are_left_out_with_what_that_switches_off(org, dealcast):
    org.without |= {"ForecastingItem", "OpportunityFieldHistory", "DatedConversionRate"}
    notes = {note["what"]: note["because"] for note in (connect(dealcast, org), dealcast("sync"))[1]["notes"]}
    assert "calls beside the model" in notes["ForecastingItem"] and "OpportunityFieldHistory" in notes
    tables = read_tables(dealcast.workspace)
    assert not tables.has("forecast_calls")
    rates = tables.get("exchange_rates").set_index("currency")["rate_to_base"].to_dict()
    assert rates == {"EUR": 1.0, "USD": 0.8}  # those that hold at all times


def test_the_bulk_interface_brings_the_same(org, dealcast):
    org.repeats = True
    connect(dealcast, org, "bulk_from=20")
    dealcast("sync")
    assert sum(asked.path.endswith("/results") for asked in org.asked) > 10
    assert_is_the_company(read_tables(dealcast.workspace), org.company, SALESFORCE)


def test_a_budget_that_is_nearly_spent_stops_the_sync_and_it_goes_on_later(org, dealcast):
    connect(dealcast, org)
    org.budget = [13_495, 15_000]
    failure = dealcast("sync", exits=5)["error"]
    assert "API budget" in failure["message"] and "api_budget_share" in failure["details"][0]["next_step"]
    assert org.budget[0] <= 13_502 and current_version(dealcast.workspace) is None
    org.budget = [15_000, 15_000]
    connect_again = dealcast("connect", "salesforce", "api_budget_share=1", exits=5)["error"]
    assert "limit is reached" in connect_again["message"]
    org.budget = [0, 15_000]
    dealcast("sync")
    assert_is_the_company(read_tables(dealcast.workspace), org.company, SALESFORCE)


def test_a_wrong_secret_is_told_and_not_repeated(org, dealcast, monkeypatch):
    monkeypatch.setenv("DEALCAST_SALESFORCE_CLIENT_SECRET", "hunter2")
    failure = connect(dealcast, org, exits=5)["error"]
    assert "does not let us in" in failure["message"] and "hunter2" not in str(failure)


def test_without_the_fields_of_our_package_scores_are_not_written(org, dealcast):
    org.without.add("scores")
    assert connect(dealcast, org)["writes_to"] is None
    dealcast("sync")
    publish(dealcast.workspace, open_ids(dealcast.workspace), 0.4)
    failure = dealcast("push", exits=2)["error"]
    assert "no place for scores" in failure["message"]
    assert "crm_modules/salesforce" in failure["details"][0]["next_step"]


def test_a_score_is_written_with_where_it_comes_from(org, dealcast):
    connect(dealcast, org)
    dealcast("sync")
    first, *_ = open_ids(dealcast.workspace)
    publish(dealcast.workspace, [first], 0.4)
    settings = dealcast.workspace / "settings.toml"
    settings.write_text("[holdout]\nshare = 0.999999")  # the one team there is sees no scores
    assert dealcast("push")["written"] == 0 and org.scores() == {}
    settings.unlink()
    dealcast("push")
    written = next(deal.written for deal in org.company.deals if deal.written)
    assert (written["Win_Probability__c"], written["Win_Probability_Change__c"]) == (40.0, 4.2)
    assert (written["Win_Probability_Low__c"], written["Win_Probability_High__c"]) == (30.0, 30.0)
    assert written["Win_Probability_Model__c"] == "m1" and written["Win_Probability_As_Of__c"].endswith("Z")
    assert "Probability" not in written


def test_the_shipped_fields_are_those_that_are_written():
    folder = Path(__file__).parents[2] / "crm_modules" / "salesforce" / "force-app" / "main" / "default"
    fields = {path.name.split(".")[0]: ElementTree.parse(path) for path in folder.rglob("*.field-meta.xml")}
    assert fields.keys() == SCORE_FIELDS.keys()
    name = "{http://soap.sforce.com/2006/04/metadata}"
    assert all(known.findtext(f"{name}fullName") == file for file, known in fields.items())
    for permissions in folder.rglob("*.permissionset-meta.xml"):
        granted = {each.text for each in ElementTree.parse(permissions).iter(f"{name}field")}
        assert granted == {f"Opportunity.{field}" for field in SCORE_FIELDS}
