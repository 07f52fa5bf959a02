"""What people call a period and put in place of the model's number: kept, with whether they had read it."""

import json

import pandas as pd
import pytest
from in_this_process import HOUR, later

from crm.store import read_tables

pytestmark = pytest.mark.slow


def boss_and_rep(tables) -> tuple[str, str]:
    users = tables.get("users")
    rep = users[users["role"] == "rep"].iloc[0]
    return rep["manager_id"], rep["user_id"]


def call_of(tables, **given) -> dict:
    period = tables.calendar.period_of(tables.as_of)
    said = {"period_start": str(period.start), "submitted_at": later(tables, 1), "category": "commit", "amount": 1000}
    return {**said, **given}


def test_a_call_is_kept_and_stands_in_the_forecast_of_who_called(either_service, view):
    service, tables = either_service, view[0]
    _, rep = boss_and_rep(tables)
    answer = service.post("/v1/calls", {"calls": [call_of(tables, note="sure of it")]}, "calls", rep)
    assert answer.status_code == 202
    (kept,) = answer.json()["calls"]
    assert kept["user_id"] == rep and kept["model_seen"] is False and kept["amount"] == 1000.0
    service.settled()
    body = {"node_type": "rep", "node_id": rep}
    (node,) = service.post("/v1/forecast", body, "read").json()["nodes"]
    assert (node["call_commit"], node["call_user_id"], node["call_submitted_at"]) == (1000.0, rep, later(tables, 1))
    said = read_tables(service.workspace).get("forecast_calls")
    assert said[said["submitted_at"] == tables.as_of + HOUR]["note"].tolist() == ["sure of it"]
    assert service.ledger.calls()["amount"].tolist() == [1000.0]


def test_a_call_says_whether_its_caller_had_read_the_model_s_number(service, view):
    tables = view[0]
    boss, rep = boss_and_rep(tables)

    def seen(user: str, hour: int) -> bool:
        body = {"calls": [call_of(tables, submitted_at=later(tables, hour))]}
        return service.post("/v1/calls", body, "read,calls", user).json()["calls"][0]["model_seen"]

    assert seen(rep, 1) is False
    service.post("/v1/forecast", {}, "read,calls", boss)
    assert (seen(rep, 2), seen(boss, 3)) == (False, True)
    service.post("/v1/forecast", {"period_start": str(view[0].calendar.next_period(
        tables.calendar.period_of(tables.as_of)).start)}, "read,calls", rep)  # fmt: skip
    assert seen(rep, 4) is False
    service.post("/v1/forecast", {}, "read,calls", rep)
    assert seen(rep, 5) is True
    service.settled()


def test_with_admin_one_calls_for_others_and_without_for_oneself_alone(service, view):
    tables = view[0]
    boss, rep = boss_and_rep(tables)
    other = call_of(tables, user_id=boss)
    assert service.post("/v1/calls", {"calls": [other]}, "calls", rep).status_code == 422
    assert service.post("/v1/calls", {"calls": [call_of(tables, user_id=rep)]}, "calls", rep).status_code == 202
    nobody = service.post("/v1/calls", {"calls": [call_of(tables)]}, "calls")
    assert nobody.json()["error"]["details"][0]["where"] == "calls[0].user_id"
    assert service.post("/v1/calls", {"calls": [other]}, "admin").json()["calls"][0]["user_id"] == boss
    for user in (None, rep):
        missing = service.post("/v1/calls", {"calls": [call_of(tables, user_id="nobody")]}, "admin", user)
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    assert service.post("/v1/calls", {"calls": [other]}, "admin", rep).status_code == 404


BAD_CALLS = [
    ({"amount": "1000"}, "amount"),
    ({"amount": None}, "amount"),
    ({"amount": float("nan")}, "amount"),
    ({"amount": float("inf")}, "amount"),
    ({"amount": 10**400}, "amount"),
    ({"amount": True}, "amount"),
    ({"category": "hope"}, "category"),
    ({"category": None}, "category"),
    ({"period_start": "2023-10-02"}, "period_start"),
    ({"period_start": "soon"}, "period_start"),
    ({"period_start": "0001-01-01"}, "period_start"),
    ({"period_start": "9999-12-31"}, "period_start"),
    ({"submitted_at": "soon"}, "submitted_at"),
    ({"submitted_at": "2199-01-01"}, "submitted_at"),
    ({"submitted_at": "2020-01-01"}, "submitted_at"),
    ({"currency": "ZZZ"}, "currency"),
    ({"note": "x" * 2001}, "note"),
    ({"note": "\0"}, "note"),
    ({"note": "\ud800"}, "note"),
    ({"user_id": "\ud800"}, "user_id"),
    ({"hope": 1}, "hope"),
]


def test_a_bad_call_is_refused_by_name_and_nothing_is_kept(service, view):
    tables = view[0]
    _, rep = boss_and_rep(tables)
    headers = {"x-api-key": service.key("calls", rep), "content-type": "application/json"}
    for bad, where in BAD_CALLS:
        calls = [call_of(tables), call_of(tables, **{"category": "best_case", **bad})]
        body = json.dumps({"calls": calls})
        answer = service.client.post("/v1/calls", content=body, headers=headers)
        assert answer.status_code == 422, (bad, answer.text)
        places = [detail["where"] for detail in answer.json()["error"]["details"]]
        assert f"calls[1].{where}" in places, (bad, places)
    twice = service.post("/v1/calls", {"calls": [call_of(tables), call_of(tables, amount=2)]}, "calls", rep)
    assert twice.json()["error"]["details"][0]["where"] == "calls[1].category"
    assert service.post("/v1/calls", {"calls": []}, "calls", rep).status_code == 422
    assert service.ledger.calls().empty and service.ledger.events_after(0) == []


def test_an_override_of_a_node_or_deal_is_kept_with_whether_the_number_was_read(either_service, view):
    service, (tables, _, _, scores) = either_service, view
    deals = tables.get("deals").set_index("deal_id")
    deal_id = scores["deal_id"].iloc[0]
    owner = deals.loc[deal_id, "owner_id"]
    node = {"node_type": "rep", "node_id": owner, "value": 500, "note": "I know the customer"}
    both = {"overrides": [node, {"deal_id": deal_id, "value": 7.5}]}
    first = service.post("/v1/overrides", both, "read,calls", owner)
    assert first.status_code == 202
    assert [each["model_seen"] for each in first.json()["overrides"]] == [False, False]
    service.client.get(f"/v1/deals/{deal_id}", headers={"x-api-key": service.key("read,calls", owner)})
    second = service.post("/v1/overrides", both, "read,calls", owner).json()["overrides"]
    assert [each["model_seen"] for each in second] == [False, True]
    assert [each["override_id"] for each in second] == [3, 4] and second[0]["user_id"] == owner
    period = tables.calendar.period_of(tables.as_of)
    said = service.ledger.overrides(period_start=pd.Timestamp(period.start))
    assert said["value"].tolist() == [500.0, 7.5] * 2 and said["note"].iloc[0] == "I know the customer"


def test_an_override_of_what_one_may_not_see_is_not_found_and_a_bad_one_refused_by_name(service, view):
    tables, history, _, scores = view
    deals = tables.get("deals").set_index("deal_id")
    bosses = set(tables.get("users")["manager_id"].dropna())
    rep = next(each for each in deals["owner_id"].dropna().unique() if each not in bosses)
    theirs = next(each for each in scores["deal_id"] if deals.loc[each, "owner_id"] != rep)
    for unseen in (
        {"deal_id": theirs},
        {"deal_id": "nobody's"},
        {"node_type": "company", "node_id": "company"},
        {"node_type": "rep", "node_id": deals.loc[theirs, "owner_id"]},
        {"node_type": "rep", "node_id": "nobody"},
    ):
        answer = service.post("/v1/overrides", {"overrides": [{**unseen, "value": 1}]}, "calls", rep)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found"), unseen
    company = {"node_type": "company", "node_id": "company", "value": 1}
    assert service.post("/v1/overrides", {"overrides": [company]}, "calls").status_code == 202
    won = history.wins.loc[history.wins["undone_at"].isna(), "deal_id"].iloc[0]
    bad = [
        ({"deal_id": None}, "node_type"),
        ({"node_type": "rep"}, "node_id"),
        ({"node_id": "x"}, "node_type"),
        ({"deal_id": theirs, "node_type": "rep", "node_id": "x"}, "deal_id"),
        ({"deal_id": won}, "deal_id"),
        ({"node_type": "planet", "node_id": "x"}, "node_type"),
        ({**company, "value": None}, "value"),
        ({**company, "value": "1"}, "value"),
        ({**company, "value": float("nan")}, "value"),
        ({**company, "period_start": "2023-10-02"}, "period_start"),
        ({**company, "submitted_at": "soon"}, "submitted_at"),
        ({**company, "submitted_at": "2199-01-01"}, "submitted_at"),
        ({**company, "note": 5}, "note"),
        ({"deal_id": "\ud800"}, "deal_id"),
        ({"deal_id": "\0"}, "deal_id"),
    ]
    headers = {"x-api-key": service.key("calls"), "content-type": "application/json"}
    for each, where in bad:
        body = json.dumps({"overrides": [{"value": 1, **each}]})
        answer = service.client.post("/v1/overrides", content=body, headers=headers)
        assert answer.status_code == 422, (each, answer.text)
        assert f"overrides[0].{where}" in [d["where"] for d in answer.json()["error"]["details"]], (each, answer.text)
