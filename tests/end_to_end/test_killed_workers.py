"""Workers killed at any moment, and two at once: what was accepted is neither lost nor doubled."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from in_this_process import HOUR, later, row_of, serving
from serving_here import NOW, fetch, until, url_of

from crm.store import read_tables
from crm.versions import read_manifest
from ledger.inbox import Event
from ledger.ledger import open_ledger

pytestmark = pytest.mark.slow

FOLDING = """
import sys
from pathlib import Path
from ledger.inbox import Event
from ledger.ledger import open_ledger
from serving.follower import Follower
from serving.worker import Worker

workspace, ledger = Path(sys.argv[1]), open_ledger(sys.argv[2])
follower = Follower(workspace, ledger)
worker = Worker(workspace, ledger, follower)
while True:
    worker.work()
    follower.look()
"""


def written_at(workspace: Path, pattern: str) -> int:
    """When a file of the pattern was last written: one that a killed worker left is written anew, not added to."""
    return max((each.stat().st_mtime_ns for each in (workspace / "data").glob(pattern)), default=0)


def test_a_worker_killed_at_any_moment_loses_nothing_and_doubles_nothing(workspace, view, tmp_path):
    tables, _, _, scores = view
    ledger = open_ledger(url_of(workspace))
    current = workspace / "data" / "CURRENT"
    log = "deals/_delta_log/*.json"
    happened = [  # what a round waits for, told from what there was before it
        lambda before: written_at(workspace, "events/*.jsonl") > before["events"],
        lambda before: written_at(workspace, log) > before["log"],
        lambda before: written_at(workspace, "versions/*.json") > before["versions"],
        lambda before: current.read_text() != before["current"],
        lambda before: len(ledger.publications("scores", basis="published")) > before["said"],
    ]
    sent: list[Event] = []
    for place, has_happened in enumerate(happened):
        deal_id = scores["deal_id"].iloc[place]
        row = row_of(tables, deal_id, amount=1000 + place, updated_at=later(tables, place + 1))
        call = {"activity_id": f"new{place}", "occurred_at": later(tables, place + 1), "deal_id": deal_id}
        for table, each in (("deals", row), ("activities", call)):
            moment = tables.as_of + (place + 1) * HOUR
            sent.append(Event(f"{table}{place}", table, json.dumps(each), moment, moment, "key"))
        assert ledger.take_in(sent) == ["duplicate"] * (2 * place) + ["accepted"] * 2
        before = {"events": written_at(workspace, "events/*.jsonl"), "log": written_at(workspace, log)}
        before |= {"versions": written_at(workspace, "versions/*.json"), "current": current.read_text()}
        before |= {"said": len(ledger.publications("scores", basis="published"))}
        command = [sys.executable, "-c", FOLDING, str(workspace), url_of(workspace)]
        with (tmp_path / "folding.log").open("a") as written:
            process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.getcwd()}, stderr=written)
        try:
            until(lambda before=before, done=has_happened, on=process: done(before) or on.poll() is not None)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert process.returncode == -signal.SIGKILL, (tmp_path / "folding.log").read_text()
    with serving(workspace, url_of(workspace)) as service:
        service.settled()
        after = read_tables(workspace)
        amounts = after.get("deals").set_index("deal_id")["amount"].loc[scores["deal_id"].iloc[: len(happened)]]
        assert amounts.tolist() == [1000.0 + place for place in range(len(happened))]
        assert len(after.get("activities")) == len(tables.get("activities")) + len(happened)
        noted = after.get("deal_history")
        noted = noted[(noted["changed_by"] == "sync") & (noted["field"] == "amount")]
        assert sorted(noted["new_value"]) == [f"{1000 + place}" for place in range(len(happened))]
        assert read_manifest(workspace).folded.through == len(sent)
        for place, deal_id in enumerate(scores["deal_id"].iloc[: len(happened)]):
            said = service.ledger.score_history(deal_id)
            assert (said["as_of"] >= tables.as_of + (place + 1) * HOUR).any()


def test_what_the_real_server_answered_is_not_lost_when_it_is_killed_at_once(server, workspace, view):
    url, process, log = server
    tables, deal_id = view[0], view[3]["deal_id"].iloc[0]
    secret, _ = open_ledger(url_of(workspace)).create_key("sender", ["events", "read"], now=NOW)
    until(lambda: process.poll() is not None or (fetch(f"{url}/readyz") or (0,))[0] == 200, seconds=120)
    assert process.poll() is None, log.read_text()
    one = {"event_id": "one", "table": "deals", "row": row_of(tables, deal_id, amount=77)}
    assert fetch(f"{url}/v1/events", body={"events": [one]}, key=secret)[0] == 202
    until(
        lambda: fetch(f"{url}/v1/score", body={"deal_ids": [deal_id]}, key=secret)[1]["scores"][0]["amount_base"] == 77
    )
    two = {"event_id": "two", "table": "deals", "row": row_of(tables, deal_id, amount=88)}
    status, answer = fetch(f"{url}/v1/events", body={"events": [two, one]}, key=secret)
    process.kill()
    process.wait()
    assert status == 202 and [each["status"] for each in answer["results"]] == ["accepted", "duplicate"]
    until(lambda: fetch(f"{url}/livez") is None)
    with serving(workspace, url_of(workspace)) as service:
        service.settled()
        assert service.score(deal_id)["amount_base"] == 88.0
        assert service.send(("deals", two["row"]), prefix="tw")[0]["status"] == "accepted"
        assert len(service.ledger.events_after(0)) == 3


def test_of_two_services_of_one_workspace_one_folds_at_a_time(workspace, view):
    tables, _, _, scores = view
    url = url_of(workspace)
    with serving(workspace, url) as one, serving(workspace, url) as other:
        for place, deal_id in enumerate(scores["deal_id"].iloc[:6]):
            row = row_of(tables, deal_id, amount=100 + place, updated_at=later(tables, 1))
            (one, other)[place % 2].send(("deals", row), prefix=f"e{place}-")
        one.settled()
        other.settled()
        until(lambda: one.state().tables.data_version == other.state().tables.data_version)
        for place, deal_id in enumerate(scores["deal_id"].iloc[:6]):
            assert one.score(deal_id) == other.score(deal_id)
            assert one.score(deal_id)["amount_base"] == 100.0 + place
            assert len(one.ledger.score_history(deal_id)) == 1
