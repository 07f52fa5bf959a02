"""What changes in a real Creme is told to dealcast: once each, as the next sync tells it, late if need be."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from creme_here import TOKEN, Creme, installation
from listening import Everything, listening
from showroom import until
from test_creme import HERE, now
from tryton_here import free_port

from crm.connectors.creme import CremeConnector, CremeSettings
from crm.store import read_tables

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(3600)]

KEY = "a-key-of-the-tests"


@pytest.fixture(scope="module")
def company(tmp_path_factory) -> Path:
    """A Creme's database with a dozen opportunities."""
    crm = Creme(installation(), tmp_path_factory.mktemp("company"))
    crm.run(HERE / "creme_company.py", {"count": 12, "seed": 3, "now": now()})
    return crm.database


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def crm(company, port, tmp_path) -> Iterator[Creme]:
    """The company's Creme, told where dealcast listens."""
    crm = Creme(installation(), tmp_path)
    shutil.copy(company, crm.database)
    crm.tells = {"DEALCAST_URL": f"http://127.0.0.1:{port}", "DEALCAST_KEY": KEY}
    with crm.running():
        yield crm


@pytest.fixture
def connector(crm) -> Iterator[CremeConnector]:
    connector = CremeSettings(url=crm.url).open(TOKEN)
    yield connector
    connector.close()


def done(crm: Creme, *steps: list) -> list:
    """What people did; the ids of what they made."""
    return crm.run(HERE / "creme_changes.py", steps)


def waiting(crm: Creme) -> list[str]:
    """Of each change that dealcast has not taken yet, why it was refused, empty if it was not."""
    with closing(sqlite3.connect(crm.database)) as connection:
        return [reason for (reason,) in connection.execute("SELECT refused FROM deal_score_change")]


def synced(connector: CremeConnector, since: str | None) -> dict[str, list[dict]]:
    """The rows that a sync brings."""
    rows: dict[str, list[dict]] = {}
    for batch in connector.fetch(since).batches:
        rows.setdefault(batch.table, []).extend(dict(row) for row in batch.rows)
    return rows


def some_deals(connector: CremeConnector) -> list[int]:
    rows = synced(connector, None)["deals"]
    return [int(row["deal_id"]) for row in rows if row["closed_at"] is None] + [
        int(row["deal_id"]) for row in rows if row["closed_at"]
    ]


def test_every_change_is_told_as_the_next_sync_tells_it(crm, port, connector):
    first, won, thrown, back, other, *_ = some_deals(connector)
    cursor = connector.fetch(None).cursor
    with listening(port) as listener:
        made = done(
            crm,
            ["change", first, 7700, "renamed"],
            ["move", first, "In progress"],
            ["move", won, "In progress"],
            ["move", won, "Won"],
            ["trash", thrown],
            ["trash", back],
            ["restore", back],
            ["retarget", other, "Customer 20"],
            ["fail", other],
            ["copy", first],
            ["meet", first],
        )
        rows = synced(connector, cursor)  # which wakes the sender, should the other process have ended too soon
        until(lambda: not waiting(crm))
        assert listener.keys == {KEY}
        told = list(listener.told().values())

    def of_table(table: str) -> list[dict]:
        return [event["row"] for event in told if event["table"] == table]

    def by_all(row: dict) -> list[tuple[str, str]]:
        return sorted((name, str(value)) for name, value in row.items())

    history = [row for row in rows["deal_history"] if row["changed_at"] >= cursor]
    assert sorted(of_table("deal_history"), key=by_all) == sorted(history, key=by_all)
    assert ("name", "renamed") in {(row["field"], row["new_value"]) for row in history}
    assert "never" not in str(told)
    deals = {row["deal_id"]: row for row in rows["deals"]}
    last = {row["deal_id"]: row for row in of_table("deals")}
    assert {str(each) for each in (won, thrown, back, other, made[9])} <= last.keys()
    assert all(row == deals[deal_id] for deal_id, row in last.items())
    assert last[str(thrown)]["deleted_at"] and not last[str(back)]["deleted_at"]
    assert of_table("activities")[-1] in rows["activities"]
    assert {row["activity_id"] for row in of_table("activities")} == {str(made[10])}


def test_while_dealcast_is_down_people_go_on_and_nothing_is_lost(crm, port, connector):
    deals = some_deals(connector)[:4]
    for place, deal in enumerate(deals):
        done(crm, ["change", deal, 100 + place, f"renamed {place}"])  # nobody listens
    assert len(waiting(crm)) == 4
    crm.stop()
    crm.start()
    with listening(port, [503, 500]) as listener:
        synced(connector, None)
        until(lambda: not waiting(crm))
        names = [event["row"]["new_value"] for event in listener.told().values() if event["row"]["field"] == "name"]
        assert names == [f"renamed {place}" for place in range(4)]


def test_what_is_refused_is_kept_with_the_reason_and_told_again_by_the_next_sync(crm, port, connector):
    deal, other, *_ = some_deals(connector)
    with listening(port) as listener:
        listener.refuses = Everything()
        done(crm, ["change", deal, 1, "first"])
        synced(connector, None)
        until(lambda: any(waiting(crm)))
        assert waiting(crm) == [waiting(crm)[0]] and "row.stage x: a stage" in waiting(crm)[0]
        listener.refuses = set()
        synced(connector, None)
        until(lambda: not waiting(crm))
        assert len(listener.told()) == 2 < len(listener.heard)  # the same words, told again


def test_what_changed_comes_with_the_next_sync_and_nothing_twice(crm, dealcast, monkeypatch, connector):
    monkeypatch.setenv("DEALCAST_CREME_TOKEN", TOKEN)
    dealcast("connect", "creme", f"url={crm.url}")
    moved, *_ = some_deals(connector)
    (gone,) = done(crm, ["copy", moved])  # Creme deletes for good only what no activity is about
    dealcast("sync")
    done(crm, ["move", moved, "Under negotiation"], ["delete", gone], ["retarget", moved, "Customer 21"])
    later = dealcast("sync")
    assert later["tables"]["deals"]["new"] == 0 and later["tables"]["deal_history"]["new"] == 1
    deals = read_tables(dealcast.workspace).get("deals").set_index("deal_id")
    assert deals.loc[str(moved), "stage"] == "Under negotiation"
    assert deals["deleted_at"].dropna().index.tolist() == [str(gone)]
    accounts = read_tables(dealcast.workspace).get("accounts").set_index("account_id")["name"]
    assert accounts[deals.loc[str(moved), "account_id"]] == "Customer 21"
    full = dealcast("sync", "--full")
    assert full["tables"]["deal_history"]["new"] == 0 == full["tables"]["deals"]["changed"]


def test_a_score_that_is_withdrawn_is_shown_no_more(crm, connector):
    deal, other, *_ = some_deals(connector)
    score = {"probability": 0.5, "low": 0.4, "high": 0.6, "change": 1.5, "reasons": ["because"], "model": "m"}
    asked = [{**score, "deal_id": str(each), "as_of": now()} for each in (deal, other)]
    assert crm.ask("scores", scores=asked) == {"refused": {}} == crm.ask("scores", scores=asked)
    connector.withdraw([str(deal)])
    connector.withdraw([str(deal)])
    with closing(sqlite3.connect(crm.database)) as connection:
        assert connection.execute("SELECT deal_id FROM deal_score_score").fetchall() == [(other,)]
