"""The door of the service: who comes in, with what, and what everybody is told who does not."""

import json
import logging
from typing import Annotated

import pandas as pd
import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI, Form
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from crm.errors import DealcastError
from ledger.ledger import open_ledger
from serving.access import Access
from serving.auth import Gate
from serving.cookies import SESSION_COOKIE, csrf_token
from serving.door import MOST_BYTES, Door
from serving.errors import answer_explained, answer_http, answer_invalid
from serving.given import Reader
from serving.guard import Guard
from serving.known_keys import KnownKeys
from serving.pages.every import add_pages
from serving.rules import OPEN, Needs, check_rules
from serving.schema import ScoreRequest
from serving.sign_in import add_sign_in, link_for

LOOPBACK, ELSEWHERE = ("127.0.0.1", 50000), ("203.0.113.7", 50000)


@pytest.fixture
def ledger(tmp_path):
    return open_ledger(f"sqlite:///{tmp_path}/dealcast.db")


@pytest.fixture
def key(ledger):
    def create(*scopes, name="test", **options):
        return ledger.create_key(name, scopes, now=pd.Timestamp.now("UTC"), **options)[0]

    return create


@pytest.fixture
def access():
    return Access()


@pytest.fixture
def behind_the_door(ledger, access):
    """The door, the login pages, and a few routes of a kind with the service's."""
    api = FastAPI(redirect_slashes=False)
    api.state.ledger = ledger
    api.state.gate = Gate(ledger, KnownKeys(ledger), access, lambda: {})
    api.add_middleware(Guard, gate=lambda: api.state.gate)
    api.add_middleware(Door)
    api.add_exception_handler(DealcastError, answer_explained)
    api.add_exception_handler(HTTPException, answer_http)
    api.add_exception_handler(RequestValidationError, answer_invalid)
    add_sign_in(api)
    add_pages(api)

    @api.get("/v1/whoami")
    def whoami(caller: Reader):
        return {"name": caller.name}

    @api.post("/v1/score")
    def score(asked: ScoreRequest):
        return {"deal_ids": asked.deal_ids}

    @api.post("/form")
    def form(note: Annotated[str, Form()], caller: Reader):
        return {"note": note}

    @api.get("/v1/bug")
    def bug():
        raise RuntimeError("the secret of the house")

    @api.get("/livez", dependencies=[Depends(OPEN)])
    def livez():
        return {"status": "alive"}

    @api.get("/metrics", dependencies=[Depends(Needs("admin", but_here=True))])
    def metrics():
        return {}

    def visit(client=ELSEWHERE, **options):
        return TestClient(api, client=client, follow_redirects=False, **options)

    return visit


def token_of(page):
    return page.text.split('name="csrf_token" value="')[1].split('"')[0]


def signed_in(browser, secret):
    token = token_of(browser.get("/login"))
    assert browser.post("/login", data={"key": secret, "csrf_token": token}).status_code == 303


def error_of(answer):
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "details"}
    for detail in error["details"]:
        assert set(detail) == {"where", "value", "rule", "next_step"}
    return error


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


def test_a_browser_signs_in_with_a_key_and_never_holds_it(behind_the_door, key):
    browser = behind_the_door()
    asked = browser.get("/", headers={"accept": "text/html"})
    assert (asked.status_code, asked.headers["location"]) == (303, "/login?next=/")
    form = browser.get("/login")
    assert "//" not in form.text, "the page loads nothing from elsewhere"
    assert all(' src="/static/' in script for script in form.text.split("<script")[1:])
    token = token_of(form)
    secret = key("read")
    answer = browser.post("/login", data={"key": secret, "csrf_token": token})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookies = answer.headers.get_list("set-cookie")
    assert all("HttpOnly" in cookie and "SameSite=lax" in cookie for cookie in cookies)
    assert not any(secret in cookie for cookie in cookies)
    assert browser.get("/v1/whoami").json() == {"name": "test"}


def test_a_login_form_of_another_site_is_refused(behind_the_door, key):
    browser = behind_the_door()
    browser.get("/login")
    for token in ({}, {"csrf_token": "guess"}):
        answer = browser.post("/login", data={"key": key("read", name=str(token)), **token})
        assert answer.status_code == 403 and "dealcast_session" not in answer.headers.get("set-cookie", "")


def test_a_wrong_key_at_the_login_is_told_without_being_repeated(behind_the_door):
    browser = behind_the_door()
    token = token_of(browser.get("/login"))
    answer = browser.post("/login", data={"key": "dc_<b>wrong", "csrf_token": token})
    assert answer.status_code == 401 and "opens nothing" in answer.text and "wrong" not in answer.text


def test_a_signed_in_browser_writes_only_from_a_page_of_the_service(behind_the_door, key):
    browser = behind_the_door()
    signed_in(browser, key("read"))
    refused = browser.post("/v1/score", json={"deal_ids": []})
    assert (refused.status_code, error_of(refused)["code"]) == (403, "forbidden")
    from_our_page = {"x-csrf-token": csrf_token(browser.cookies[SESSION_COOKIE])}
    assert browser.post("/v1/score", json={"deal_ids": []}, headers=from_our_page).status_code == 200


def test_a_form_s_token_may_stand_in_the_form_and_the_route_still_reads_it_whole(behind_the_door, key):
    browser = behind_the_door()
    signed_in(browser, key("read"))
    form = {"csrf_token": csrf_token(browser.cookies[SESSION_COOKIE]), "note": "a=b&c"}
    assert browser.post("/form", data=form).json() == {"note": "a=b&c"}
    assert browser.post("/form", data={**form, "csrf_token": "guess"}).status_code == 403
    assert browser.post("/form", data={"note": "x"}).status_code == 403
    assert browser.post(f"/form?csrf_token={form['csrf_token']}", data={"note": "x"}).status_code == 403


def test_a_session_is_a_browser_s_alone_and_a_key_is_no_cookie(behind_the_door, key):
    browser, secret = behind_the_door(), key("read")
    signed_in(browser, secret)
    session = browser.cookies[SESSION_COOKIE]
    for headers in ({"x-api-key": session}, {"authorization": f"Bearer {session}"}):
        assert behind_the_door().get("/v1/whoami", headers=headers).status_code == 401
    assert behind_the_door(cookies={SESSION_COOKIE: secret}).get("/v1/whoami").status_code == 401


def test_signing_out_ends_the_session_and_needs_the_page_s_token(behind_the_door, key, ledger):
    browser = behind_the_door()
    signed_in(browser, key("read"))
    session = browser.cookies[SESSION_COOKIE]
    browser.post("/logout")
    assert ledger.authenticate(session, now=pd.Timestamp.now("UTC"))
    browser.post("/logout", data={"csrf_token": csrf_token(session)})
    assert SESSION_COOKIE not in browser.cookies
    assert ledger.authenticate(session, now=pd.Timestamp.now("UTC")) is None


def test_the_link_that_serve_prints_opens_once_and_within_its_time(behind_the_door, ledger):
    now = pd.Timestamp.now("UTC")
    link = link_for(ledger, "http://testserver", now=now)
    browser = behind_the_door()
    assert browser.get(link).headers["location"] == "/"
    assert browser.get("/v1/whoami").json() == {"name": "this machine"}
    assert browser.get(link).headers["location"] == "/"  # the same browser, once more
    assert behind_the_door().get(link).status_code == 401
    old = link_for(ledger, "http://testserver", now=now - pd.Timedelta(minutes=16))
    assert behind_the_door().get(old).status_code == 401


@pytest.mark.parametrize(
    ("asked", "landed"),
    [
        *(("/deals/1?x=2", "/deals/1?x=2"), ("//evil.example", "/"), ("/\\evil.example", "/"), ("/login", "/")),
        *(("https://evil.example", "/"), ("javascript:alert(1)", "/"), ("/a\r\nset-cookie: x", "/"), ("", "/")),
    ],
)
def test_after_signing_in_one_lands_on_a_page_of_the_service(behind_the_door, key, asked, landed):
    browser = behind_the_door()
    token = token_of(browser.get("/login"))
    answer = browser.post("/login", data={"key": key("read"), "csrf_token": token, "next": asked})
    assert (answer.status_code, answer.headers["location"]) == (303, landed)


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
