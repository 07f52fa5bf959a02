"""What callers do wrong: each mistake is answered with a clear error that names its field, none by a bug of ours."""

import json
import shutil
from pathlib import Path

import pytest
from serving_here import NOW, until, url_of
from starlette.testclient import TestClient

from ledger.ledger import open_ledger
from serving.access import Access
from serving.api import create_api

pytestmark = pytest.mark.slow

LONG = "x" * 300
DEAL = {"deal_id": "n1", "created_at": "2023-01-02T00:00:00Z", "stage": "Prospecting"}
CALL = {"user_id": "nobody", "period_start": "2023-10-01", "category": "commit", "amount": 1}
OVER = {"node_type": "company", "node_id": "company", "value": 1}
SCORE, WHAT_IF, EVENTS, FORECAST = "/v1/score", "/v1/what_if", "/v1/events", "/v1/forecast"
CALLS, OVERRIDES, PANEL = "/v1/calls", "/v1/overrides", "/v1/panel_links"


@pytest.fixture(scope="module")
def client(trained, tmp_path_factory):
    workspace = Path(shutil.copytree(trained, tmp_path_factory.mktemp("wrong") / "workspace"))
    secret, _ = open_ledger(url_of(workspace)).create_key("test", ["admin"], now=NOW)
    headers = {"x-api-key": secret, "content-type": "application/json"}
    access = Access(failures_per_minute=1000)
    with TestClient(create_api(workspace, url_of(workspace), access), headers=headers) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        yield client


REFUSED = [
    # path, body, status, the field that is named
    (SCORE, "", 422, "body"),
    (SCORE, "{", 422, "body"),
    (SCORE, b'{"deal_ids": ["\xff"]}', 422, "body"),
    (SCORE, "[]", 422, "body"),
    (SCORE, "null", 422, "body"),
    (SCORE, '"a"', 422, "body"),
    (SCORE, '{"deal_ids": ["a"]} x', 422, "body"),
    (SCORE, {}, 422, "deal_ids"),
    (SCORE, {"deal_ids": None}, 422, "deal_ids"),
    (SCORE, {"deal_ids": "a"}, 422, "deal_ids"),
    (SCORE, {"deal_ids": {"a": 1}}, 422, "deal_ids"),
    (SCORE, {"deal_ids": [1]}, 422, "deal_ids[0]"),
    (SCORE, {"deal_ids": ["a", None]}, 422, "deal_ids[1]"),
    (SCORE, {"deal_ids": ["a", ["b"]]}, 422, "deal_ids[1]"),
    (SCORE, {"deal_ids": ["a\0"]}, 422, "deal_ids[0]"),
    (SCORE, '{"deal_ids": ["\\ud800"]}', 422, "deal_ids[0]"),
    (SCORE, {"deal_ids": ["a"] * 1001}, 422, "deal_ids"),
    (SCORE, {"deal_ids": [], "explain": "true"}, 422, "explain"),
    (SCORE, {"deal_ids": [], "explain": 1}, 422, "explain"),
    (SCORE, {"deal_ids": [], "explain": None}, 422, "explain"),
    (SCORE, {"deal_ids": [], "why": True}, 422, "why"),
    (FORECAST, {"period_start": "soon"}, 422, "period_start"),
    (FORECAST, {"period_start": "2023-13-01"}, 422, "period_start"),
    (FORECAST, {"period_start": "2023-10-02"}, 422, "2023-10-02"),
    (FORECAST, {"period_start": 20231001.5}, 422, "period_start"),
    (FORECAST, {"period_start": "0001-01-01"}, 422, "period_start"),
    (FORECAST, {"period_start": "9999-01-01"}, 422, "period_start"),
    (FORECAST, {"node_type": "planet"}, 422, "node_type"),
    (FORECAST, {"node_type": ["rep"]}, 422, "node_type"),
    (FORECAST, {"node_id": 7}, 422, "node_id"),
    (FORECAST, {"node_id": "nobody"}, 404, "nobody"),
    (FORECAST, {"since": "yesterday"}, 422, "since"),
    (FORECAST, {"gap": "yes"}, 422, "gap"),
    (FORECAST, {"what_if": [{}]}, 422, "what_if[0].deal_id"),
    (FORECAST, {"what_if": [{"deal_id": "nobody", "drop": True}]}, 404, "what_if[0].deal_id"),
    (FORECAST, {"what_if": [{"deal_id": "a", "amount": "1"}]}, 422, "what_if[0].amount"),
    (WHAT_IF, {}, 422, "deals"),
    (WHAT_IF, {"deals": {}}, 422, "deals"),
    (WHAT_IF, {"deals": [{}]}, 422, "deals[0].deal"),
    (WHAT_IF, {"deals": [{"deal": []}]}, 422, "deals[0].deal"),
    (WHAT_IF, {"deals": [{"deal": {}, "history": {}}]}, 422, "deals[0].history"),
    (WHAT_IF, {"deals": [{"deal": {}, "activities": [1]}]}, 422, "deals[0].activities[0]"),
    (WHAT_IF, {"deals": [{"deal": {}, "extra": 1}]}, 422, "deals[0].extra"),
    (WHAT_IF, {"deals": [], "as_of": "soon"}, 422, "as_of"),
    (WHAT_IF, {"deals": [], "as_of": 5}, 422, "as_of"),
    (WHAT_IF, {"deals": [], "as_of": "2030-01-01"}, 422, "as_of"),
    (WHAT_IF, {"deals": [], "as_of": "2023-01-05"}, 422, "as_of"),
    (WHAT_IF, {"deals": [{"deal": {}}] * 101}, 413, "deals"),
    (EVENTS, {}, 422, "events"),
    (EVENTS, {"events": None}, 422, "events"),
    (EVENTS, {"events": {"event_id": "a"}}, 422, "events"),
    (EVENTS, {"events": [1] * 1001}, 413, "events"),
    (CALLS, {"calls": []}, 422, "calls"),
    (CALLS, {"calls": [{}]}, 422, "calls[0].period_start"),
    (CALLS, {"calls": [{**CALL, "category": "sure"}]}, 422, "calls[0].category"),
    (CALLS, {"calls": [{**CALL, "amount": "1"}]}, 422, "calls[0].amount"),
    (CALLS, '{"calls": [{"period_start": "2023-10-01", "category": "commit", "amount": NaN}]}', 422, "calls[0].amount"),
    (CALLS, {"calls": [{**CALL, "amount": 1e16}]}, 422, "calls[0].amount"),
    (CALLS, {"calls": [{**CALL, "note": "x" * 2001}]}, 422, "calls[0].note"),
    (CALLS, {"calls": [{**CALL, "note": "\0"}]}, 422, "calls[0].note"),
    (CALLS, {"calls": [CALL]}, 404, "calls[0].user_id"),
    (CALLS, {"calls": [{**CALL, "user_id": None}]}, 422, "calls[0].user_id"),
    (CALLS, {"calls": [CALL] * 101}, 413, "calls"),
    (OVERRIDES, {"overrides": []}, 422, "overrides"),
    (OVERRIDES, {"overrides": [{"value": 1}]}, 422, "overrides[0].node_type"),
    (OVERRIDES, {"overrides": [{**OVER, "deal_id": "a"}]}, 422, "overrides[0].deal_id"),
    (OVERRIDES, {"overrides": [{**OVER, "value": None}]}, 422, "overrides[0].value"),
    (OVERRIDES, {"overrides": [{**OVER, "value": True}]}, 422, "overrides[0].value"),
    (OVERRIDES, {"overrides": [{**OVER, "node_id": "nobody"}]}, 404, "overrides[0].node_id"),
    (OVERRIDES, {"overrides": [{"deal_id": "nobody", "value": 1}]}, 404, "overrides[0].deal_id"),
    (OVERRIDES, {"overrides": [{**OVER, "period_start": "2023-10-02"}]}, 422, "overrides[0].period_start"),
    (OVERRIDES, {"overrides": [{**OVER, "submitted_at": "later"}]}, 422, "overrides[0].submitted_at"),
    (PANEL, {"deal_id": "a"}, 422, "user_id"),
    (PANEL, {"deal_id": 1, "user_id": "b"}, 422, "deal_id"),
    (PANEL, {"deal_id": "a", "user_id": "nobody"}, 404, "user_id"),
]

WITHIN = [
    # path, body, where the answer tells what is wrong, the field that is named
    (WHAT_IF, {"deals": [{"deal": {}}]}, "errors", "deals[0].deal.deal_id"),
    (WHAT_IF, {"deals": [{"deal": {**DEAL, "amount": "much"}}]}, "errors", "deals[0].deal.amount"),
    (WHAT_IF, {"deals": [{"deal": {**DEAL, "created_at": "?"}}]}, "errors", "deals[0].deal.created_at"),
    (EVENTS, {"events": [1]}, "results", "events[0]"),
    (EVENTS, {"events": [{}]}, "results", "events[0].event_id"),
    (EVENTS, {"events": [{"event_id": "a", "table": "no_table", "row": {"a": 1}}]}, "results", "events[0].table"),
    (EVENTS, {"events": [{"event_id": LONG, "table": "deals", "row": DEAL}]}, "results", "events[0].event_id"),
    (EVENTS, {"events": [{"event_id": "a", "table": "deals", "row": []}]}, "results", "events[0].row"),
    (EVENTS, {"events": [{"event_id": "a", "table": "deals", "row": {"deal_id": {}}}]}, "results", "row.deal_id"),
    (EVENTS, {"events": [{"event_id": "a", "table": "deals", "row": DEAL, "why": 1}]}, "results", "events[0].why"),
]


def send(client, path: str, body: object):
    return client.post(path, content=body if isinstance(body, str | bytes) else json.dumps(body))


@pytest.mark.parametrize(("path", "body", "status", "field"), REFUSED)
def test_a_mistake_is_refused_and_its_field_is_named(client, path, body, status, field):
    answer = send(client, path, body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == {422: "invalid", 404: "not_found", 413: "too_large"}[status] and error["message"]
    told = [each["where"] for each in error["details"]] + [str(each["value"]) for each in error["details"]]
    assert field in told or field in error["message"], answer.text
    assert all(each["rule"] and each["next_step"] for each in error["details"])


@pytest.mark.parametrize(("path", "body", "part", "field"), WITHIN)
def test_one_mistake_of_several_is_told_beside_what_is_right(client, path, body, part, field):
    answer = send(client, path, body)
    assert answer.status_code in (200, 202), answer.text
    details = [detail for each in answer.json()[part] for detail in each["details"]]
    assert any(detail["where"].endswith(field) for detail in details), details
    assert all(each["rule"] and each["next_step"] for each in details)


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/deals/nobody", "/v1/deals/%00", "/v1/deals/%ff", "/v1/deals/a%2Fb", "/v1/deals/" + LONG * 10),
        *("/v1/deals/..%2f..%2fetc", "/v1/deals/'%20OR%201=1", "/panel/nobody", "/v1/deal", "/static/..%2fhome.py"),
    ],
)
def test_what_is_not_there_is_not_found_however_it_is_called(client, path):
    answer = client.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found"), answer.text
