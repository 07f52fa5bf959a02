"""The ledger keeps what was said: append-only, by basis, on SQLite and PostgreSQL alike."""

import json
import multiprocessing
import time

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from ledger.database import absolute_url, open_engine
from ledger.errors import LedgerError, LedgerUnavailable
from ledger.ledger import Publication, open_ledger
from ledger.tables import metadata

MONDAY = pd.Timestamp("2026-01-05", tz="UTC")
WEEK = pd.Timedelta(days=7)


def head(kind="scores", *, as_of=MONDAY, published_at=None, basis="published", model="m1"):
    return Publication(kind, basis, as_of, as_of if published_at is None else published_at, model, "000001")


def scores(said: Publication, probabilities: dict[str, float]) -> pd.DataFrame:
    win = pd.Series(probabilities, dtype="float64")
    return pd.DataFrame(
        {
            "deal_id": pd.Series(win.index, dtype="str"),
            "as_of": said.as_of,
            "period_start": pd.Timestamp("2026-01-01"),
            "period_end": pd.Timestamp("2026-04-01"),
            "win_probability": win.to_numpy(),
            "win_probability_low": win.to_numpy() / 2,
            "win_probability_high": (1 + win.to_numpy()) / 2,
            "period_win_probability": win.to_numpy() / 4,
            "period_loss_probability": 0.25,
            "period_slip_probability": 0.75 - win.to_numpy() / 4,
            "next_period_win_probability": win.to_numpy() / 4,
            "expected_close_date": pd.Timestamp("2026-02-11"),
            "amount_base": [np.nan] + [1000.5] * (len(win) - 1),
            "amount_source": "estimated",
            "expected_amount": 1234.56,
            "score_change": np.nan,
            "score_change_since": pd.Series(pd.NaT, index=range(len(win)), dtype="datetime64[us, UTC]"),
            "reasons": [[{"feature": "stage", "text": "in Proposal since 3 days", "effect": 12.5}]] * len(win),
            "model_version": said.model_version,
            "data_version": said.data_version,
        }
    )


def nodes(said: Publication, *, p50=100.0) -> pd.DataFrame:
    numbers = dict.fromkeys(["p05", "p10", "p25", "p50", "p75", "p90", "p95", "mean"], p50)
    shared = {"as_of": said.as_of, "period_start": pd.Timestamp("2026-01-01"), "period_end": pd.Timestamp("2026-04-01")}
    row = {**shared, "scope": "all", "won_to_date": 10.0, "open_pipeline": 60.0, "not_yet_created": 30.0, **numbers}
    company = {**row, "node_type": "company", "node_id": "company", "node_name": "Acme", "quota": 500.0}
    rep = {**row, "node_type": "rep", "node_id": "0051", "node_name": "Ann", "parent_type": "team", "parent_id": "East"}
    called = {
        "call_commit": 80.0,
        "call_user_id": "0051",
        "call_submitted_at": pd.Timestamp("2026-01-04 10:00", tz="UTC"),
    }
    frame = pd.DataFrame([company, {**rep, **called}])
    return frame.assign(model_version=said.model_version, data_version=said.data_version)


def publish(ledger, probabilities, **said):
    return ledger.publish_scores(head(**said), scores(head(**said), probabilities))


def test_scores_come_back_exactly_as_they_were_published(ledger):
    frame = scores(head(), {"006A": 0.1 + 0.2, "006B": 1e-9})
    said = ledger.publish_scores(head(), frame)
    latest, read = ledger.latest_scores()
    assert latest == said
    frame["reasons"] = frame["reasons"].map(list)
    pd.testing.assert_frame_equal(read, frame, check_dtype=False, check_exact=True)
    assert str(read["as_of"].dtype) == str(read["score_change_since"].dtype) == "datetime64[us, UTC]"
    assert read["amount_base"].dtype == "float64" and read["deal_id"].dtype == "str"


def test_reasons_given_as_json_text_come_back_as_lists(ledger):
    frame = scores(head(), {"006A": 0.5}).assign(reasons=json.dumps([]))
    ledger.publish_scores(head(), frame)
    assert ledger.latest_scores()[1]["reasons"].tolist() == [[]]


def test_a_forecast_comes_back_without_names_and_with_unknown_left_unknown(ledger):
    said = ledger.publish_forecast(head("forecast"), nodes(head("forecast")))
    latest, read = ledger.latest_forecast(pd.Timestamp("2026-01-01"))
    assert latest == said
    assert "node_name" not in read
    company, rep = read.iloc[0], read.iloc[1]
    assert (company["node_id"], company["mean"], company["quota"]) == ("company", 100.0, 500.0)
    assert pd.isna(company["call_commit"]) and pd.isna(company["parent_id"]) and pd.isna(company["call_submitted_at"])
    assert (rep["parent_id"], rep["call_commit"]) == ("East", 80.0)
    assert rep["call_submitted_at"] == pd.Timestamp("2026-01-04 10:00", tz="UTC")
    assert ledger.latest_forecast(pd.Timestamp("2026-04-01")) is None


@pytest.mark.parametrize("table", ["publication", "score_entry", "forecast_entry"])
@pytest.mark.parametrize("statement", ["UPDATE {t} SET publication_id = publication_id", "DELETE FROM {t}"])
def test_what_was_said_can_be_neither_changed_nor_deleted(ledger, table, statement):
    publish(ledger, {"006A": 0.5})
    ledger.publish_forecast(head("forecast"), nodes(head("forecast")))
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), ledger.engine.begin() as connection:
        connection.exec_driver_sql(statement.format(t=table))


def test_what_was_said_cannot_be_replaced_by_inserting_it_again(tmp_path):
    ledger = open_ledger(f"sqlite:///{tmp_path}/dealcast.db")
    publish(ledger, {"006A": 0.5})
    for table in ("publication", "score_entry"):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), ledger.engine.begin() as connection:
            connection.exec_driver_sql(f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}")


def test_publishing_twice_keeps_both_and_the_later_stands(ledger):
    publish(ledger, {"006A": 0.5})
    publish(ledger, {"006A": 0.6}, published_at=MONDAY + pd.Timedelta(hours=1), model="m2")
    publish(ledger, {"006A": 0.7}, published_at=MONDAY + pd.Timedelta(hours=1), model="m3")
    assert ledger.latest_scores()[1]["win_probability"].tolist() == [0.7]
    assert ledger.latest_scores(MONDAY)[1]["win_probability"].tolist() == [0.5]
    assert ledger.latest_scores(MONDAY - WEEK) is None
    history = ledger.score_history("006A")
    assert history["win_probability"].tolist() == [0.5, 0.6, 0.7]
    assert history["model_version"].tolist() == ["m1", "m2", "m3"]


def test_replayed_and_published_are_never_pooled(ledger):
    publish(ledger, {"006A": 0.5})
    later = MONDAY + 4 * WEEK
    publish(ledger, {"006A": 0.9}, basis="replayed", published_at=later)
    ledger.publish_forecast(head("forecast"), nodes(head("forecast")))
    replay = head("forecast", basis="replayed", published_at=later)
    ledger.publish_forecast(replay, nodes(replay, p50=777.0))
    assert ledger.latest_scores()[1]["win_probability"].tolist() == [0.5]
    assert ledger.latest_scores(MONDAY, basis="replayed")[1]["win_probability"].tolist() == [0.9]
    assert ledger.score_history("006A")["win_probability"].tolist() == [0.5]
    assert ledger.scores_published_before(later)["win_probability"].tolist() == [0.5]
    assert ledger.latest_forecast()[1]["p50"].tolist() == [100.0, 100.0]
    assert ledger.latest_forecast(at=MONDAY, basis="replayed")[1]["p50"].tolist() == [777.0, 777.0]


def test_the_score_to_compare_with_is_the_last_one_for_a_moment_early_enough(ledger):
    publish(ledger, {"006A": 0.1, "006B": 0.2}, as_of=MONDAY)
    publish(ledger, {"006A": 0.3}, as_of=MONDAY + WEEK)
    publish(ledger, {"006A": 0.4, "006C": 0.5}, as_of=MONDAY + 2 * WEEK)
    before = ledger.scores_published_before(MONDAY + WEEK).set_index("deal_id")
    assert before["win_probability"].to_dict() == {"006A": 0.3, "006B": 0.2}
    assert before.loc["006A", "as_of"] == MONDAY + WEEK
    assert before["model_version"].tolist() == [head().model_version] * 2
    assert ledger.scores_published_before(MONDAY + WEEK, ["006B"])["deal_id"].tolist() == ["006B"]
    assert ledger.scores_published_before(MONDAY - WEEK).empty


def test_rows_of_another_moment_than_the_head_are_refused(ledger):
    with pytest.raises(ValueError, match="as_of"):
        ledger.publish_scores(head(), scores(head(as_of=MONDAY + WEEK), {"006A": 0.5}))
    assert ledger.publications("scores", basis="published") == []


def test_a_publication_that_fails_half_way_leaves_nothing(ledger):
    frame = scores(head(), {"006A": 0.5, "006B": 0.5})
    frame["deal_id"] = "006A"  # the second row breaks the key
    with pytest.raises(sa.exc.DBAPIError):
        ledger.publish_scores(head(), frame)
    assert ledger.latest_scores() is None


def test_nothing_to_score_is_published_as_nothing(ledger):
    said = ledger.publish_scores(head(), scores(head(), {"006A": 0.5}).iloc[:0])
    latest, read = ledger.latest_scores()
    assert latest == said and said.period_start is None
    assert read.empty and "win_probability" in read


def test_a_thousand_deals_are_published_within_a_second(ledger):
    frame = scores(head(), {f"006{n:05d}": n / 1000 for n in range(1000)})
    started = time.perf_counter()
    ledger.publish_scores(head(), frame)
    assert time.perf_counter() - started < 1.0
    assert len(ledger.latest_scores()[1]) == 1000


def write_many(url: str, name: str) -> None:
    ledger = open_ledger(url)
    for n in range(20):
        publish(ledger, {f"{name}{n}": 0.5, "shared": 0.5}, model=name)
    ledger.engine.dispose()


def test_two_processes_that_start_and_write_at_once_lose_nothing(url):
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=write_many, args=(url, name)) for name in ("one", "two")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    ledger = open_ledger(url)
    assert len(ledger.publications("scores", basis="published")) == 40
    assert ledger.score_history("shared")["model_version"].value_counts().to_dict() == {"one": 20, "two": 20}
    ledger.engine.dispose()


def test_sqlite_writes_ahead_so_that_readers_never_wait(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path}/new/dealcast.db")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_the_migrations_make_the_tables_that_the_code_reads(url):
    engine = open_engine(url)
    made = sa.inspect(engine)
    assert set(made.get_table_names()) == set(metadata.tables) | {"alembic_version"}
    for table in metadata.tables.values():
        columns = {c["name"]: (c["type"].compile(engine.dialect), c["nullable"]) for c in made.get_columns(table.name)}
        assert columns == {c.name: (c.type.compile(engine.dialect), c.nullable) for c in table.columns}
        assert {i["name"] for i in made.get_indexes(table.name) if not i["unique"]} == {i.name for i in table.indexes}
    engine.dispose()


@pytest.mark.parametrize("wrong", ["mysql://host/name", "not a url", "oracle://host/name"])
def test_another_kind_of_database_is_refused_with_what_would_work(wrong):
    with pytest.raises(LedgerError) as refused:
        open_ledger(wrong)
    assert ["sqlite:///" in detail.rule for detail in refused.value.details] == [True]


def test_a_url_for_another_process_names_the_whole_path_and_keeps_its_password(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_url("sqlite:///here.db") == f"sqlite:///{tmp_path}/here.db"
    assert absolute_url("postgresql://user:hunter2@host/name") == "postgresql+psycopg://user:hunter2@host/name"


def test_a_database_that_cannot_be_reached_is_named_without_its_password(tmp_path):
    with pytest.raises(LedgerUnavailable) as refused:
        open_ledger(f"postgresql://user:hunter2@/name?host={tmp_path}")
    assert str(tmp_path) in refused.value.message and "hunter2" not in refused.value.message
    with pytest.raises(LedgerUnavailable):
        open_ledger(f"sqlite:///{tmp_path}")  # a folder


def test_a_ledger_of_a_newer_dealcast_is_left_alone(tmp_path):
    url = f"sqlite:///{tmp_path}/dealcast.db"
    with open_engine(url).begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(LedgerUnavailable, match="newer dealcast"):
        open_ledger(url)
