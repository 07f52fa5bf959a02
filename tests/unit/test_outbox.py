"""Scores wait in the outbox until the CRM took them: only what changed, once, and refusals with their reason."""

import pandas as pd
import pytest
from sqlalchemy import select

from ledger.ledger import open_ledger
from ledger.outbox import PARKED_AFTER, Waiting, enqueue, parked, settle, unpark, waiting
from ledger.tables import outbox

NOW = pd.Timestamp("2026-01-05T09:00:00Z")


@pytest.fixture
def engine(tmp_path):
    ledger = open_ledger(f"sqlite:///{tmp_path / 'dealcast.db'}")
    yield ledger.engine
    ledger.engine.dispose()


def score(deal_id: str, probability: float, model: str = "m1") -> Waiting:
    return Waiting(deal_id, probability, 2.5, ("it moved",), NOW, model)


def queue(engine, *scores: Waiting, least: float = 1.0) -> int:
    return enqueue(engine, "crm", scores, least_change_points=least, now=NOW)


def written(engine, *scores: Waiting) -> None:
    queue(engine, *scores)
    settle(engine, "crm", waiting(engine, "crm"), {}, now=NOW)


def test_a_score_waits_with_where_it_comes_from_until_it_is_written(engine):
    assert queue(engine, score("1", 0.4)) == 0
    assert waiting(engine, "crm") == [score("1", 0.4)]
    settle(engine, "crm", waiting(engine, "crm"), {}, now=NOW)
    assert waiting(engine, "crm") == []


def test_a_score_that_moved_less_than_asked_is_not_written_again(engine):
    written(engine, score("1", 0.4), score("2", 0.4))
    assert queue(engine, score("1", 0.409), score("2", 0.411)) == 1
    assert [each.deal_id for each in waiting(engine, "crm")] == ["2"]


def test_small_steps_add_up_because_the_comparison_is_with_what_stands_in_the_crm(engine):
    written(engine, score("1", 0.4))
    assert queue(engine, score("1", 0.406)) == 1
    assert queue(engine, score("1", 0.412)) == 0


def test_without_a_least_change_every_other_value_is_written_and_the_same_is_not(engine):
    written(engine, score("1", 0.4))
    assert queue(engine, score("1", 0.4), least=0.0) == 1
    assert queue(engine, score("1", 0.4001), least=0.0) == 0


def test_the_latest_score_waits_in_place_of_the_one_before(engine):
    queue(engine, score("1", 0.4))
    queue(engine, score("1", 0.6, model="m2"))
    assert waiting(engine, "crm") == [score("1", 0.6, model="m2")]


def test_what_went_back_to_the_value_written_waits_no_more(engine):
    written(engine, score("1", 0.4))
    queue(engine, score("1", 0.6))
    assert queue(engine, score("1", 0.4)) == 1
    assert waiting(engine, "crm") == []


def test_a_refused_score_waits_on_with_its_reason(engine):
    queue(engine, score("1", 0.4), score("2", 0.5))
    settle(engine, "crm", waiting(engine, "crm"), {"2": "the deal is locked"}, now=NOW)
    assert [each.deal_id for each in waiting(engine, "crm")] == ["2"]
    with engine.connect() as connection:
        kept = connection.execute(select(outbox.c.refused_because, outbox.c.tries).where(outbox.c.deal_id == "2"))
        assert kept.all() == [("the deal is locked", 1)]
    settle(engine, "crm", waiting(engine, "crm"), {}, now=NOW)
    with engine.connect() as connection:
        assert set(connection.execute(select(outbox.c.refused_because)).scalars()) == {None}


def test_a_score_refused_too_often_is_parked_with_its_reason_until_somebody_asks_for_it(engine):
    for tries in range(PARKED_AFTER):
        queue(engine, score("1", 0.4), score("2", 0.5 + tries / 10))
        assert parked(engine, "crm") == {}
        settle(engine, "crm", waiting(engine, "crm"), {"1": "locked for good"}, now=NOW)
    queue(engine, score("1", 0.9), score("2", 0.1))
    assert [each.deal_id for each in waiting(engine, "crm")] == ["2"]
    assert parked(engine, "crm") == {"1": "locked for good"}
    unpark(engine, "crm")
    assert [each.deal_id for each in waiting(engine, "crm")] == ["1", "2"] and parked(engine, "crm") == {}
    settle(engine, "crm", waiting(engine, "crm"), {}, now=NOW)
    assert waiting(engine, "crm") == []


def test_a_deal_that_is_no_longer_scored_is_not_written(engine):
    queue(engine, score("1", 0.4), score("2", 0.5))
    queue(engine, score("2", 0.5))
    assert [each.deal_id for each in waiting(engine, "crm")] == ["2"]


def test_connections_do_not_see_each_others_scores(engine):
    written(engine, score("1", 0.4))
    assert enqueue(engine, "other", [score("1", 0.4)], least_change_points=1.0, now=NOW) == 0
    assert waiting(engine, "crm") == [] and len(waiting(engine, "other")) == 1


def test_what_was_settled_before_a_stop_is_not_written_twice(engine):
    queue(engine, score("1", 0.4), score("2", 0.5))
    settle(engine, "crm", [score("1", 0.4)], {}, now=NOW)
    assert [each.deal_id for each in waiting(engine, "crm")] == ["2"]
    assert queue(engine, score("1", 0.4), score("2", 0.5)) == 1
    assert [each.deal_id for each in waiting(engine, "crm")] == ["2"]
