"""Signing in with a real provider of OpenID Connect on this machine: bearer tokens, and browsers by code and PKCE."""

import base64
import hashlib
import html
import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pandas as pd
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from oidc_provider_mock import User, run_server_in_thread
from serving_here import NOW, until, url_of
from starlette.testclient import TestClient

from crm.errors import OtherSideFailed
from crm.store import read_tables, write_version
from crm.versions import import_lock
from ledger.ledger import open_ledger
from serving.access import Access, Oidc
from serving.api import create_api
from serving.cookies import SESSION_COOKIE
from serving.errors import Unauthorized
from serving.oidc import Provider, begin_trip

CLIENT = "dealcast"
BACK = "http://testserver/login/oidc/callback"
PAGE = {"accept": "text/html"}
PEOPLE = {
    "ann": {"email": "Ann@Example.com", "email_verified": True, "name": "Ann <b>", "groups": ["sellers"]},
    "boss": {"email": "boss@example.com", "email_verified": True, "groups": ["sellers", "chiefs"]},
    "unverified": {"email": "ann@example.com", "email_verified": False},
    "nameless": {},
}


def people() -> list[User]:
    return [User(sub=name, claims=claims) for name, claims in PEOPLE.items()]


@pytest.fixture(scope="module")
def issuer():
    with run_server_in_thread(user_claims=people()) as server:
        yield f"http://localhost:{server.server_port}"


@pytest.fixture
def provider(issuer):
    return Provider(settings(issuer), "a secret")


def settings(issuer: str, **more) -> Oidc:
    return Oidc(issuer, CLIENT, executive_groups=("chiefs",), **more)


def code_for(url: str, sub: str) -> dict[str, str]:
    """What the provider sends a browser back with when somebody signs in there."""
    answer = httpx.post(url, data={"sub": sub})
    assert answer.status_code == 302, answer.text
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}


def token_of(issuer: str, sub: str, *, client: str = CLIENT) -> str:
    """An ID token as another program would get it."""
    found = httpx.get(f"{issuer}/.well-known/openid-configuration").json()
    asked = {"response_type": "code", "client_id": client, "redirect_uri": BACK, "scope": "openid email profile"}
    code = code_for(f"{found['authorization_endpoint']}?{httpx.QueryParams({**asked, 'state': 's'})}", sub)["code"]
    sent = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK}
    return httpx.post(found["token_endpoint"], data=sent, auth=(client, "x")).json()["id_token"]


def now() -> pd.Timestamp:
    return pd.Timestamp.now("UTC")


# -- tokens ----------------------------------------------------------------------------------------------------------


def test_a_token_tells_who_somebody_is_and_what_groups_give(provider, issuer):
    ann = provider.person_of_bearer(token_of(issuer, "ann"), now())
    assert (ann.email, ann.name, ann.authority) == ("ann@example.com", "Ann <b>", None)
    assert provider.person_of_bearer(token_of(issuer, "boss"), now()).authority == "executive"


@pytest.mark.parametrize("sub", ["unverified", "nameless"])
def test_without_a_verified_e_mail_nobody_is_known(provider, issuer, sub):
    with pytest.raises(Unauthorized, match="no verified e-mail"):
        provider.person_of_bearer(token_of(issuer, sub), now())


def test_a_token_is_good_from_a_minute_before_to_a_minute_after_its_time(provider, issuer):
    token = token_of(issuer, "ann")
    body = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    ends, begins = (pd.Timestamp(body[name], unit="s", tz="UTC") for name in ("exp", "iat"))
    minute = pd.Timedelta(seconds=61)
    assert provider.person_of_bearer(token, ends + minute - pd.Timedelta(seconds=3))
    for moment in (ends + minute, begins - minute):
        with pytest.raises(Unauthorized):
            provider.person_of_bearer(token, moment)


def test_a_token_for_another_service_or_of_another_issuer_is_not_taken(provider, issuer):
    with pytest.raises(Unauthorized):
        provider.person_of_bearer(token_of(issuer, "ann", client="another"), now())
    with run_server_in_thread(user_claims=people()) as other:
        foreign = token_of(f"http://localhost:{other.server_port}", "ann")
    with pytest.raises(Unauthorized):
        provider.person_of_bearer(foreign, now())


def forged(token: str, issuer: str) -> dict[str, str]:
    """The same claims, signed by nobody, by somebody else, or with what everybody can read."""
    header, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    known = {
        name: value for name, value in json.loads(base64.urlsafe_b64decode(header + "==")).items() if name == "kid"
    }
    mine = RSAKey.generate_key(2048, known)
    public = httpx.get(httpx.get(f"{issuer}/.well-known/openid-configuration").json()["jwks_uri"]).text

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return {
        "signed by nobody": f"{part({'alg': 'none'})}.{body}.",
        "signed by nobody, the old signature kept": f"{part({'alg': 'none', **known})}.{body}.{signature}",
        "signed with another key": jwt.encode({"alg": "RS256", **known}, claims, mine),
        "signed with a key that it brings": jwt.encode(
            {"alg": "RS256", "jwk": mine.as_dict(private=False)}, claims, mine
        ),
        "signed with the public key": jwt.encode(
            {"alg": "HS256", **known}, claims, OctKey.import_key(public), algorithms=["HS256"]
        ),
        "other claims": f"{header}.{part({**claims, 'email': 'boss@example.com'})}.{signature}",
        "no token": "a.b.c",
        "empty parts": "..",
    }


FORGERIES = (
    *("signed by nobody", "signed by nobody, the old signature kept", "signed with another key"),
    *("signed with a key that it brings", "signed with the public key", "other claims", "no token", "empty parts"),
)


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_token_is_not_taken(provider, issuer, forgery):
    with pytest.raises(Unauthorized):
        provider.person_of_bearer(forged(token_of(issuer, "ann"), issuer)[forgery], now())


def test_keys_are_fetched_once_and_again_for_a_key_not_among_them_but_not_again_and_again(issuer, monkeypatch):
    provider, fetched = Provider(settings(issuer)), []
    asked = Provider._asked
    monkeypatch.setattr(Provider, "_asked", lambda self, *a, **k: (fetched.append(a[1]), asked(self, *a, **k))[1])
    for sub in ("ann", "boss", "ann"):
        provider.person_of_bearer(token_of(issuer, sub), now())
    assert [url.startswith(issuer) for url in fetched] == [True, True]
    stranger = RSAKey.generate_key(2048, {"kid": "new"})
    claims = {"iss": issuer, "aud": CLIENT, "sub": "x", "exp": int(now().timestamp()) + 60}
    unknown = jwt.encode({"alg": "RS256", "kid": "new"}, claims, stranger)
    for _ in range(3):  # within a minute of the last time
        with pytest.raises(Unauthorized):
            provider.person_of_bearer(unknown, now())
    assert len(fetched) == 2
    provider._fetched_at -= 61
    for _ in range(3):
        with pytest.raises(Unauthorized):
            provider.person_of_bearer(unknown, now())
    assert len(fetched) == 3


def test_a_provider_that_calls_itself_otherwise_or_does_not_answer_is_told(issuer):
    for wrong in (issuer + "/", "http://localhost:9"):
        with pytest.raises(OtherSideFailed) as told:
            Provider(settings(wrong)).person_of_bearer("a.b.c", now())
        assert told.value.details[0].value == wrong


def test_a_code_is_exchanged_once_and_only_by_who_began(provider, issuer):
    trip = begin_trip(BACK)
    url = provider.url_for(trip, "the state")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    challenge = base64.urlsafe_b64encode(hashlib.sha256(trip.verifier.encode()).digest()).rstrip(b"=").decode()
    assert (asked["code_challenge"], asked["code_challenge_method"]) == (challenge, "S256")
    assert asked["nonce"] == trip.nonce and trip.verifier not in url and "a secret" not in url
    back = code_for(url, "ann")
    assert back["state"] == "the state"
    with pytest.raises(Unauthorized, match="another sign-in"):
        provider.person_with(back["code"], begin_trip(BACK), now())
    again = code_for(url, "ann")["code"]
    assert provider.person_with(again, trip, now()).email == "ann@example.com"
    with pytest.raises(Unauthorized):
        provider.person_with(again, trip, now())


# -- the service -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def house(trained, view, issuer, tmp_path_factory):
    """The service with the provider; Ann's e-mail is the one of a rep."""
    workspace = Path(shutil.copytree(trained, tmp_path_factory.mktemp("oidc") / "workspace"))
    tables = read_tables(workspace)
    users, deals = tables.get("users"), tables.get("deals").set_index("deal_id")
    owners = deals.loc[view[3]["deal_id"], "owner_id"]
    rep = next(owner for owner in owners.dropna() if owner not in set(users["manager_id"].dropna()))
    named = users.assign(email=[f"{user}@example.com" for user in users["user_id"]])
    named.loc[named["user_id"] == rep, "email"] = "ann@example.com"
    newer = replace(tables, tables={**tables.tables, "users": named}, first_import_at=tables.as_of)
    with import_lock(workspace):
        write_version(workspace, newer, changed={"users"}, stages_derived=False, currency_given=True)
    access = Access(oidc=settings(issuer), failures_per_minute=1000)
    with TestClient(
        create_api(workspace, url_of(workspace), access, client_secret="x"), follow_redirects=False
    ) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        own = owners.index[owners == rep][0]
        yield client, own, owners.index[owners != rep][0], open_ledger(url_of(workspace))


pytestmark = pytest.mark.slow


def test_a_bearer_token_sees_what_its_person_may_see(house, issuer):
    client, own, foreign, _ = house
    client.cookies.clear()
    ann, boss = ({"authorization": f"Bearer {token_of(issuer, sub)}"} for sub in ("ann", "boss"))
    assert client.get(f"/v1/deals/{own}", headers=ann).status_code == 200
    assert client.get(f"/v1/deals/{foreign}", headers=ann).status_code == 404
    assert client.get(f"/v1/deals/{foreign}", headers=boss).status_code == 200
    assert client.post("/v1/events", json={"events": []}, headers=boss).status_code == 403
    for wrong in FORGERIES:
        header = {"authorization": f"Bearer {forged(token_of(issuer, 'boss'), issuer)[wrong]}"}
        assert client.get(f"/v1/deals/{own}", headers=header).status_code == 401, wrong
    key, _ = house[3].create_key("beside", ["read"], now=NOW)
    assert client.get(f"/v1/deals/{foreign}", headers={"authorization": f"Bearer {key}"}).status_code == 200


def test_a_browser_signs_in_at_the_provider_and_comes_back_to_where_it_wanted(house):
    client, own, foreign, ledger = house
    client.cookies.clear()
    wanted = client.get(f"/deals/{own}?x=1", headers=PAGE)
    assert wanted.headers["location"] == f"/login?next=/deals/{own}%3Fx%3D1"
    way = html.unescape(client.get(wanted.headers["location"]).text).split('href="/login/oidc')[1].split('"')[0]
    there = client.get(f"/login/oidc{way}").headers["location"]
    back = code_for(there, "ann")
    landed = client.get("/login/oidc/callback", params=back)
    assert (landed.status_code, landed.headers["location"]) == (303, f"/deals/{own}?x=1")
    assert SESSION_COOKIE in client.cookies and "httponly" in landed.headers["set-cookie"].lower()
    assert client.get(f"/v1/deals/{own}").status_code == 200
    assert client.get(f"/v1/deals/{foreign}").status_code == 404
    assert [each["action"] for each in ledger.recorded(1)] in (["signed in"], ["refused"])
    again = client.get("/login/oidc/callback", params=back)
    assert again.status_code == 401


def test_an_answer_of_the_provider_opens_nothing_in_another_browser_or_with_another_state(house):
    client = house[0]
    client.cookies.clear()
    back = code_for(client.get("/login/oidc").headers["location"], "ann")
    client.cookies.clear()
    assert client.get("/login/oidc/callback", params=back).status_code == 401
    assert client.get("/login/oidc").status_code == 303
    for wrong in ({"state": "guess", "code": back["code"]}, {"code": back["code"]}, {"error": "access_denied"}):
        assert client.get("/login/oidc/callback", params=wrong).status_code == 401
        assert SESSION_COOKIE not in client.cookies


def test_who_is_known_to_the_provider_and_not_to_the_crm_is_told_so(house, issuer):
    client = house[0]
    client.cookies.clear()
    there = client.get("/login/oidc").headers["location"]
    httpx.put(f"{issuer}/users/stranger", json={"email": "stranger@example.com", "email_verified": True})
    refused = client.get("/login/oidc/callback", params=code_for(there, "stranger"))
    assert refused.status_code == 403 and "no user of the CRM" in refused.text and SESSION_COOKIE not in client.cookies


def test_a_token_that_lasts_no_time_is_over(issuer):
    with run_server_in_thread(user_claims=people(), access_token_max_age=timedelta(seconds=-120)) as server:
        short = f"http://localhost:{server.server_port}"
        with pytest.raises(Unauthorized):
            Provider(settings(short)).person_of_bearer(token_of(short, "ann"), now())
