"""What Dynamics alone has: an audit log as the past, delta links that expire, two places for scores."""

import json
from pathlib import Path

import pytest
from commercial_crms import DYNAMICS, assert_is_the_company
from dynamics_stand_in import deal_id, key
from invented_company import invented_company
from what_stands import open_ids, publish

from crm.connectors.dynamics_scores import COLUMNS
from crm.store import read_tables
from crm.versions import current_version

pytestmark = pytest.mark.slow


@pytest.fixture
def environment(dealcast, monkeypatch):
    monkeypatch.setenv(*DYNAMICS.secret)
    with DYNAMICS.stand_in(invented_company(12)).running() as stand_in:
        yield stand_in


def connect(dealcast, environment, *words: str, **how: int):
    return dealcast("connect", "dynamics", *DYNAMICS.settings(environment.url), *words, **how)


def test_a_connection_tells_what_it_finds_and_people_goals_and_contacts_come_along(environment, dealcast):
    found = connect(dealcast, environment)
    assert found["tables"] == {"deals": 11, "accounts": 5, "users": 3} and found["history_since"]
    assert found["system"] == "Dynamics 365, Dataverse 9.2.26101.1"
    assert found["writes_to"] == "msdyn_predictivescores.msdyn_score" and "calls left" in found["api_budget"]
    assert any("columns not read: new_region" in note for note in found["notes"])
    first, *_ = environment.company.open_ones()
    environment.company.move(first, "Signed", seconds_ago=90)
    environment.company.move(first, "Offer", seconds_ago=60)
    connect(dealcast, environment, "also_read=new_region", "time_zone=Europe/Berlin")
    dealcast("sync")
    tables = read_tables(dealcast.workspace)
    users = tables.get("users").set_index("user_id")
    assert set(users["team"]) == {"North"} and users.at[key("5e11", 1), "manager_id"] == key("5e11", 0)
    assert tables.get("quotas")[["user_id", "amount", "currency"]].values.tolist() == [[key("5e11", 0), 9000.0, "EUR"]]
    rates = tables.get("exchange_rates").set_index("currency")["rate_to_base"].to_dict()
    assert rates == {"EUR": 1.0, "USD": 0.8} and set(tables.get("accounts")["industry"]) == {"Accounting"}
    calendar = tables.calendar
    assert (calendar.base_currency, calendar.time_zone, calendar.fiscal_year_start_month) == ("EUR", "Europe/Berlin", 2)
    contacts = tables.get("deal_contacts").set_index("deal_id")
    assert contacts.at[deal_id(2), "contact_id"] == key("c0", 2)
    assert contacts.at[deal_id(2), "added_at"] == environment.company.deals[2].states[1].at  # when it was entered
    assert "Decision Maker" in set(contacts.loc[deal_id(0), "role"])
    assert set(tables.get("deals")["new_region"]) == {f"Region {n}" for n in range(4)}
    history = tables.get("deal_history")
    stages = history[(history["deal_id"] == deal_id(first)) & (history["field"] == "stage")].sort_values("changed_at")
    assert stages["new_value"].tolist() == ["Talk", "Offer", "Won", "Offer"]  # signed, and opened again
    deal = tables.get("deals").set_index("deal_id").loc[deal_id(first)]
    assert (deal["stage"], bool(deal["is_closed"])) == ("Offer", False)


def test_a_column_without_auditing_has_no_history_and_none_is_made_up(environment, dealcast):
    environment.unaudited |= {"estimatedvalue", "actualvalue"}
    assert any("no history of estimatedvalue, actualvalue" in note for note in connect(dealcast, environment)["notes"])
    dealcast("sync")
    history = read_tables(dealcast.workspace).get("deal_history")
    assert "amount" not in set(history["field"]) and {"stage", "close_date", "owner_id"} <= set(history["field"])


def test_without_change_tracking_what_changed_is_found_by_its_date_and_what_was_deleted_in_the_log(
    environment, dealcast
):
    environment.untracked.add("opportunity")
    assert any("change tracking of opportunities is off" in note for note in connect(dealcast, environment)["notes"])
    dealcast("sync")
    signed, thrown_away, *_ = environment.company.open_ones()
    environment.company.move(signed, "Signed")
    environment.company.delete(thrown_away)
    before = len(environment.asked)
    dealcast("sync")
    assert_is_the_company(read_tables(dealcast.workspace), environment.company, DYNAMICS)
    asked = [each for each in environment.asked[before:] if each.path.endswith("/opportunities")]
    assert len(asked) == 1 and "modifiedon ge" in asked[0].words["$filter"]


def test_a_delta_link_that_has_expired_is_told_and_everything_is_read_anew(environment, dealcast):
    connect(dealcast, environment)
    dealcast("sync")
    environment.company.move(environment.company.open_ones()[0], "Lost")
    environment.forget_changes()
    notes = {note["what"]: note["because"] for note in dealcast("sync")["notes"]}
    assert "has expired" in notes["opportunity"]
    assert_is_the_company(read_tables(dealcast.workspace), environment.company, DYNAMICS)
    environment.company.move(environment.company.open_ones()[0], "Signed")
    assert dealcast("sync")["notes"] == []


def test_scores_go_into_columns_of_our_own_if_they_are_wanted_there_and_exist(environment, dealcast):
    assert connect(dealcast, environment, "write_to=columns")["writes_to"] is None
    dealcast("sync")
    first, *others = open_ids(dealcast.workspace)
    publish(dealcast.workspace, [first, *others], 0.4)
    assert "crm_modules/dynamics" in dealcast("push", exits=2)["error"]["details"][0]["rule"]
    environment.with_columns = True
    environment.refuses[first] = "a plug-in says no"
    pushed = dealcast("push")
    assert pushed["written"] == len(others) and "a plug-in says no" in pushed["failed"][0]["reason"]
    assert environment.scores() == dict.fromkeys(others, 0.4) and not environment.predicted
    written = next(deal.written for deal in environment.company.deals if deal.written)
    assert written.keys() == COLUMNS.keys() and written["dealcast_winprobabilitymodel"] == "m1"


def test_a_score_tells_where_it_comes_from_and_without_the_table_it_is_not_written(environment, dealcast):
    connect(dealcast, environment)
    dealcast("sync")
    publish(dealcast.workspace, open_ids(dealcast.workspace)[:1], 0.4)
    environment.without.add("msdyn_predictivescore")
    assert "Sales Enterprise" in dealcast("push", exits=2)["error"]["details"][0]["rule"]
    environment.without.clear()
    dealcast("push")
    (score,) = environment.predicted.values()
    assert (score["msdyn_score"], score["msdyn_scoretrend"]) == (40, 0)
    assert score["msdyn_scorereasons"].startswith("40% (30% to 30%), +4.2 points; m1, as of ")


def test_a_wrong_secret_and_wrong_settings_are_told(environment, dealcast, monkeypatch):
    failure = connect(dealcast, environment, "stage_column=phase", exits=2)["error"]
    assert "no such columns" in failure["message"] and failure["details"][0]["value"] == "phase"
    failure = connect(dealcast, environment, "write_to=notes", exits=2)["error"]
    assert "predictive_score, columns" in failure["details"][0]["rule"]
    monkeypatch.setenv("DEALCAST_DYNAMICS_CLIENT_SECRET", "hunter2")
    failure = connect(dealcast, environment, exits=5)["error"]
    assert "does not let us in" in failure["message"] and "AADSTS7000215" in failure["details"][0]["rule"]
    assert "hunter2" not in str(failure) and current_version(dealcast.workspace) is None


def test_the_shipped_columns_are_those_that_are_written():
    shipped = Path(__file__).parents[2] / "crm_modules" / "dynamics" / "columns.json"
    columns = json.loads(shipped.read_text("utf-8"))
    assert [each["SchemaName"].lower() for each in columns] == list(COLUMNS)
    assert not any(each["IsAuditEnabled"]["Value"] for each in columns)
