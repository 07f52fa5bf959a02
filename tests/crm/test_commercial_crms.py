"""Connectors of commercial CRMs, and Creme's, against stand-ins: whatever breaks, nothing is lost, nothing doubled."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Any

import pytest
from commercial_crms import COMMERCIAL, Commercial, assert_is_the_company
from invented_company import Company, invented_company
from stumbling_proxy import StumblingProxy, stumbling_proxy
from what_stands import assert_same, held, open_ids, publish

from crm.store import read_tables
from crm.versions import current_version
from dealcast import exchange

pytestmark = pytest.mark.slow

STUMBLES = {5: "429", 7: "503", 11: "half", 13: "cut", 17: "mute"}


def every_so_often(number: int, _body: bytes) -> str | None:
    """Every 5th request meets a busy server, every 7th one that is down, …"""
    return next((what for every, what in STUMBLES.items() if number % every == 0), None)


def nothing(number: int, body: bytes) -> str | None:
    """Nothing happens to a request."""
    return None


@dataclass
class Connected:
    """A stand-in, the proxy before it, and a workspace connected to it."""

    crm: Commercial
    company: Company
    stand_in: Any
    proxy: StumblingProxy
    dealcast: Any

    def sync(self, **how: int) -> dict[str, Any]:
        return self.dealcast("sync", **how)

    def assert_all_is_there(self) -> None:
        assert_is_the_company(read_tables(self.dealcast.workspace), self.company, self.crm)


@pytest.fixture(params=COMMERCIAL, ids=lambda crm: crm.name)
def connected(request, dealcast, monkeypatch):
    crm: Commercial = request.param
    monkeypatch.setenv(*crm.secret)
    company = invented_company(24)
    with crm.stand_in(company).running() as stand_in, stumbling_proxy(stand_in.url) as proxy:
        dealcast("connect", crm.name, *crm.settings(proxy.url))
        yield Connected(crm, company, stand_in, proxy, dealcast)


def test_a_server_that_stumbles_again_and_again_and_repeats_rows_delivers_everything_once(connected):
    connected.stand_in.repeats = True
    connected.proxy.plan = every_so_often
    connected.sync()
    assert set(connected.proxy.stumbles) == set(STUMBLES.values())
    connected.assert_all_is_there()


def test_a_token_that_expires_on_the_way_is_renewed_or_named(connected):
    start = connected.proxy.requests

    def expire_once(number: int, body: bytes) -> str | None:
        if number == start + 9:
            connected.stand_in.expire()
        return None

    connected.proxy.plan = expire_once
    if connected.crm.name in ("hubspot", "creme"):  # whose token is changed by hand
        assert "access token" in connected.sync(exits=5)["error"]["details"][0]["next_step"]
        connected.stand_in.renew()
    connected.proxy.plan = nothing
    connected.sync()
    connected.assert_all_is_there()


def test_a_line_that_dies_half_way_changes_nothing_and_the_next_sync_goes_on(connected):
    trouble = {"salesforce": "cut", "hubspot": "half", "dynamics": "503", "creme": "half"}[connected.crm.name]
    connected.dealcast("connect", connected.crm.name, "tries=2")
    start = connected.proxy.requests
    connected.proxy.plan = lambda number, body: trouble if number > start + 8 else None
    failure = connected.sync(exits=5)["error"]
    assert failure["code"] == "unavailable" and failure["details"][0]["next_step"]
    assert current_version(connected.dealcast.workspace) is None
    assert not list((connected.dealcast.workspace / "connections").glob("*.fetched"))
    connected.proxy.plan = nothing
    connected.sync()
    connected.assert_all_is_there()


def test_a_sync_killed_half_way_leaves_the_version_before_it_and_the_next_one_goes_on(connected):
    workspace = connected.dealcast.workspace
    before = connected.sync()["data_version"]
    stands = held(workspace)
    connected.company.move(connected.company.open_ones()[0], "Signed")
    connected.company.add()
    reached, go_on, start = threading.Event(), threading.Event(), connected.proxy.requests

    def hold_half_way(number: int, body: bytes) -> str | None:
        if number == start + 6:
            reached.set()
            go_on.wait(60)
            return "cut"
        return None

    connected.proxy.plan = hold_half_way
    command = [sys.executable, "-c", "from dealcast.cli import main; main()", "--workspace", str(workspace), "sync"]
    killed = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ})
    assert reached.wait(60), "the sync never came half way"
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait(60)
    go_on.set()
    assert current_version(workspace) == before
    assert_same(held(workspace), stands)
    connected.proxy.plan = nothing
    connected.sync()
    connected.assert_all_is_there()


# -- scores on their way back ------------------------------------------------------------------------------------------


@pytest.fixture
def pushing(connected, monkeypatch):
    """Its deals are synced and scored; scores go four at a time."""
    monkeypatch.setattr(exchange, "SCORES_AT_ONCE", 4)
    connected.dealcast("connect", connected.crm.name, "tries=2")
    connected.sync()
    publish(connected.dealcast.workspace, open_ids(connected.dealcast.workspace), 0.4)
    return connected


def test_a_push_whose_answers_are_lost_writes_every_score_once(pushing):
    deals, lost = open_ids(pushing.dealcast.workspace), []

    def lose_every_other_answer(number: int, body: bytes) -> str | None:
        if pushing.crm.writes in body:
            lost.append(("mute", None, "429", None)[len(lost) % 4])
            return lost[-1]
        return None

    pushing.proxy.plan = lose_every_other_answer
    assert pushing.dealcast("push")["written"] == len(deals)
    assert {"mute", "429"} <= set(lost) and pushing.stand_in.scores() == dict.fromkeys(deals, 0.4)
    assert pushing.dealcast("push")["written"] == 0


def test_a_push_cut_off_half_way_goes_on_with_the_rest(pushing):
    deals, sent = open_ids(pushing.dealcast.workspace), []

    def end_after_one(number: int, body: bytes) -> str | None:
        sent.extend([number] if pushing.crm.writes in body else [])
        return "cut" if len(sent) > 1 else None

    pushing.proxy.plan = end_after_one
    assert pushing.dealcast("push", exits=5)["error"]["code"] == "unavailable"
    assert len(pushing.stand_in.scores()) == 4 < len(deals)
    pushing.proxy.plan = nothing
    rest = pushing.dealcast("push")
    assert (rest["written"], rest["unchanged"]) == (len(deals) - 4, 4)
    assert pushing.stand_in.scores() == dict.fromkeys(deals, 0.4)


def test_scores_of_a_team_that_is_held_out_later_are_taken_back_and_written_again_when_it_is_not(pushing):
    deals, settings = open_ids(pushing.dealcast.workspace), pushing.dealcast.workspace / "settings.toml"
    pushing.dealcast("push")
    settings.write_text("[holdout]\nshare = 0.999999")  # the one team there is sees no scores
    refused = {} if pushing.crm.name == "creme" else {deals[0]: "the record is locked"}  # our app there never refuses
    pushing.stand_in.refuses |= refused
    told = pushing.dealcast("push")
    assert (told["written"], told["withdrawn"]) == (0, len(deals) - len(refused))
    assert {each["deal_id"] for each in told["failed"]} == refused.keys() == pushing.stand_in.scores().keys()
    pushing.stand_in.refuses.clear()
    assert pushing.dealcast("push")["withdrawn"] == len(refused) and pushing.stand_in.scores() == {}
    assert pushing.dealcast("push")["withdrawn"] == 0
    settings.unlink()
    assert pushing.dealcast("push")["written"] == len(deals)


def test_a_deal_that_is_refused_is_named_with_its_reason_and_the_others_are_written(pushing):
    refused, *others = open_ids(pushing.dealcast.workspace)
    pushing.stand_in.refuses[refused] = "a validation rule says no"
    pushed = pushing.dealcast("push")
    assert pushed["written"] == len(others) and pushing.stand_in.scores().keys() == set(others)
    assert [each["deal_id"] for each in pushed["failed"]] == [refused]
    assert "a validation rule says no" in pushed["failed"][0]["reason"]
    for _ in range(4):
        pushed = pushing.dealcast("push")
    assert pushed["parked"] == [{"deal_id": refused, "reason": pushed["failed"][0]["reason"]}]
    pushing.stand_in.refuses.clear()
    assert pushing.dealcast("push")["written"] == 0
    assert pushing.dealcast("push", "--again")["written"] == 1
