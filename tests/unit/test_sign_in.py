"""Browsers at the door: signing in with a key or a link, sessions, and what only pages of the service may write."""

import pandas as pd
import pytest
from at_the_door import error_of, signed_in, token_of

from serving.cookies import SESSION_COOKIE, csrf_token
from serving.sign_in import link_for


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/dealcast.db"


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
