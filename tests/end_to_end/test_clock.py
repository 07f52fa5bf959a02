"""The wall clock is set, days ahead or back, while the service runs: what lasts goes by a clock that nobody sets."""

import time

import pandas as pd
import pytest
from serving_here import another_model, until, url_of
from starlette.testclient import TestClient

from crm.plain import to_plain
from ledger.ledger import open_ledger
from models.bundle_store import set_champion
from serving.access import Access
from serving.api import create_api
from serving.pace import Window

pytestmark = pytest.mark.slow

DAYS = (3, -3, 0)


class WallClock:
    """The wall clock of this process, as far ahead of the true one as it is set."""

    def __init__(self) -> None:
        self.ahead = pd.Timedelta(0)
        self._now, self._time = pd.Timestamp.now, time.time

    def now(self, tz=None) -> pd.Timestamp:
        return self._now(tz) + self.ahead

    def time(self) -> float:
        return self._time() + self.ahead.total_seconds()


@pytest.fixture
def clock(monkeypatch) -> WallClock:
    clock = WallClock()
    monkeypatch.setattr(pd.Timestamp, "now", clock.now)
    monkeypatch.setattr(time, "time", clock.time)
    return clock


def test_events_models_and_keys_survive_a_clock_that_is_set_ahead_and_back(workspace, view, clock):
    tables, _, _, scores = view
    ledger = open_ledger(url_of(workspace))
    now = pd.Timestamp.now("UTC")
    lasting, _ = ledger.create_key("lasting", ["admin"], now=now)
    brief, _ = ledger.create_key("for a day", ["read"], now=now, expires_at=now + pd.Timedelta(days=1))
    deal_id = scores["deal_id"].iloc[0]
    deal = tables.get("deals").set_index("deal_id").loc[deal_id]
    row = {"deal_id": deal_id, "created_at": to_plain(deal["created_at"]), "stage": deal["stage"]}
    body = {"deal_ids": [deal_id]}
    access = Access(requests_per_minute=100_000)
    with TestClient(create_api(workspace, url_of(workspace), access), headers={"x-api-key": lasting}) as client:
        for place, days in enumerate(DAYS):
            clock.ahead = pd.Timedelta(days=days)
            at = to_plain(tables.as_of + (place + 1) * pd.Timedelta(minutes=1))
            told = {"event_id": f"e{place}", "table": "deals", "row": {**row, "amount": 700 + place, "updated_at": at}}
            (result,) = client.post("/v1/events", json={"events": [told]}).json()["results"]
            assert result["status"] == "accepted"
            until(lambda place=place: score_of(client, body)["amount_base"] == 700 + place)
            version = another_model(workspace, limits=[f"the clock is {days} days ahead"])
            set_champion(workspace, version, by="test", reason="another", at=now)
            until(lambda version=version: score_of(client, body)["model_version"] == version)
            until(lambda: client.get("/readyz").json()["status"] == "ready")
            assert "dealcast_events_waiting_seconds 0.0" in client.get("/metrics").text
            with_brief = client.post("/v1/score", json=body, headers={"x-api-key": brief})
            assert with_brief.status_code == (401 if days > 1 else 200)  # an expiry is a moment on the wall clock
        kept = [each.event_id for each in ledger.events_after(0)]
        assert kept == [f"e{place}" for place in range(len(DAYS))]


def score_of(client: TestClient, body: dict) -> dict:
    """The score as it is told now."""
    return client.post("/v1/score", json=body).json()["scores"][0]


def test_a_clock_that_is_set_neither_lengthens_nor_ends_the_minute_in_which_requests_are_counted(clock, monkeypatch):
    window = Window(2)
    assert window.count("key") and window.count("key") and not window.count("key")
    clock.ahead = pd.Timedelta(days=3)
    assert not window.allows("key") and 1 <= window.seconds_left <= 60
    clock.ahead = pd.Timedelta(days=-3)
    assert 1 <= window.seconds_left <= 60
    later = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert window.allows("key") and window.count("key")
