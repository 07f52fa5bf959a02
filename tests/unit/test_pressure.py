"""What the service takes on at once: places, waiting, refusals and answers that come too late."""

import asyncio
import json
import logging
from dataclasses import replace

import pandas as pd
import pytest

from ledger.errors import LedgerUnavailable
from ledger.keys import hash_of
from ledger.ledger import open_ledger
from serving import known_keys
from serving.known_keys import KnownKeys
from serving.pressure import BOUNDS, KIND_OF, Bounds, Pressure

ONE = Bounds(at_once=1, waiting=1, wait_seconds=30, longest_seconds=30)


class Inside:
    """A service in which every request stays until it is let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.came = 0

    async def __call__(self, scope, receive, send) -> None:
        self.came += 1
        await self.let_go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


async def ask(app, path: str = "/v1/what_if") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one request."""
    sent: list[dict] = []

    async def send(message) -> None:
        sent.append(message)

    async def receive() -> dict:
        return {"type": "http.request", "body": b""}

    await app({"type": "http", "method": "POST", "path": path, "headers": []}, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(each.get("body", b"") for each in sent[1:])


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


def pressure(app, **bounds: Bounds) -> Pressure:
    return Pressure(app, {**BOUNDS, **bounds})


def test_what_has_no_place_is_refused_at_once_and_what_waited_is_answered():
    async def play():
        inside = Inside()
        app = pressure(inside, what_if=ONE)
        first, second = (asyncio.ensure_future(ask(app)) for _ in range(2))
        await settle()
        status, headers, body = await ask(app)
        assert (status, headers["retry-after"]) == (503, "1")
        error = json.loads(body)["error"]
        assert error["code"] == "unavailable" and error["details"][0]["where"] == "what_if"
        assert inside.came == 1
        cheap = asyncio.ensure_future(ask(app, "/v1/score"))
        await settle()
        assert inside.came == 2  # an expensive question stands before no cheap one
        inside.let_go.set()
        assert [(await each)[0] for each in (first, second, cheap)] == [200, 200, 200]

    asyncio.run(play())


def test_whoever_waits_too_long_is_told_to_come_back():
    async def play():
        inside = Inside()
        app = pressure(inside, what_if=Bounds(1, 1, wait_seconds=0.01, longest_seconds=30))
        first = asyncio.ensure_future(ask(app))
        await settle()
        assert (await ask(app))[0] == 503
        inside.let_go.set()
        assert (await first)[0] == 200 and (await ask(app))[0] == 200

    asyncio.run(play())


def test_a_late_request_is_answered_keeps_its_place_and_its_answer_is_not_sent_twice(caplog):
    async def play():
        inside = Inside()
        app = pressure(inside, what_if=Bounds(1, 0, wait_seconds=30, longest_seconds=0.01))
        status, headers, body = await ask(app)
        assert (status, headers["retry-after"]) == (503, "5") and b"done" not in body
        assert (await ask(app))[0] == 503  # the place is still taken: nothing can be stopped half-way
        inside.let_go.set()
        await settle()
        assert (await ask(app))[0] == 200

    with caplog.at_level(logging.WARNING, "dealcast"):
        asyncio.run(play())
    assert "ended after its answer was due" in caplog.text


def test_operators_are_answered_whatever_there_is_to_do():
    async def play():
        inside = Inside()
        app = pressure(inside, read=Bounds(1, 0, wait_seconds=30, longest_seconds=30))
        busy = asyncio.ensure_future(ask(app, "/v1/score"))
        await settle()
        assert (await ask(app, "/v1/score"))[0] == 503
        inside.let_go.set()
        assert (await ask(app, "/readyz"))[0] == 200
        await busy

    asyncio.run(play())


def test_a_failure_reaches_whoever_explains_failures():
    async def broken(scope, receive, send) -> None:
        raise RuntimeError("inside")

    async def play():
        app = pressure(broken, what_if=ONE)
        for _ in range(3):  # and gives its place back
            with pytest.raises(RuntimeError, match="inside"):
                await ask(app)

    asyncio.run(play())


def test_every_kind_has_bounds():
    assert set(KIND_OF.values()) | {"read"} == set(BOUNDS)


# -- keys ------------------------------------------------------------------------------------------------------------


class Asked:
    """A ledger that answers, does not answer, or takes its time."""

    def __init__(self, ledger) -> None:
        self.ledger, self.failing, self.times = ledger, False, 0

    def authenticate(self, secret, *, now):
        self.times += 1
        if self.failing:
            raise LedgerUnavailable("gone")
        return self.ledger.authenticate(secret, now=now)


@pytest.fixture
def asked(tmp_path):
    return Asked(open_ledger(f"sqlite:///{tmp_path}/dealcast.db"))


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock of the keys, which a test moves."""
    now = [1000.0]
    monkeypatch.setattr(known_keys.time, "monotonic", lambda: now[0])
    return now


NOW = pd.Timestamp("2026-01-05 09:00", tz="UTC")


def test_a_key_is_looked_up_once_a_second_and_opens_nothing_a_second_after_it_was_revoked(asked, clock):
    secret, key = asked.ledger.create_key("test", ["read"], now=NOW)
    keys = KnownKeys(asked)

    async def play():
        for _ in range(5):
            assert (await keys.key_of(secret)).key_id == key.key_id
        assert asked.times == 1
        asked.ledger.revoke_key("test", now=NOW)
        clock[0] += 1.1
        assert await keys.key_of(secret) is None and await keys.key_of("dc_other") is None

    asyncio.run(play())


def test_without_the_database_a_key_seen_lately_stands_for_ten_minutes_and_no_other_opens(asked, clock):
    secret, key = asked.ledger.create_key("test", ["read"], now=NOW)
    keys = KnownKeys(asked)

    async def play():
        assert await keys.key_of(secret) is not None
        asked.failing = True
        clock[0] += 599
        assert (await keys.key_of(secret)).key_id == key.key_id
        with pytest.raises(LedgerUnavailable):
            await keys.key_of("dc_other")
        clock[0] += 2
        with pytest.raises(LedgerUnavailable):
            await keys.key_of(secret)
        asked.failing = False
        assert await keys.key_of(secret) is not None

    asyncio.run(play())


def test_who_asks_at_the_very_moment_of_the_ledgers_first_answer_is_let_in_as_well(asked):
    secret, key = asked.ledger.create_key("test", ["read"], now=NOW)
    keys = KnownKeys(asked)

    async def once_answered():
        await asyncio.sleep(0)
        (look,) = keys._looks.values()
        while not look.answer.done():
            await asyncio.sleep(0)  # one turn of the loop: the answer is there, and nobody has been told yet
        return await keys.key_of(secret)

    async def play():
        first, second = await asyncio.gather(keys.key_of(secret), once_answered())
        assert first.key_id == second.key_id == key.key_id and asked.times == 1

    asyncio.run(play())


def test_a_key_whose_time_is_over_opens_nothing_also_without_the_database(asked, clock):
    soon = pd.Timestamp.now("UTC") + pd.Timedelta(days=1)
    secret, _ = asked.ledger.create_key("test", ["read"], expires_at=soon, now=NOW)
    keys = KnownKeys(asked)

    async def play():
        assert await keys.key_of(secret) is not None
        name = hash_of(secret)
        held = keys._known[name]
        over = replace(held.key, expires_at=NOW)
        keys._known[name] = replace(held, key=over)
        assert await keys.key_of(secret) is None

    asyncio.run(play())
