"""A warehouse, on SQLite or on PostgreSQL, brings what its tables hold, and the next time what was loaded since."""

from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from commercial_crms import SALESFORCE, assert_is_the_company
from fivetran_tables import as_fivetran_lands_it, load
from invented_company import invented_company
from what_stands import open_ids, publish

from crm.connectors.warehouse import _Shelf
from crm.ingest import import_folder
from crm.mapping import load_mapping
from crm.store import read_tables
from crm.versions import current_version

pytestmark = pytest.mark.slow


ON_SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
"""For what has nothing to do with the kind of database."""


@pytest.fixture
def warehouse(url):
    """An engine on a database of the test's own, of each kind."""
    engine = sa.create_engine(sa.make_url(url.replace("postgresql:", "postgresql+psycopg:")))
    yield engine
    engine.dispose()


def connect(dealcast, warehouse, *words: str, **how: int) -> dict[str, Any]:
    return dealcast("connect", "warehouse", f"database={warehouse.url.render_as_string()}", *words, **how)


@pytest.mark.parametrize(("url", "in_one_table"), [("sqlite", False), ("postgresql", True)], indirect=["url"])
def test_deals_with_their_history_come_and_then_what_was_loaded_since(warehouse, dealcast, in_one_table):
    company = invented_company(24)
    load(warehouse, as_fivetran_lands_it(company, in_one_table=in_one_table))
    found = connect(dealcast, warehouse)
    assert "fivetran_salesforce" in found["system"] and found["tables"]["activities"] == len(company.calls)
    dealcast("sync")
    assert_is_the_company(read_tables(dealcast.workspace), company, SALESFORCE)
    company.move(company.open_ones()[0], "Signed")
    company.delete(company.open_ones()[1])
    company.add()
    load(warehouse, as_fivetran_lands_it(company, in_one_table=in_one_table))
    after = dealcast("sync")
    # What was loaded within the six hours before counts as loaded since.
    assert after["tables"]["deals"]["read"] < len(company.deals) and after["tables"]["deals"]["new"] == 1
    assert_is_the_company(read_tables(dealcast.workspace), company, SALESFORCE)


@pytest.mark.parametrize(
    ("url", "named"), [("sqlite", "fivetran_salesforce"), ("postgresql", "fivetran_hubspot")], indirect=["url"]
)
def test_the_published_examples_come_out_as_their_files_do(warehouse, dealcast, shared, named, tmp_path):
    examples = {
        path.stem: pd.read_csv(path, dtype="str") for path in (shared / "data/export_formats" / named).glob("*.csv")
    }
    if named == "fivetran_hubspot":  # whose deals have no stage, for which each of them would be refused
        stage = examples["deal_pipeline_stage_data"]["stage_id"][0]
        examples["deal_data"] = examples["deal_data"].fillna({"deal_pipeline_stage_id": stage})
    folder = tmp_path / "export"
    folder.mkdir()
    for name, frame in examples.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
        for column in frame.columns.intersection(["_fivetran_synced"]):
            frame[column] = pd.to_datetime(frame[column], format="mixed")
    load(warehouse, examples)
    connect(dealcast, warehouse)
    dealcast("sync")
    synced = read_tables(dealcast.workspace)
    import_folder(tmp_path / "files", folder, full=False, now=synced.as_of, mapping=load_mapping(named))
    imported = read_tables(tmp_path / "files")
    assert synced.tables.keys() == imported.tables.keys()
    for name, frame in imported.tables.items():
        columns = [column for column in frame if column != "_sequence"]
        by = list(frame.columns[:4])
        one, other = (each[columns].sort_values(by, ignore_index=True) for each in (synced.get(name), frame))
        pd.testing.assert_frame_equal(one, other)


def test_tables_like_the_contracts_are_read_as_they_are(warehouse, dealcast):
    deals = pd.DataFrame(
        {"deal_id": ["007"], "created_at": [pd.Timestamp("2026-01-05 09:00")], "stage": ["Talk"], "amount": [5.5]}
        | {"close_date": [pd.Timestamp("2026-03-01").date()], "region": ["North"]}
    )
    stages = pd.DataFrame({"stage": ["Talk"], "sort_order": [1], "is_closed": [False], "is_won": [False]})
    load(warehouse, {"deals": deals, "stages": stages, "unrelated": deals})
    connect(dealcast, warehouse)
    dealcast("sync")
    row = read_tables(dealcast.workspace).get("deals").iloc[0]
    assert (row["deal_id"], row["amount"], row["region"]) == ("007", 5.5, "North")
    assert f"{row['close_date']:%Y-%m-%d}" == "2026-03-01"


@ON_SQLITE
def test_a_column_that_comes_or_goes_is_told(warehouse, dealcast):
    tables = as_fivetran_lands_it(invented_company(6))
    load(warehouse, tables)
    connect(dealcast, warehouse)
    assert dealcast("sync")["notes"] == []
    load(warehouse, tables | {"opportunity": tables["opportunity"].drop(columns="amount").assign(lead_source="Fair")})
    notes = dealcast("sync", "--full")["notes"]
    assert {"what": "opportunity.amount", "because": "is gone"} in notes
    assert {"what": "opportunity.lead_source", "because": "is new"} in notes


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_line_that_breaks_changes_nothing_and_the_next_sync_goes_on(warehouse, dealcast, monkeypatch):
    company = invented_company(24)
    load(warehouse, as_fivetran_lands_it(company))
    connect(dealcast, warehouse)
    end_our_lines_at(warehouse, monkeypatch, "task")
    failure = dealcast("sync", exits=5)["error"]
    assert failure["code"] == "unavailable" and current_version(dealcast.workspace) is None
    monkeypatch.undo()
    dealcast("sync")
    assert_is_the_company(read_tables(dealcast.workspace), company, SALESFORCE)


def end_our_lines_at(warehouse: sa.Engine, monkeypatch, table: str) -> None:
    """PostgreSQL itself ends the reader's connection when it comes to a table."""
    ask = _Shelf.query

    def ended(shelf: Any, name: str, start: Any) -> Any:
        if name == table:
            with warehouse.begin() as connection:
                connection.exec_driver_sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
        return ask(shelf, name, start)

    monkeypatch.setattr(_Shelf, "query", ended)


@ON_SQLITE
def test_a_warehouse_takes_no_scores(warehouse, dealcast):
    load(warehouse, as_fivetran_lands_it(invented_company(24)))
    assert connect(dealcast, warehouse)["writes_to"] is None
    dealcast("sync")
    publish(dealcast.workspace, open_ids(dealcast.workspace), 0.4)
    assert "score --out" in dealcast("push", exits=2)["error"]["details"][0]["next_step"]


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("postgresql+psycopg://me:hunter2@127.0.0.1/x", "no password in it"),
        ("nosuch://127.0.0.1/x", "install the driver"),
        ("rubbish", "dialect+driver"),
    ],
)
def test_an_address_that_cannot_be_used_is_told_with_the_rule(dealcast, address, told):
    failure = dealcast("connect", "warehouse", f"database={address}", exits=2)["error"]
    assert told in str(failure) and "hunter2" not in str(failure)


@ON_SQLITE
def test_tables_that_are_not_recognised_are_named(warehouse, dealcast):
    load(warehouse, {"orders": pd.DataFrame({"a": [1]})})
    failure = connect(dealcast, warehouse, exits=2)["error"]
    assert "orders" in failure["details"][0]["value"] and "tables_in" in failure["details"][0]["next_step"]
