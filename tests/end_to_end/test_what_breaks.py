"""What breaks around the service: databases gone or slow, disks full, models damaged, an end while busy."""

import json
import os
import resource
import signal
import threading
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from postgres_here import Postgres
from serving_here import NOW, RealServer, another_model, fetch, until, url_of
from starlette.testclient import TestClient

from crm.plain import to_plain
from crm.versions import read_manifest
from ledger.database import parse_url
from ledger.ledger import open_ledger
from models.bundle_store import bundles_folder, set_champion
from serving.api import create_api

pytestmark = pytest.mark.slow

HOUR = pd.Timedelta(hours=1)


@pytest.fixture
def postgres():
    """A PostgreSQL that a test may stop and start."""
    server = Postgres()
    server.start()
    try:
        yield server
    finally:
        server.remove()


@contextmanager
def served(workspace: Path, url: str):
    """A client of the service in this process, once it is ready; the key may do everything."""
    ledger = open_ledger(url)
    secret, _ = ledger.create_key("test", ["admin"], now=NOW)
    ledger.engine.dispose()
    with TestClient(create_api(workspace, url), headers={"x-api-key": secret}) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        yield client


def event(tables, deal_id: str, event_id: str, **given) -> dict:
    deal = tables.get("deals").set_index("deal_id").loc[deal_id]
    row = {"deal_id": deal_id, "created_at": to_plain(deal["created_at"]), "stage": deal["stage"], **given}
    return {"event_id": event_id, "table": "deals", "row": row}


def database_of(client) -> str:
    return client.get("/readyz").json()["checks"]["database"]["state"]


# -- the database ----------------------------------------------------------------------------------------------------


def test_without_the_database_scores_are_read_as_stale_and_nothing_is_accepted(workspace, view, postgres):
    tables, _, _, scores = view
    ids = scores["deal_id"].tolist()
    with served(workspace, postgres.database()) as client:
        before = client.post("/v1/score", json={"deal_ids": ids}).json()
        assert before["stale"] is False and database_of(client) == "ok"
        deal = client.get(f"/v1/deals/{ids[0]}").json()
        assert deal["stale"] is False
        postgres.stop()
        until(lambda: database_of(client) == "gone")
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert client.post("/v1/score", json={"deal_ids": ids}).json() == {**before, "stale": True}
        assert client.post("/v1/forecast", json={}).status_code == 200
        assert client.get("/v1/model").status_code == 200
        assert client.get(f"/v1/deals/{ids[0]}").json() == {**deal, "stale": True}
        never_asked = client.get(f"/v1/deals/{ids[1]}").json()
        assert never_asked["score"] == before["scores"][1] and never_asked["history"] == []
        assert client.get(f"/deals/{ids[1]}").status_code == 200
        unknown = client.post("/v1/score", json={"deal_ids": ids}, headers={"x-api-key": "dc_unknown"})
        told = {"events": [event(tables, ids[0], "e1", amount=77)]}
        call = {"period_start": str(tables.calendar.period_of(tables.as_of).start), "amount": 1, "category": "commit"}
        for answer in (
            unknown,
            client.post("/v1/events", json=told),
            client.post("/v1/calls", json={"calls": [{**call, "user_id": tables.get("users")["user_id"].iloc[0]}]}),
        ):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable"), answer.text
            assert answer.headers["retry-after"] and "postgres" not in answer.text
        postgres.start()
        until(lambda: database_of(client) == "ok")
        assert client.post("/v1/events", json=told).json()["results"][0]["status"] == "accepted"
        until(lambda: client.post("/v1/score", json={"deal_ids": ids[:1]}).json()["scores"][0]["amount_base"] == 77)
        assert client.post("/v1/events", json=told).json()["results"][0]["status"] == "duplicate"


def test_a_database_that_takes_its_time_holds_up_no_read(workspace, view, postgres):
    tables, _, _, scores = view
    url = postgres.database()
    body = {"deal_ids": scores["deal_id"].tolist()[:3]}
    with served(workspace, url) as client:
        assert client.post("/v1/score", json=body).status_code == 200
        locking = sa.create_engine(parse_url(url))
        with locking.connect() as other:  # whoever asks for a key, a reading or an event now waits
            for table in ("api_key", "model_reading", "publication", "event"):
                other.exec_driver_sql(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            until(lambda: database_of(client) == "gone")
            answer = client.post("/v1/score", json=body).json()
            assert answer["stale"] is True and len(answer["scores"]) == 3
            sent = threading.Event()

            def send() -> None:
                told = {"events": [event(tables, body["deal_ids"][0], "e1", amount=77)]}
                assert client.post("/v1/events", json=told).json()["results"][0]["status"] == "accepted"
                sent.set()

            sending = threading.Thread(target=send)
            sending.start()
            for _ in range(20):
                assert client.post("/v1/score", json=body).status_code == 200
            assert not sent.is_set()  # nothing is acknowledged while it cannot be kept
        sending.join(60)
        assert sent.is_set()
        until(lambda: database_of(client) == "ok")
        locking.dispose()


# -- the disk --------------------------------------------------------------------------------------------------------


def test_on_a_full_disk_nothing_is_accepted_and_with_room_again_everything_goes_on(server, workspace, view):
    url, process, log = server
    tables, _, _, scores = view
    ids = scores["deal_id"].tolist()
    secret, _ = open_ledger(url_of(workspace)).create_key("test", ["admin"], now=NOW)
    until(lambda: process.poll() is not None or (fetch(f"{url}/readyz") or (0,))[0] == 200, seconds=120)
    (worker,) = RealServer.children(process.pid)
    before = read_manifest(workspace).data_version

    def post(path: str, body: dict):
        return fetch(url + path, body=body, key=secret)

    assert post("/v1/score", {"deal_ids": ids})[0] == 200
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    accepted = []
    for place in range(40):  # a few may still fit
        told = event(tables, ids[0], f"e{place}", amount=1000 + place, description="x" * 4000)
        status, answer = post("/v1/events", {"events": [told]})
        if status == 503:
            assert answer["error"]["code"] == "unavailable"
            break
        accepted.append(told["event_id"])
    assert status == 503, "the disk was never full"
    assert post("/v1/score", {"deal_ids": ids})[0] == 200
    kept = [each.event_id for each in open_ledger(url_of(workspace)).events_after(0)]
    assert kept == accepted and read_manifest(workspace).data_version == before
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    until(lambda: post("/v1/events", {"events": [event(tables, ids[0], "last", amount=77)]})[0] == 202)
    until(lambda: post("/v1/score", {"deal_ids": ids[:1]})[1]["scores"][0]["amount_base"] == 77)
    assert fetch(f"{url}/metrics")[1].count("dealcast_events_set_aside_total 0.0") == 1


# -- the model -------------------------------------------------------------------------------------------------------


def test_a_damaged_champion_leaves_the_old_one_serving_and_readiness_and_limits_say_so(workspace, view):
    with served(workspace, url_of(workspace)) as client:
        second = another_model(workspace, limits=["the second"])
        broken = bundles_folder(workspace) / second / "hazards.json"
        whole = broken.read_text()
        broken.write_text(whole[:-1])
        set_champion(workspace, second, by="test", reason="damaged", at=NOW)
        model = until(lambda: (c := client.get("/readyz").json()["checks"]["model"])["state"] == "old" and c)
        assert model["champion"] == second and model["model_version"] == view[2].model_version
        assert "damaged" in model["because"]
        card = client.get("/v1/model").json()
        assert card["model_version"] == view[2].model_version and second in card["limits"][-1]
        broken.write_text(whole)
        client.app.state.follower._look_again_at = 0.0  # it looks again by itself, later
        until(lambda: client.get("/readyz").json()["checks"]["model"]["state"] == "ok")
        assert client.get("/v1/model").json()["limits"] == ["the second"]


# -- the end ---------------------------------------------------------------------------------------------------------


def test_a_worker_told_to_end_says_so_answers_what_it_was_asked_and_ends(workspace, view, tmp_path):
    tables, _, _, scores = view
    server = RealServer(workspace, tmp_path / "server.log", DEALCAST_DRAIN_SECONDS="2")
    try:
        server.until_ready()
        secret, _ = open_ledger(url_of(workspace)).create_key("test", ["admin"], now=NOW)
        asked = [{"deal": event(tables, deal_id, "")["row"]} for deal_id in scores["deal_id"][:30]]
        answers = []

        def ask() -> None:
            answers.append(fetch(f"{server.url}/v1/what_if", body={"deals": asked}, key=secret))

        asking = [threading.Thread(target=ask) for _ in range(3)]
        for each in asking:
            each.start()
        until(lambda: "dealcast_requests_in_flight" in (text := fetch(f"{server.url}/metrics")[1])
              and 'kind="what_if"' in text)  # fmt: skip
        os.kill(server.process.pid, signal.SIGTERM)
        told = until(lambda: (a := fetch(f"{server.url}/readyz")) and a[0] == 503 and a)
        assert "about to end" in told[1]["error"]["message"]
        for each in asking:
            each.join()
        assert [status for status, _ in answers] == [200] * 3
        assert server.process.wait(60) == 0
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait()
    assert "Traceback" not in server.log.read_text()
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    assert sum(line["path"] == "/v1/what_if" and line["status"] == 200 for line in lines) == 3
