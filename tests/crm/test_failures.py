"""Whatever breaks on the way, nothing is lost, nothing doubled, and the next run goes on where this one stopped."""

import os
import shutil
import signal
import subprocess
import sys
import threading

import pandas as pd
import pytest
from stumbling_proxy import stumbling_proxy
from tryton_here import PASSWORD, Tryton
from what_stands import assert_same, held, open_ids, publish

from crm.connectors.landing import fetch_and_import
from crm.connectors.tryton import TrytonSettings
from crm.store import read_tables
from crm.versions import current_version
from dealcast import exchange
from dealcast.connections import opened, read_connection

pytestmark = pytest.mark.slow

STUMBLES = {5: "429", 7: "503", 11: "half", 13: "cut", 17: "mute", 19: "401"}
"""A session that ran out is a 401."""


def every_so_often(number: int, _body: bytes) -> str | None:
    """Every 5th request meets a busy server, every 7th one that is down, …"""
    return next((what for every, what in STUMBLES.items() if number % every == 0), None)


def held_after_a_straight_sync(crm, folder) -> tuple[pd.DataFrame, ...]:
    """What a sync brings whom nothing happens to."""
    connector = TrytonSettings(url=crm.url, database="crm", user="admin").open(PASSWORD)
    now = pd.Timestamp.now("UTC").as_unit("us")
    fetch_and_import(folder, "tryton", connector, anew=False, now=now, progress=lambda step, done: None)
    connector.close()
    return held(folder)


@pytest.fixture(scope="module")
def straight(tryton, small_company, tmp_path_factory):
    """The small company as a sync brings it whom nothing happens to."""
    folder = tmp_path_factory.mktemp("straight")
    crm = Tryton(tryton, folder, "stock")
    shutil.copy(small_company.database, crm.database)
    with crm.running():
        return held_after_a_straight_sync(crm, folder / "workspace")


@pytest.fixture
def proxy(small_crm):
    with stumbling_proxy(small_crm.url) as proxy:
        yield proxy


def test_a_server_that_stumbles_again_and_again_delivers_everything_once(proxy, straight, dealcast):
    second_pages: set[bytes] = set()

    def stumble(number: int, body: bytes) -> str | None:
        what = every_so_often(number, body)
        is_second_page = b"company.employee.search_read" in body and b'[["id",">",0]]' not in body
        if what is None and is_second_page and body not in second_pages:
            second_pages.add(body)
            return "again"
        return what

    proxy.plan = stumble
    dealcast.connect(proxy.url)
    synced = dealcast("sync")
    assert set(proxy.stumbles) == {*STUMBLES.values(), "again"}
    assert synced["api_calls"] > len(proxy.stumbles)
    assert_same(held(dealcast.workspace), straight)


def test_a_line_that_dies_half_way_changes_nothing_and_the_next_sync_goes_on(proxy, straight, dealcast):
    dealcast.connect(proxy.url, "tries=2")
    for trouble in ("cut", "half", "503"):
        start = proxy.requests
        proxy.plan = lambda number, body, start=start, trouble=trouble: trouble if number > start + 30 else None
        failure = dealcast("sync", exits=5)["error"]
        assert failure["code"] == "unavailable" and failure["details"][0]["next_step"]
        assert current_version(dealcast.workspace) is None
        assert not list((dealcast.workspace / "connections").glob("*.fetched"))
    proxy.plan = lambda number, body: None
    dealcast("sync")
    assert_same(held(dealcast.workspace), straight)


def test_a_sync_killed_half_way_leaves_the_version_before_it_and_the_next_one_goes_on(
    proxy, small_crm, dealcast, tmp_path
):
    dealcast.connect(proxy.url)
    before = dealcast("sync")
    some = [each["id"] for each in small_crm.rows("sale.opportunity", ["state"], [["state", "=", "won"]])][:9]
    small_crm.call("sale.opportunity.write", some, {"description": "signed"}, small_crm.context)

    reached, go_on = threading.Event(), threading.Event()

    def hold_at_the_history(number: int, body: bytes) -> str | None:
        if b"history_revisions" in body:
            reached.set()
            go_on.wait(60)
            return "cut"
        return None

    proxy.plan = hold_at_the_history
    command = [
        sys.executable,
        "-c",
        "from dealcast.cli import main; main()",
        "--workspace",
        str(dealcast.workspace),
        "sync",
    ]
    killed = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ})
    assert reached.wait(60), "the sync never came to the history"
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait(60)
    go_on.set()
    assert current_version(dealcast.workspace) == before["data_version"]

    proxy.plan = lambda number, body: None
    after = dealcast("sync")
    assert after["tables"]["deals"]["changed"] == 9 == after["tables"]["deal_history"]["new"]
    assert_same(held(dealcast.workspace), held_after_a_straight_sync(small_crm, tmp_path / "straight"))


# -- scores on their way back ------------------------------------------------------------------------------------------


def scores_in(crm) -> dict[str, float]:
    rows = crm.rows("sale.opportunity.score", ["opportunity", "probability"])
    found = {str(row["opportunity"]): row["probability"] for row in rows}
    assert len(found) == len(rows), "a deal has two scores"
    return found


@pytest.fixture
def pushing(scored_small_crm, dealcast):
    """A proxy before a Tryton with our module; its deals are synced and scored."""
    with stumbling_proxy(scored_small_crm.url) as proxy:
        dealcast.connect(proxy.url, "tries=2")
        dealcast("sync")
        publish(dealcast.workspace, open_ids(dealcast.workspace), 0.4)
        yield proxy


def test_a_push_whose_answers_are_lost_writes_every_score_once(pushing, scored_small_crm, dealcast, monkeypatch):
    monkeypatch.setattr(exchange, "SCORES_AT_ONCE", 2)
    deals, lost = open_ids(dealcast.workspace), []

    def lose_every_other_answer(number: int, body: bytes) -> str | None:
        if b"score.record" in body:
            lost.append("mute" if len(lost) % 2 == 0 else None)
            return lost[-1]
        return None

    pushing.plan = lose_every_other_answer
    assert dealcast("push")["written"] == len(deals)
    assert "mute" in lost and scores_in(scored_small_crm) == dict.fromkeys(deals, 0.4)


def test_a_push_that_stops_half_way_goes_on_with_the_rest(pushing, scored_small_crm, dealcast, monkeypatch):
    monkeypatch.setattr(exchange, "SCORES_AT_ONCE", 2)
    deals, sent = open_ids(dealcast.workspace), []

    def end_after_two(number: int, body: bytes) -> str | None:
        sent.extend([number] if b"score.record" in body else [])
        return "cut" if len(sent) > 2 else None

    pushing.plan = end_after_two
    assert dealcast("push", exits=5)["error"]["code"] == "unavailable"
    assert len(scores_in(scored_small_crm)) == 4 < len(deals)
    pushing.plan = lambda number, body: None
    rest = dealcast("push")
    assert (rest["written"], rest["unchanged"]) == (len(deals) - 4, 4)
    assert scores_in(scored_small_crm) == dict.fromkeys(deals, 0.4)


def test_a_deal_that_the_crm_refuses_is_named_with_its_reason_and_the_others_are_written(
    pushing, scored_small_crm, dealcast
):
    gone, *others = open_ids(dealcast.workspace)
    scored_small_crm.call("sale.opportunity.write", [int(gone)], {"state": "cancelled"}, scored_small_crm.context)
    scored_small_crm.call("sale.opportunity.delete", [int(gone)], scored_small_crm.context)
    pushed = dealcast("push")
    assert pushed["written"] == len(others)
    assert [each["deal_id"] for each in pushed["failed"]] == [gone]
    assert "no such opportunity" in pushed["failed"][0]["reason"]
    assert scores_in(scored_small_crm).keys() == set(others)
    dealcast("sync")
    publish(dealcast.workspace, others, 0.404)  # less than a point away
    assert dealcast("push") == {**pushed, "written": 0, "unchanged": len(others), "failed": [], "api_calls": 0}


def test_only_scores_that_moved_enough_are_written_again(pushing, scored_small_crm, dealcast):
    first, *others = open_ids(dealcast.workspace)
    dealcast("push")
    publish(dealcast.workspace, others, 0.405)
    assert dealcast("push")["written"] == 0
    publish(dealcast.workspace, [first, *others], 0.415)
    assert dealcast("push")["written"] == len(others) + 1
    assert set(scores_in(scored_small_crm).values()) == {0.415}
    (row,) = scored_small_crm.rows("sale.opportunity.score", ["low", "high"], [["opportunity", "=", int(first)]])
    assert (row["low"], row["high"]) == (0.3, 0.3)
    assert withdrawn(dealcast, others) == withdrawn(dealcast, others) == {}
    assert scores_in(scored_small_crm).keys() == {first}


def withdrawn(dealcast, deals: list[str]) -> dict[str, str]:
    """Scores taken back, as of teams that are held out later; Tryton has no teams of its own."""
    connection = read_connection(dealcast.workspace, "tryton")
    with opened(dealcast.workspace, connection) as connector:
        return connector.withdraw(deals)


def test_the_stock_field_is_written_only_on_request_and_then_is_no_longer_read(small_crm, dealcast):
    found = dealcast.connect(small_crm.url)
    assert found["writes_to"] is None and "conversion_probability" in found["fields"]
    dealcast("sync")
    deals = open_ids(dealcast.workspace)
    publish(dealcast.workspace, deals, 0.4321)
    refused = dealcast("push", exits=2)["error"]
    assert "no table for scores" in refused["message"] and "write_to" in refused["details"][0]["next_step"]
    found = dealcast.connect(small_crm.url, "write_to=conversion_probability")
    assert found["writes_to"] and "conversion_probability" not in found["fields"]
    assert dealcast("push")["written"] == len(deals)
    rows = small_crm.rows("sale.opportunity", ["conversion_probability"], [["id", "in", [int(d) for d in deals]]])
    assert {row["conversion_probability"] for row in rows} == {0.4321}
    dealcast("sync")
    assert 0.4321 not in read_tables(dealcast.workspace).get("deals")["conversion_probability"].tolist()
    assert withdrawn(dealcast, deals) == {}
    rows = small_crm.rows("sale.opportunity", ["conversion_probability"], [["id", "in", [int(d) for d in deals]]])
    assert {row["conversion_probability"] for row in rows} == {0.5}  # what Tryton gives new ones
