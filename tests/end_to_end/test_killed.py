"""Killed outright, at moments drawn at random, while events stream in: what was acknowledged is there, exactly once.

`DEALCAST_KILLS` and `DEALCAST_EVENTS` make it longer: `make soak` kills 100 times among 20,000 events. After
`DEALCAST_KILL_MINUTES` nobody is killed any more, and what was sent until then is judged; the log says how far it came.
"""

import itertools
import logging
import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from postgres_here import Postgres
from serving_here import NOW, RealServer, fetch, until

from crm.events import CrmEvent
from crm.overlay import fold_events
from crm.plain import to_plain
from crm.store import read_tables
from crm.versions import read_manifest
from ledger.inbox import Event
from ledger.ledger import open_ledger
from serving.worker import crm_event

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * 3600)]

KILLS = int(os.environ.get("DEALCAST_KILLS", "5"))
EVENTS = int(os.environ.get("DEALCAST_EVENTS", "400"))
MINUTES = float(os.environ.get("DEALCAST_KILL_MINUTES", "inf"))
AT_ONCE = 20
SEED = 6

log = logging.getLogger("killed")


class Sender(threading.Thread):
    """Sends events in order, each batch until it is acknowledged, while anything may happen to who takes them in."""

    def __init__(self, url: str, key: str, events: list[dict], pace: threading.Semaphore) -> None:
        super().__init__(daemon=True)
        self.url, self.key, self.events, self.pace = url, key, events, pace
        self.acknowledged: list[str] = []
        self.failure: Exception | None = None
        self.has_stopped = False

    def stop_early(self) -> None:
        """Send nothing more; `events` are then those that were sent."""
        self.has_stopped = True

    def run(self) -> None:
        try:
            for first in range(0, len(self.events), AT_ONCE):
                self.pace.acquire()
                if self.has_stopped:
                    self.events = self.events[:first]
                    break
                batch = self.events[first : first + AT_ONCE]
                while True:
                    answer = fetch(f"{self.url}/v1/events", body={"events": batch}, key=self.key)
                    if answer is not None and answer[0] == 202:
                        break
                    assert answer is None or answer[0] == 503, answer
                    time.sleep(0.05)  # between two tries at somebody who is not there
                results = answer[1]["results"]
                assert {each["status"] for each in results} <= {"accepted", "duplicate"}, results
                self.acknowledged += [each["event_id"] for each in results]
        except Exception as failure:
            self.failure = failure


def events_of(tables, deal_ids: list[str], count: int) -> list[dict]:
    """Changes of amounts and new activities, each a minute after the one before."""
    deals = tables.get("deals").set_index("deal_id")
    told = []
    for place in range(count):
        at = to_plain(tables.as_of + (place + 1) * pd.Timedelta(seconds=1))
        deal_id = deal_ids[place % len(deal_ids)]
        if place % 2:
            row = {"activity_id": f"new{place}", "occurred_at": at, "deal_id": deal_id, "type": "meeting"}
            told.append({"event_id": f"e{place}", "table": "activities", "row": row})
        else:
            row = {"deal_id": deal_id, "created_at": to_plain(deals.loc[deal_id, "created_at"]), "updated_at": at}
            row |= {"stage": deals.loc[deal_id, "stage"], "amount": 1000 + place}
            told.append({"event_id": f"e{place}", "table": "deals", "row": row})
    return told


def kill_one(victim: str, server: RealServer, postgres: Postgres) -> None:
    """Kill it, and start again what does not start by itself."""
    if victim == "postgres":
        postgres.kill()
        until(lambda: starts(postgres))
    elif victim == "server":
        server.kill()
        server.start()
    else:
        for pid in RealServer.children(server.process.pid):
            os.kill(pid, signal.SIGKILL)


def starts(postgres: Postgres) -> bool:
    """Whether it starts; what was killed may still hold its memory for a moment."""
    try:
        postgres.start()
    except Exception:
        return False
    return True


def in_order(trained: Path, folder: Path, events: list[Event]) -> dict[str, pd.DataFrame]:
    """The tables of a workspace in which the same events were folded in order, at once, by one who was never killed."""
    workspace = Path(shutil.copytree(trained, folder / "in order"))
    numbered: list[CrmEvent] = [crm_event(each) for each in events]
    fold_events(workspace, numbered, after=0)
    return read_tables(workspace).tables


def test_what_was_acknowledged_is_there_exactly_once_whoever_is_killed(trained, workspace, view, tmp_path):
    tables, _, _, scores = view
    dice = random.Random(SEED)
    postgres = Postgres()
    postgres.start()
    server = None
    try:
        url = postgres.database()
        ledger = open_ledger(url)
        secret, _ = ledger.create_key("sender", ["events"], now=NOW)
        server = RealServer(workspace, tmp_path / "server.log", ledger_url=url)
        server.until_ready()
        sent = events_of(tables, scores["deal_id"].tolist()[:40], EVENTS)
        pace = threading.Semaphore(0)
        sender = Sender(server.url, secret, sent, pace)
        sender.start()
        batches = -(-EVENTS // AT_ONCE)
        share = batches // (KILLS + 1)
        began, killed = time.monotonic(), 0
        for victim in itertools.islice(itertools.cycle(("worker", "postgres", "server", "worker", "postgres")), KILLS):
            for _ in range(share):
                pace.release()
            # A moment drawn at random, while what was let go is on its way.
            goal = len(sender.acknowledged) + dice.randint(1, share) * AT_ONCE - 1
            until(lambda goal=goal: len(sender.acknowledged) > goal or sender.failure, seconds=900)
            time.sleep(dice.uniform(0, 1.0))
            kill_one(victim, server, postgres)
            killed += 1
            log.info("kill %s, of the %s, after %s events", killed, victim, len(sender.acknowledged))
            if time.monotonic() - began > 60 * MINUTES:
                sender.stop_early()
                break
        for _ in range(batches):
            pace.release()
        sender.join(3600)
        sent = sender.events
        assert sender.failure is None and (killed == KILLS or sender.has_stopped)
        log.info("%s kills, %s events acknowledged of %s", killed, len(sender.acknowledged), EVENTS)
        assert sorted(sender.acknowledged) == sorted(each["event_id"] for each in sent)
        ledger.engine.dispose()
        kept = ledger.events_after(0)
        assert [each.event_id for each in kept] == [each["event_id"] for each in sent]
        until(lambda: read_manifest(workspace).folded.through == kept[-1].number, seconds=300)
    finally:
        if server is not None:
            server.process.kill()
            server.process.wait()
        until(lambda: fetch(f"{server.url}/livez") is None)
        postgres.remove()
    expected, found = in_order(trained, tmp_path, kept), read_tables(workspace).tables
    assert found.keys() == expected.keys()
    for name, frame in expected.items():
        pd.testing.assert_frame_equal(found[name], frame, obj=name)
