"""What systems and people tell is written down once, in order, and for good, on SQLite and PostgreSQL alike."""

import json
import multiprocessing
from dataclasses import replace

import pandas as pd
import pytest
import sqlalchemy as sa
from test_ledger import head, nodes, publish

from ledger.inbox import Event, Waiting
from ledger.ledger import open_ledger
from ledger.people import Node, Score

MONDAY = pd.Timestamp("2026-01-05", tz="UTC").as_unit("us")
HOUR = pd.Timedelta(hours=1)
QUARTER = pd.Timestamp("2026-01-01")


def event(event_id: str, amount: float = 1.0, **given) -> Event:
    content = json.dumps({"amount": amount, "deal_id": "A"})
    return replace(Event(event_id, "deals", content, MONDAY, MONDAY + HOUR, "key_1"), **given)


def override(**given) -> dict:
    said = {"node_type": "rep", "node_id": "u1", "deal_id": None, "period_start": QUARTER, "value": 5.0}
    said |= {"user_id": "u1", "submitted_at": MONDAY, "received_at": MONDAY, "key_id": "key_1", "model_seen": False}
    return {**said, "note": "I know them", **given}


def call(event_id: str) -> dict:
    said = {"event_id": event_id, "user_id": "u1", "period_start": QUARTER, "category": "commit", "amount": 5.0}
    said |= {"currency": None, "submitted_at": MONDAY, "received_at": MONDAY, "key_id": "key_1", "model_seen": True}
    return said


def test_events_come_back_in_the_order_in_which_they_were_taken_in(ledger):
    assert ledger.take_in([event("b", 2), event("a", 1, moment=None)]) == ["accepted", "accepted"]
    assert ledger.take_in([event("c", 3)]) == ["accepted"]
    found = ledger.events_after(0)
    assert [(each.number, each.event_id) for each in found] == [(1, "b"), (2, "a"), (3, "c")]
    assert replace(found[0], number=None) == event("b", 2) and found[1].moment is None
    assert [each.event_id for each in ledger.events_after(1, most=1)] == ["a"]
    assert set(ledger.known_events(["a", "c", "nobody's"])) == {"a", "c"}


def test_an_id_is_taken_in_once_and_another_row_under_it_is_told_apart(ledger):
    assert ledger.take_in([event("a"), event("a"), event("a", 2)]) == ["accepted", "duplicate", "other content"]
    later = event("a", received_at=MONDAY + 2 * HOUR, key_id="key_2")
    assert ledger.take_in([later, event("a", table="leads")]) == ["duplicate", "other content"]
    assert [each.content for each in ledger.events_after(0)] == [event("a").content]


def test_how_much_waits_is_counted_from_the_first_that_was_not_folded(ledger):
    assert ledger.events_waiting(0) == Waiting(0, None)
    ledger.take_in([event("a"), event("b", received_at=MONDAY + 2 * HOUR)])
    assert ledger.events_waiting(0) == Waiting(2, MONDAY + HOUR)
    assert ledger.events_waiting(1) == Waiting(1, MONDAY + 2 * HOUR)


@pytest.mark.parametrize("table", ["event", "call_entry", "override_entry"])
@pytest.mark.parametrize("statement", ["UPDATE {t} SET key_id = 'x'", "DELETE FROM {t}"])
def test_what_was_told_can_be_neither_changed_nor_deleted(ledger, table, statement):
    ledger.submit_calls([call("a")], [event("a")])
    ledger.submit_overrides([override()])
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), ledger.engine.begin() as connection:
        connection.exec_driver_sql(statement.format(t=table))


def test_what_was_told_cannot_be_replaced_by_inserting_it_again(tmp_path):
    ledger = open_ledger(f"sqlite:///{tmp_path}/dealcast.db")
    ledger.submit_calls([call("a")], [event("a")])
    ledger.submit_overrides([override()])
    for table in ("event", "call_entry", "override_entry"):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), ledger.engine.begin() as connection:
            connection.exec_driver_sql(f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}")


def test_calls_and_their_events_are_kept_together_or_not_at_all(ledger):
    ledger.submit_calls([call("a")], [event("a")])
    with pytest.raises(sa.exc.IntegrityError):
        ledger.submit_calls([call("b"), call("a")], [event("b")])
    assert ledger.calls()["event_id"].tolist() == ["a"]
    assert [each.event_id for each in ledger.events_after(0)] == ["a"]


def test_overrides_come_back_in_order_and_their_words_can_be_erased(ledger):
    later = override(value=7.0, submitted_at=MONDAY + HOUR, note=None)
    assert ledger.submit_overrides([later, override(), override(period_start=pd.Timestamp("2026-04-01"))]) == [1, 2, 3]
    said = ledger.overrides(period_start=QUARTER)
    assert said["value"].tolist() == [5.0, 7.0]
    assert said["note"].fillna("").tolist() == ["I know them", ""]
    assert said["submitted_at"].tolist() == [MONDAY, MONDAY + HOUR]
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM override_note")
    assert ledger.overrides(period_start=QUARTER)["note"].isna().all()


def test_a_number_was_seen_if_it_was_read_since_it_was_last_published(ledger):
    deal, node = Score("006A"), Node(QUARTER, "rep", "0051")
    assert not ledger.had_seen(["u1"], [deal, node])
    ledger.write_readings({("u1", deal): MONDAY})
    assert ledger.had_seen(["key_9", "u1"], [deal]) and not ledger.had_seen(["u2"], [deal])
    publish(ledger, {"006A": 0.5}, published_at=MONDAY + HOUR)
    assert not ledger.had_seen(["u1"], [deal])
    ledger.write_readings({("u1", deal): MONDAY + HOUR, ("u1", node): MONDAY + HOUR})
    assert ledger.had_seen(["u1"], [deal]) and ledger.had_seen(["u1"], [node])
    later = {"as_of": MONDAY, "published_at": MONDAY + 2 * HOUR}
    ledger.publish_forecast(head("forecast", **later), nodes(head("forecast", **later)))
    assert not ledger.had_seen(["u1"], [node]) and not ledger.had_seen(["u1"], [Node(QUARTER, "rep", "other")])
    publish(ledger, {"006B": 0.5}, published_at=MONDAY + 3 * HOUR)
    assert ledger.had_seen(["u1"], [deal])


def test_many_readings_at_once_are_kept(ledger):
    many = [Score(f"{n:04d}") for n in range(1200)]
    ledger.write_readings({("u1", each): MONDAY for each in many})
    ledger.write_readings({("u1", each): MONDAY + HOUR for each in many})
    assert all(ledger.had_seen(["u1"], [many[n]]) for n in (0, 600, 1199))


def send_many(url: str, name: str) -> None:
    ledger = open_ledger(url)
    for n in range(20):
        ledger.take_in([event(f"{name}{n}"), event(f"shared{n}", key_id=name)])
    ledger.engine.dispose()


def test_whoever_read_up_to_a_number_missed_nothing_below_it(url):
    """Two processes send at once, and somebody reads all the while."""
    spawn = multiprocessing.get_context("spawn")
    senders = [spawn.Process(target=send_many, args=(url, name)) for name in ("one", "two")]
    ledger = open_ledger(url)
    for sender in senders:
        sender.start()
    seen: list[Event] = []
    while any(sender.is_alive() for sender in senders):
        seen += ledger.events_after(seen[-1].number if seen else 0)
    seen += ledger.events_after(seen[-1].number if seen else 0)
    assert [sender.exitcode for sender in senders] == [0, 0]
    assert seen == ledger.events_after(0)
    assert sorted(each.event_id for each in seen) == sorted(
        [f"{name}{n}" for name in ("one", "two", "shared") for n in range(20)]
    )
    ledger.engine.dispose()
