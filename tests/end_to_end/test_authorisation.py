"""Who may call what: every route of the service x every kind of caller x own and foreign deals.

The routes are walked, and each says itself what it needs (`serving.rules`). What a caller may not see must be answered
exactly like what does not exist.
"""

import html
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from fastapi.routing import APIRoute
from serving_here import NOW, until, url_of
from starlette.testclient import TestClient

from crm.plain import to_plain
from ledger.keys import SCOPES
from ledger.ledger import open_ledger
from serving.access import Access
from serving.api import create_api
from serving.cookies import SESSION_COOKIE, csrf_token
from serving.panel import LASTS
from serving.rules import rules_of

pytestmark = pytest.mark.slow

ROUTES: dict[tuple[str, str], APIRoute] = {
    (method, route.path): route
    for route in create_api(Path("workspace"), "sqlite://").routes
    for method in sorted(route.methods - {"HEAD"})
}
EVERYTHING = tuple(scope for scope in SCOPES if scope != "admin")
NOWHERE = "no-such-deal"


@dataclass(frozen=True)
class Asker:
    """A kind of caller: what it sends, what it may do (None: it is nobody), and whether it sees less than all."""

    headers: dict[str, str]
    scopes: tuple[str, ...] | None = None
    sees_some: bool = False
    may_write: bool = True


@dataclass(frozen=True)
class House:
    """The service, its callers, and an open deal of the rep, of another team, and what the CRM says of each."""

    client: TestClient
    askers: dict[str, Asker]
    rep: str
    own: str
    foreign: str
    deal: dict
    moment: str


SAMPLES = {
    "/v1/score": lambda deal, house: {"deal_ids": [deal]},
    "/v1/what_if": lambda deal, house: {"deals": [{"deal": {**house.deal, "deal_id": deal}}]},
    "/v1/events": lambda deal, house: {
        "events": [{"event_id": deal, "table": "deal_history", "row": {"deal_id": deal, "changed_at": "?"}}]
    },
    "/v1/forecast": lambda deal, house: {},
    "/v1/calls": lambda deal, house: {"calls": [{"period_start": "2020-02-02", "category": "commit", "amount": 1}]},
    "/v1/panel_links": lambda deal, house: {"deal_id": deal, "user_id": house.rep},
    "/me/call": lambda deal, house: {"period_start": "2020-02-02", "category": "commit", "amount": "1"},
    "/me/disagree": lambda deal, house: {"deal_id": deal, "value": "", "note": "no"},
    "/v1/overrides": lambda deal, house: {"overrides": [{"deal_id": deal, "value": 1}]},
}
"""A body for every route that takes one."""
IN_THE_PATH = {"name": "style.css"}
"""Parameters of paths but deal_id, and a value."""
NOTHING_TO_SAY = {"/v1/what_if": ({"deals": []},)}
"""A cheaper body where it is enough that one comes in."""
ALIKE = {"/v1/what_if", "/v1/panel_links", "/v1/events", "/me/disagree"}
"""What is answered alike for any deal to who sees all: given in full, for others' eyes, refused for the row."""
SIGHTLESS = {"/v1/forecast", "/v1/calls", "/me/call"}
"""Bodies that name no deal."""


@pytest.fixture(scope="module")
def house(trained, view, tmp_path_factory):
    tables, _, _, scores = view
    workspace = Path(shutil.copytree(trained, tmp_path_factory.mktemp("house") / "workspace"))
    deals, users = tables.get("deals").set_index("deal_id"), tables.get("users").set_index("user_id")
    owners = scores["deal_id"].map(deals["owner_id"])
    bosses = set(users["manager_id"].dropna())
    rep = next(owner for owner in owners.value_counts().index if owner not in bosses)
    manager = users.loc[rep, "manager_id"]
    others = owners[owners.map(users["manager_id"]).ne(manager) & owners.ne(manager)]
    executive = next(user for user in users.index if user not in (rep, manager, *others.unique()))
    ledger = open_ledger(url_of(workspace))
    now = pd.Timestamp.now("UTC")

    def key(name: str, *scopes: str, **more) -> dict[str, str]:
        return {"x-api-key": ledger.create_key(name, scopes, now=NOW, **more)[0]}

    askers = {"nobody": Asker({}), "a guess": Asker({"x-api-key": "dc_guess"}), "no key": Asker({"authorization": "x"})}
    askers |= {f"scope {scope}": Asker(key(scope, scope), (scope,)) for scope in SCOPES}
    askers["rep"] = Asker(key("rep", *EVERYTHING, user_id=rep), EVERYTHING, sees_some=True)
    askers["manager"] = Asker(key("manager", *EVERYTHING, user_id=manager), EVERYTHING, sees_some=True)
    askers["rep with admin"] = Asker(key("a rep's admin", "admin", user_id=rep), ("admin",), sees_some=True)
    askers["executive"] = Asker(key("executive", *EVERYTHING, user_id=executive), EVERYTHING)
    askers["expired"] = Asker(key("expired", "admin", expires_at=NOW))
    askers["revoked"] = Asker(key("revoked", "admin"))
    ledger.revoke_key("revoked", now=now)
    secret, signed_in = ledger.create_key("browser", list(EVERYTHING), user_id=rep, now=NOW)
    session = ledger.open_session(signed_in, now=now)
    cookie = {"cookie": f"{SESSION_COOKIE}={session}"}
    askers["browser"] = Asker({**cookie, "x-csrf-token": csrf_token(session)}, EVERYTHING, sees_some=True)
    askers["browser of another site"] = Asker(cookie, EVERYTHING, sees_some=True, may_write=False)
    askers["browser with a wrong token"] = Asker({**cookie, "x-csrf-token": secret}, EVERYTHING, True, may_write=False)
    own = scores.loc[owners == rep, "deal_id"].iloc[0]
    given = ("created_at", "stage", "amount", "currency", "close_date", "account_id")
    deal = {name: to_plain(deals.loc[own, name]) for name in given}
    foreign = scores.loc[others.index[0], "deal_id"]
    access = Access(executives=(executive,), failures_per_minute=100_000, frame_ancestors=("https://crm.example.com",))
    with TestClient(create_api(workspace, url_of(workspace), access), follow_redirects=False) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        yield House(client, askers, rep, own, foreign, deal, to_plain(tables.as_of))


def ask(house: House, asker: Asker, method: str, path: str, deal: str, *body: dict):
    """The answer of a route about a deal, whatever in the route names one."""
    names = {**IN_THE_PATH, "deal_id": deal}
    filled = re.sub(r"{(\w+)(:path)?}", lambda found: names[found[1]], path)
    kind = "json" if path.startswith("/v1/") else "data"
    sent = {kind: body[0] if body else SAMPLES[path](deal, house)} if path in SAMPLES else {}
    house.client.cookies.clear()
    headers = {} if path == "/logout" else asker.headers  # nobody's session shall end before the others' turn
    return house.client.request(method, filled, headers=headers, **sent)


def is_about_a_deal(method: str, path: str) -> bool:
    return "{deal_id" in path or (path in SAMPLES and path not in SIGHTLESS)


def told(answer, deal: str) -> tuple[int, str]:
    """What an answer says, whichever deal it is about."""
    return answer.status_code, answer.text.replace(deal, "THE DEAL")


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=map(" ".join, ROUTES))
def test_a_route_opens_to_whom_its_rule_lets_in_and_to_nobody_else(house, method, path):
    rules = rules_of(ROUTES[method, path])
    assert rules, "declare who may call it: see serving/rules.py"
    scopes = {rule.scope for rule in rules} - {None}
    assert method == "GET" or path in SAMPLES or not scopes, "add a body to SAMPLES"
    for name, asker in house.askers.items():
        deal = NOWHERE if "what_if" in path else house.own  # who comes in is seen by cheaper answers as well
        answer = ask(house, asker, method, path, deal, *NOTHING_TO_SAY.get(path, ()))
        assert answer.status_code < 500 or answer.status_code == 503, (name, answer.text)
        if not scopes:
            assert path in SIGNS_IN or answer.status_code not in (401, 403), name
        elif asker.scopes is None:
            assert answer.status_code == 401, (name, answer.text)
        elif not (scopes <= set(asker.scopes) or "admin" in asker.scopes) or (method != "GET" and not asker.may_write):
            assert answer.status_code == 403, (name, answer.text)
        else:
            assert answer.status_code not in (401, 403), (name, answer.text)


SIGNS_IN = {"/login", "/login/oidc/callback"}
"""Open, and refuse whoever brings nothing right."""

ABOUT_DEALS = [each for each in ROUTES if is_about_a_deal(*each)]


@pytest.mark.parametrize(("method", "path"), ABOUT_DEALS, ids=map(" ".join, ABOUT_DEALS))
def test_a_deal_that_one_may_not_see_is_answered_like_one_that_does_not_exist(house, method, path):
    for name, asker in house.askers.items():
        if asker.scopes is None or not asker.may_write or ("what_if" in path and name not in ("rep", "executive")):
            continue
        own, foreign, nowhere = (ask(house, asker, method, path, deal) for deal in (house.own, house.foreign, NOWHERE))
        if own.status_code == 403:
            continue
        if asker.sees_some:
            assert told(foreign, house.foreign) == told(nowhere, NOWHERE), name
            assert path == "/v1/what_if" or told(own, house.own) != told(nowhere, NOWHERE), name
        else:
            assert path in ALIKE or told(foreign, house.foreign) != told(nowhere, NOWHERE), name


OTHERS = [each for each in ROUTES if each not in ABOUT_DEALS]


@pytest.mark.parametrize(("method", "path"), OTHERS, ids=map(" ".join, OTHERS))
def test_nothing_that_a_rep_is_shown_names_a_foreign_deal(house, method, path, view):
    tables, _, _, scores = view
    for name in ("rep", "browser"):
        answer = ask(house, house.askers[name], method, path, house.own)
        words = set(re.findall(r"[\w-]+", answer.text))
        deals = tables.get("deals").set_index("deal_id")["owner_id"]
        own = deals[house.own]
        assert not words & set(deals.index[deals != own]), name
        if path not in ("/openapi.json", "/v1/model", "/metrics"):
            assert not words & (set(deals.dropna()) - {own}), name


# -- panel links -----------------------------------------------------------------------------------------------------


def mint(house, deal: str, user: str | None = None, asker: str = "scope panel"):
    body = {"deal_id": deal, "user_id": user or house.rep}
    house.client.cookies.clear()
    return house.client.post("/v1/panel_links", json=body, headers=house.askers[asker].headers)


def test_a_panel_link_opens_one_deal_once_with_the_eyes_of_its_user(house):
    minted = mint(house, house.own)
    assert minted.status_code == 201 and minted.json()["url"].startswith(f"/panel/{house.own}?token=dt_")
    lasts = pd.Timestamp(minted.json()["expires_at"]) - pd.Timestamp.now("UTC")
    assert pd.Timedelta(minutes=4) < lasts <= pd.Timedelta(minutes=5)
    shown = house.client.get(minted.json()["url"])
    assert shown.status_code == 200 and not shown.headers.get("set-cookie")
    seen = ask(house, house.askers["rep"], "GET", "/v1/deals/{deal_id:path}", house.own).json()["score"]["reasons"]
    whole = ask(house, house.askers["scope read"], "GET", "/v1/deals/{deal_id:path}", house.own).json()["score"][
        "reasons"
    ]
    for reason in whole:
        assert reason in seen or reason["text"] not in html.unescape(shown.text)
    again = house.client.get(minted.json()["url"])
    assert again.status_code == 401 and house.own not in again.text


def test_a_panel_link_opens_no_other_deal_and_is_spent_by_the_try(house):
    url = mint(house, house.own).json()["url"]
    assert house.client.get(url.replace(house.own, house.foreign)).status_code == 401
    assert house.client.get(url).status_code == 401


def test_a_panel_link_is_minted_for_deals_that_its_user_sees_alone(house):
    for deal, user in ((house.foreign, house.rep), (NOWHERE, house.rep), (house.own, "nobody")):
        assert mint(house, deal, user).status_code == 404
    assert mint(house, house.own, asker="rep").status_code == 201
    assert mint(house, house.foreign, asker="rep").status_code == 404


def test_a_panel_link_is_too_old_after_five_minutes(house):
    ledger = house.client.app.state.ledger
    now = pd.Timestamp.now("UTC")
    content = {"deal_id": house.own, "user_id": house.rep, "key_id": "key_1"}
    old = ledger.issue_ticket("panel", content, lasts=LASTS, now=now - LASTS)
    young = ledger.issue_ticket("panel", content, lasts=LASTS, now=now - LASTS + pd.Timedelta(minutes=1))
    assert house.client.get(f"/panel/{house.own}?token={old.token}").status_code == 401
    assert house.client.get(f"/panel/{house.own}?token={young.token}").status_code == 200


def test_the_panel_alone_may_stand_in_the_crm_s_frames(house):
    panel = house.client.get(mint(house, house.own).json()["url"])
    assert "frame-ancestors https://crm.example.com" in panel.headers["content-security-policy"]
    assert panel.headers["referrer-policy"] == "no-referrer" and panel.headers["cache-control"] == "no-store"
    page = ask(house, house.askers["rep"], "GET", "/deals/{deal_id:path}", house.own)
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
