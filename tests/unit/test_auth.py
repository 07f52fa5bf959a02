"""The door of the service: who comes in, with what, and what everybody is told who does not."""

import json
import logging

import pandas as pd
import pytest
import sqlalchemy as sa
from at_the_door import error_of, signed_in
from fastapi import Depends, FastAPI

from serving.access import Access
from serving.cookies import SESSION_COOKIE, csrf_token
from serving.door import MOST_BYTES
from serving.rules import OPEN, check_rules
from serving.sign_in import link_for

LOOPBACK = ("127.0.0.1", 50000)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/dealcast.db"


def test_without_a_key_only_the_open_paths_answer(behind_the_door):
    client = behind_the_door()
    assert client.get("/livez").status_code == 200
    for path in ("/v1/whoami", "/v1/nothing", "/openapi.json", "/metrics"):
        answer = client.get(path)
        assert (answer.status_code, error_of(answer)["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["x-api-key", "authorization"])
def test_a_key_opens_by_either_header(behind_the_door, key, header):
    secret = key("read")
    value = f"Bearer {secret}" if header == "authorization" else secret
    assert behind_the_door().get("/v1/whoami", headers={header: value}).json() == {"name": "test"}
    wrong = behind_the_door().get("/v1/whoami", headers={header: value + "x"})
    assert (wrong.status_code, error_of(wrong)["code"]) == (401, "unauthorized")


def test_a_key_lacking_the_scope_is_told_which(behind_the_door, key):
    answer = behind_the_door().get("/v1/whoami", headers={"x-api-key": key("events")})
    assert (answer.status_code, error_of(answer)["code"]) == (403, "forbidden")
    assert "read" in error_of(answer)["details"][0]["rule"]


def test_an_expired_and_a_revoked_key_open_nothing(behind_the_door, key, ledger):
    expired = key("read", name="expired", expires_at=pd.Timestamp("2020-01-01", tz="UTC"))
    revoked = key("read", name="revoked")
    ledger.revoke_key("revoked", now=pd.Timestamp.now("UTC"))
    for secret in (expired, revoked):
        assert behind_the_door().get("/v1/whoami", headers={"x-api-key": secret}).status_code == 401


def test_metrics_are_for_this_machine_and_for_admins(behind_the_door, key):
    assert behind_the_door(LOOPBACK).get("/metrics").status_code == 200
    through_a_proxy = behind_the_door(LOOPBACK).get("/metrics", headers={"x-forwarded-for": "203.0.113.7"})
    assert through_a_proxy.status_code == 401
    reads, admin = key("read", name="reads"), key("admin", name="admin")
    assert behind_the_door().get("/metrics", headers={"x-api-key": reads}).status_code == 403
    assert behind_the_door().get("/metrics", headers={"x-api-key": admin}).status_code == 200


def test_with_a_key_what_does_not_exist_is_not_found_and_the_wrong_method_is_named(behind_the_door, key):
    client = behind_the_door(headers={"x-api-key": key("read")})
    missing = client.get("/v1/nothing")
    assert (missing.status_code, error_of(missing)["code"]) == (404, "not_found")
    wrong = client.get("/v1/score")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert "GET" in error_of(wrong)["message"]


@pytest.mark.parametrize(
    ("body", "where", "value"),
    [
        ('{"deal_ids": ["a", 7]}', "deal_ids[1]", "7"),
        ('{"deal_ids": "a"}', "deal_ids", "a"),
        ("{}", "deal_ids", None),
        ('{"deal_ids": [], "why": 1}', "why", "1"),
        ('{"deal_ids": [], "explain": "yes"}', "explain", "yes"),
        ('{"deal_ids": [', "body", None),
        ("", "body", None),
        ("[]", "body", "[]"),
    ],
)
def test_a_body_that_breaks_the_contract_is_told_where(behind_the_door, key, body, where, value):
    headers = {"x-api-key": key("read"), "content-type": "application/json"}
    answer = behind_the_door().post("/v1/score", content=body, headers=headers)
    error = error_of(answer)
    assert (answer.status_code, error["code"]) == (422, "invalid")
    assert (error["details"][0]["where"], error["details"][0]["value"]) == (where, value)
    assert error["details"][0]["rule"] and error["details"][0]["next_step"]


def test_a_thousand_deals_are_taken_and_one_more_is_not(behind_the_door, key):
    client = behind_the_door(headers={"x-api-key": key("read")})
    ids = [f"006{n:015d}" for n in range(1001)]
    assert client.post("/v1/score", json={"deal_ids": ids[:1000]}).status_code == 200
    assert error_of(client.post("/v1/score", json={"deal_ids": ids}))["details"][0]["where"] == "deal_ids"


@pytest.mark.parametrize("counted", [True, False])
def test_a_body_too_large_is_refused_whether_it_says_its_length_or_not(behind_the_door, key, counted):
    body = b" " * (MOST_BYTES + 1)
    content = body if counted else iter([body[: MOST_BYTES // 2], body[MOST_BYTES // 2 :]])
    answer = behind_the_door().post("/v1/score", content=content, headers={"x-api-key": key("read")})
    assert (answer.status_code, error_of(answer)["code"]) == (413, "too_large")


def test_a_bug_shows_its_number_and_nothing_else(behind_the_door, key, caplog):
    headers = {"x-api-key": key("read"), "x-request-id": "my-request"}
    answer = behind_the_door().get("/v1/bug", headers=headers)
    assert (answer.status_code, error_of(answer)["code"]) == (500, "internal")
    assert "my-request" in error_of(answer)["message"] and "secret of the house" not in answer.text
    assert answer.headers["x-request-id"] == "my-request"


def test_every_answer_carries_safe_headers(behind_the_door):
    for path in ("/livez", "/login", "/v1/whoami"):
        answer = behind_the_door().get(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-request-id"]


def test_a_service_with_a_route_that_says_not_who_may_call_it_does_not_start():
    api = FastAPI(openapi_url=None)

    @api.get("/v1/deals", dependencies=[Depends(OPEN)])
    def ruled():
        return {}

    check_rules(api)

    @api.get("/v1/everything")
    def forgotten():
        return {}

    with pytest.raises(RuntimeError, match="/v1/everything"):
        check_rules(api)


def test_the_log_has_one_line_a_request_and_no_secret(behind_the_door, key, caplog):
    secret = key("read")
    with caplog.at_level(logging.INFO, logger="dealcast.access"):
        answer = behind_the_door().get("/v1/whoami?x=private", headers={"x-api-key": secret})
    (line,) = [record.message for record in caplog.records if record.name == "dealcast.access"]
    written = json.loads(line)
    assert (written["method"], written["path"], written["status"]) == ("GET", "/v1/whoami", 200)
    assert written["request_id"] == answer.headers["x-request-id"]
    assert written["key_id"].startswith("key_")
    assert secret not in line and "private" not in line


@pytest.mark.parametrize("access", [Access(requests_per_minute=3)], ids=["three"])
def test_a_key_that_asks_too_often_waits_and_others_do_not(behind_the_door, key, access):
    client, headers = behind_the_door(), {"x-api-key": key("read")}
    answers = [client.get("/v1/whoami", headers=headers) for _ in range(5)]
    # A minute may end between two of them; never in all.
    assert [each.status_code for each in answers].count(200) in (3, 4, 5) and answers[0].status_code == 200
    late = [each for each in answers if each.status_code == 429]
    for each in late:
        assert 1 <= int(each.headers["retry-after"]) <= 60 and error_of(each)["code"] == "rate_limited"
    assert client.get("/v1/whoami", headers={"x-api-key": key("read", name="other")}).status_code == 200


@pytest.mark.parametrize("access", [Access(failures_per_minute=2)], ids=["two"])
def test_wrong_keys_are_held_back_by_address_and_right_ones_never(behind_the_door, key, access, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)
    client = behind_the_door()
    wrong = [client.get("/v1/whoami", headers={"x-api-key": f"dc_{n}"}).status_code for n in range(4)]
    assert wrong == [401, 401, 429, 429]
    assert client.get("/v1/whoami", headers={"x-api-key": key("read")}).status_code == 200
    assert client.post("/login", data={"key": "dc_x"}).status_code == 429
    elsewhere = behind_the_door(("198.51.100.9", 1))
    assert elsewhere.get("/v1/whoami", headers={"x-api-key": "dc_x"}).status_code == 401


def test_what_was_done_is_on_record_and_cannot_be_changed(behind_the_door, key, ledger):
    secret = key("read", name="crm", by="anna")
    browser = behind_the_door()
    signed_in(browser, secret)
    behind_the_door().get("/v1/whoami", headers={"x-api-key": "dc_wrong"})
    behind_the_door().get("/v1/whoami", headers={"x-api-key": key("events", name="other")})
    ledger.revoke_key("crm", by="bert", now=pd.Timestamp.now("UTC"))
    made, entered, refused, _, forbidden, ended = ledger.recorded()
    assert (made["who"], made["action"], made["details"]["scopes"]) == ("anna", "key created", ["read"])
    assert (entered["who"], entered["action"]) == (made["about"], "signed in")
    assert (refused["who"], refused["details"]["status"]) == ("203.0.113.7", 401)
    assert (forbidden["about"], forbidden["details"]["status"]) == ("/v1/whoami", 403)
    assert (ended["who"], ended["action"], ended["about"]) == ("bert", "key revoked", made["about"])
    assert not any(word in str(ledger.recorded()) for word in (secret, "dc_wrong"))
    for statement in ("UPDATE audit_entry SET who = 'x'", "DELETE FROM audit_entry"):
        with pytest.raises(sa.exc.DatabaseError, match="append-only"), ledger.engine.begin() as connection:
            connection.exec_driver_sql(statement)


def test_no_secret_reaches_a_log_whatever_is_sent_where(behind_the_door, key, ledger, caplog, capfd):
    browser, secret = behind_the_door(), key("read")
    link = link_for(ledger, "http://testserver", now=pd.Timestamp.now("UTC"))
    with caplog.at_level(logging.DEBUG):
        browser.get(link)
        session = browser.cookies[SESSION_COOKIE]
        signed_in(behind_the_door(), secret)
        for headers in ({"x-api-key": secret}, {"authorization": f"Bearer {secret}"}, {"x-api-key": "dc_guess"}):
            for path in ("/v1/whoami", "/v1/bug", f"/v1/nothing?key={secret}", "/panel/x?token=dt_panel"):
                behind_the_door().get(path, headers=headers)
        behind_the_door().post("/login", data={"key": "dc_guess", "csrf_token": "x"})
        browser.post("/v1/score", content=f'{{"deal_ids": ["{secret}"], "{session}": 1}}')
    written = "".join(
        record.getMessage() + str(record.exc_text or "") for record in caplog.records if record.name != "httpx"
    )
    written = written + "".join(capfd.readouterr())
    token = link.split("token=")[1]
    assert "/v1/whoami" in written
    for each in (secret, session, csrf_token(session), token, "dc_guess", "dt_panel"):
        assert each not in written
