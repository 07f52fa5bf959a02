"""What changes in Tryton is told to dealcast: once each, late if need be, and never at the seller's cost."""

from collections.abc import Iterator
from itertools import repeat

import pytest
from listening import Everything, listening
from showroom import until
from tryton_company import decimal
from tryton_here import PASSWORD, Tryton, free_port

from crm.connectors.tryton import TrytonSettings

pytestmark = pytest.mark.slow

KEY = "a-key-of-the-tests"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def crm(scored_small_company, run_tryton, port) -> Iterator[Tryton]:
    """The smaller company's Tryton, told where dealcast listens."""
    crm = run_tryton(scored_small_company)
    crm.configure(f"url = http://127.0.0.1:{port}", f"key = {KEY}")
    with crm.running():
        yield crm


def some_open(crm: Tryton, count: int) -> list[int]:
    rows = crm.rows("sale.opportunity", ["state"], [["state", "in", ["lead", "opportunity"]]])
    return [row["id"] for row in rows][:count]


def is_told(crm: Tryton) -> bool:
    """Whether nothing waits any more."""
    return crm.call("deal_score.change.search_count", [], crm.context) == 0


def left(crm: Tryton) -> list[dict]:
    return crm.rows("deal_score.change", ["model", "record", "refused"])


def test_every_change_is_told_as_the_next_sync_would_tell_it(crm, port, connector_of):
    deal, lost, gone = some_open(crm, 3)
    (stage,) = crm.rows("sale.opportunity.stage", ["name"], [["name", "=", "Proposal"]])
    with listening(port) as listener:
        connector = connector_of(crm)
        cursor = connector.fetch(None).cursor
        call, context = crm.call, crm.context
        call("sale.opportunity.write", [deal], {"stage": stage["id"], "amount": decimal(77.5)}, context)
        call("sale.opportunity.lost", [lost], context)
        call("sale.opportunity.write", [lost], {"lost_reason": "too dear"}, context)
        call("sale.opportunity.lead", [lost], context)
        call("sale.opportunity.cancel", [gone], context)
        call("sale.opportunity.delete", [gone], context)
        (new,) = call("sale.opportunity.copy", [deal], {}, context)
        talk = {"opportunity": deal, "type": "meeting", "duration": 30}
        (activity,) = call("sale.opportunity.activity.create", [talk], context)
        until(lambda: is_told(crm) and listener.heard)
        told = list(listener.told().values())
        assert listener.keys == {KEY}
        synced = {}
        for batch in connector.fetch(cursor).batches:
            synced.setdefault(batch.table, []).extend(dict(row) for row in batch.rows)

    def of_table(table: str) -> list[dict]:
        return [event["row"] for event in told if event["table"] == table]

    def by_all(row: dict) -> list[tuple[str, str]]:
        return sorted((name, str(value)) for name, value in row.items())

    ours = {str(number) for number in (deal, lost, gone, new)}
    history = [row for row in synced["deal_history"] if row["deal_id"] in ours and row["changed_at"] >= cursor]
    history = [row for row in history if row["field"] != "conversion_probability"]
    assert len(history) >= 12
    assert sorted(of_table("deal_history"), key=by_all) == sorted(history, key=by_all)
    deals = {row["deal_id"]: row for row in synced["deals"]}
    assert {row["deal_id"] for row in of_table("deals")} == {str(lost), str(gone), str(new)}
    for row in of_table("deals"):
        if row["deal_id"] == str(new):
            assert row == {name: deals[str(new)][name] for name in row}
        elif "deleted_at" in row:
            assert row["deleted_at"] == deals[str(gone)]["deleted_at"]
    assert [row["closed_at"] is None for row in of_table("deals") if row["deal_id"] == str(lost)] == [False, True]
    (talked,) = of_table("activities")
    (read,) = [row for row in synced["activities"] if row["activity_id"] == str(activity)]
    assert {**talked, "duration_minutes": str(talked["duration_minutes"])} == read


def test_while_dealcast_is_down_sellers_go_on_and_nothing_is_lost(crm, port):
    def rename(deal: int, name: str) -> None:
        crm.call("sale.opportunity.write", [deal], {"description": name}, crm.context)

    deals = some_open(crm, 5)
    for place, deal in enumerate(deals):  # nobody listens
        rename(deal, f"renamed {place}")
    assert {each["record"] for each in left(crm)} == set(deals)
    with listening(port, repeat(503)) as listener:
        for status in (503, 401, 500):
            listener.statuses = repeat(status)
            rename(deals[0], f"while it said {status}")  # which wakes the sender: nobody waits for its pause
            until(lambda status=status: status in listener.answered)
            assert listener.heard == []
        listener.statuses = iter(())
        rename(deals[0], "at last")
        until(lambda: is_told(crm))
        for place, deal in enumerate(deals):
            assert listener.changes(deal)[0][2] == f"renamed {place}"
        assert listener.changes(deals[0])[-1] == ("name", "while it said 500", "at last")
        assert len(listener.heard) == len(listener.told()) == 9


def test_what_waits_outlives_the_server_and_goes_with_the_next_change(crm, port, scored_small_company):
    deal, other = some_open(crm, 2)
    crm.call("sale.opportunity.write", [deal], {"description": "before"}, crm.context)
    crm.restart()
    assert [each["record"] for each in left(crm)] == [deal]
    with listening(port) as listener:
        crm.call("sale.opportunity.write", [other], {"description": "after"}, crm.context)
        until(lambda: is_told(crm))
        assert [event["row"]["new_value"] for event in listener.heard] == ["before", "after"]


def test_what_was_taken_unheard_is_told_again_in_the_same_words(crm, port):
    (deal,) = some_open(crm, 1)
    with listening(port) as listener:
        listener.is_mute = True
        crm.call("sale.opportunity.write", [deal], {"description": "once"}, crm.context)
        until(lambda: is_told(crm) and len(listener.heard) == 2)
        assert len(listener.told()) == 1


def test_a_refused_change_waits_with_its_reason_and_does_not_hold_up_the_others(crm, port):
    deal, other = some_open(crm, 2)
    with listening(port) as listener:
        crm.call("sale.opportunity.write", [deal], {"description": "first"}, crm.context)
        until(lambda: is_told(crm))
        (first,) = listener.told()
        listener.refuses = Everything()
        crm.call("sale.opportunity.write", [deal], {"description": "second"}, crm.context)
        until(lambda: crm.call("deal_score.change.search_count", [["refused", "!=", None]], crm.context))
        listener.refuses = set()
        crm.call("sale.opportunity.write", [other], {"description": "third"}, crm.context)
        until(lambda: "third" in str(listener.heard))
        until(lambda: crm.call("deal_score.change.search_count", [], crm.context) == 1)
        (kept,) = left(crm)
        assert kept["record"] == deal and "row.stage x: a stage" in kept["refused"]
        (cron,) = crm.rows("ir.cron", ["method"], [["method", "=", "deal_score.change|sweep"]])
        crm.call("ir.cron.run_once", [cron["id"]], crm.context)
        until(lambda: is_told(crm))


def test_a_write_that_is_rolled_back_is_never_told_and_without_a_key_nothing_is_noted(crm, port):
    deal, other = some_open(crm, 2)
    with listening(port) as listener:
        answer = crm.client.post(
            "/crm/rpc/",
            json={
                "id": 1,
                "method": "model.sale.opportunity.write",
                "params": [
                    [deal],
                    {"description": "never"},
                    [other],
                    {"conversion_probability": 7.0},
                    crm.context,
                ],
            },
        ).json()
        assert "error" in answer
        crm.call("sale.opportunity.write", [other], {"description": "indeed"}, crm.context)
        until(lambda: is_told(crm) and listener.heard)
        assert [event["row"]["new_value"] for event in listener.heard] == ["indeed"]
    crm.configure("url = https://dealcast.example.com")
    crm.restart()
    crm.call("sale.opportunity.write", [other], {"description": "quiet"}, crm.context)
    assert is_told(crm)


def test_a_stage_keeps_its_name(crm):
    (stage,) = crm.rows("sale.opportunity.stage", ["name"], [["name", "=", "Proposal"]])
    with pytest.raises(AssertionError, match="keeps its name"):
        crm.call("sale.opportunity.stage.write", [stage["id"]], {"name": "Offer"}, crm.context)


@pytest.fixture
def connector_of():
    """Connects ours to a Tryton."""
    made = []

    def connect(crm: Tryton):
        made.append(TrytonSettings(url=crm.url, database="crm", user="admin").open(PASSWORD))
        return made[-1]

    yield connect
    for connector in made:
        connector.close()
