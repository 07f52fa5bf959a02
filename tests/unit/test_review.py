"""The review of a small company: cuts, weeks, calls and what became of them, all checked by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from forecast_company import EURO_QUARTERS, at, company, won

from crm.calendar import Calendar
from crm.history import build_history
from ledger.ledger import Publication, open_ledger
from models.forecaster import FORECAST_COLUMNS
from models.replays import published_nodes
from models.review import (
    REVIEW_COLUMNS,
    books_close_at,
    call_ratios,
    called_nodes,
    caller_record,
    final_bookings,
    latest_bookings,
    review_cuts,
    review_rows,
    week_of_period,
    with_actual,
)

QUARTER = EURO_QUARTERS.period_of(at("2026-05-15"))
LAST_QUARTER = EURO_QUARTERS.previous_period(QUARTER)
MONDAY = at("2026-04-13T09:00:00")


def call(user: str, period_start: str, submitted_at: str, amount: float, category: str = "commit") -> dict:
    row = {"user_id": user, "period_start": period_start, "submitted_at": submitted_at}
    return {**row, "category": category, "amount": amount}


CALLS = [
    call("m1", "2026-01-01", "2026-01-10", 500),
    call("m1", "2026-01-01", "2026-01-13", 9000),
    call("a", "2026-01-01", "2026-01-12", 100),
    call("m1", "2026-04-01", "2026-04-02", 1000),
    call("m1", "2026-04-01", "2026-04-02", 3000, "best_case"),
    call("a", "2026-04-01", "2026-04-03", 40),
    call("b", "2026-04-01", "2026-04-03", 60),
    call("a", "2026-04-01", "2026-04-14", 7777),
]
COMPANY = company(
    won("2026-03-01", created_at="2026-01-01", amount=250),
    won("2026-04-08", created_at="2026-01-01", amount=30),
    won("2026-05-02", created_at="2026-01-01", amount=70, owner_id="b"),
    {"created_at": "2026-01-01", "close_date": "2026-06-01"},
    as_of="2026-08-01",
    forecast_calls=CALLS,
)
HISTORY = build_history(COMPANY)


def rows_at(cut: pd.Timestamp, tables=COMPANY, history=HISTORY) -> pd.DataFrame:
    nodes, record = called_nodes(tables, history, cut, QUARTER), caller_record(tables, history, tables.as_of)
    return review_rows(tables, history, nodes, record, cut=cut, period=QUARTER, basis="replayed")


def value(rows: pd.DataFrame, forecaster: str, node: tuple[str, str], category: str | None = None) -> float:
    mine = rows[(rows["forecaster"] == forecaster) & (rows["node_type"] == node[0]) & (rows["node_id"] == node[1])]
    return mine.loc[mine["category"].isna() if category is None else mine["category"] == category, "value"].item()


def test_cuts_are_the_mondays_of_the_period_at_nine_local_time():
    assert review_cuts(EURO_QUARTERS, QUARTER, at("2026-04-20T09:00:00")) == [
        at("2026-04-06T09:00:00"),
        at("2026-04-13T09:00:00"),
        at("2026-04-20T09:00:00"),
    ]
    assert len(review_cuts(EURO_QUARTERS, QUARTER, at("2027-01-01"))) == 13
    assert review_cuts(EURO_QUARTERS, QUARTER, at("2026-04-06T08:59:59")) == []
    dutch = Calendar(base_currency="EUR", time_zone="Europe/Amsterdam")
    winter = dutch.period_of(at("2026-03-15"))
    assert review_cuts(dutch, winter, at("2026-04-01"))[-2:] == [at("2026-03-23T08:00:00"), at("2026-03-30T07:00:00")]


@pytest.mark.parametrize(("day", "week"), [("2026-04-01", 1), ("2026-04-07", 1), ("2026-04-08", 2), ("2026-06-30", 13)])
def test_the_week_of_the_period_counts_whole_local_days_from_its_start(day, week):
    assert week_of_period(EURO_QUARTERS, QUARTER, at(f"{day}T09:00:00")) == week


def test_what_a_period_brought_is_known_when_its_books_close():
    assert books_close_at(EURO_QUARTERS, QUARTER) == at("2026-07-11")
    assert final_bookings(COMPANY, HISTORY, QUARTER, at("2026-07-10T23:59:59")).empty
    brought = final_bookings(COMPANY, HISTORY, QUARTER, at("2026-07-11")).set_index(["node_type", "node_id"])["actual"]
    assert brought["company", "company"] == 100.0 and brought["rep", "b"] == 70.0 and brought["team", "T2"] == 0.0


def test_a_call_is_the_latest_of_the_nodes_head_up_to_the_cut_category_by_category():
    rows = rows_at(MONDAY)
    for node in (("team", "T1"), ("manager", "m1")):
        assert value(rows, "call", node, "commit") == 1000.0
        assert value(rows, "call", node, "best_case") == 3000.0
        assert value(rows, "call_rolled_up", node, "commit") == 40.0 + 60.0
    assert value(rows, "call", ("rep", "a"), "commit") == 40.0
    assert value(rows_at(at("2026-04-20T09:00:00")), "call", ("rep", "a"), "commit") == 7777.0
    callers = rows.loc[rows["forecaster"] == "call", ["node_id", "user_id"]]
    assert set(callers.itertuples(index=False, name=None)) == {("T1", "m1"), ("m1", "m1"), ("a", "a"), ("b", "b")}


def test_a_corrected_call_is_the_call_times_what_came_of_the_callers_calls_at_this_week():
    rows = rows_at(MONDAY)
    assert value(rows, "call_corrected", ("team", "T1"), "commit") == 1000 * 250 / 500
    assert value(rows, "call_corrected", ("rep", "a"), "commit") == 40 * 250 / 100
    corrected = rows[rows["forecaster"] == "call_corrected"]
    assert "b" not in set(corrected["node_id"]) and set(corrected["category"]) == {"commit"}


def test_a_callers_record_is_known_only_once_the_books_have_closed():
    assert not (rows_at(at("2026-04-06T09:00:00"))["forecaster"] == "call_corrected").any()
    record = caller_record(COMPANY, HISTORY, COMPANY.as_of)
    assert call_ratios(record, week=2, cut=at("2026-04-11")).to_dict() == {("a", "commit"): 2.5, ("m1", "commit"): 0.5}
    assert call_ratios(record, week=2, cut=at("2026-04-10T23:59:59")).empty
    assert call_ratios(record, week=3, cut=MONDAY)["m1", "commit"] == 250 / 9000


def test_ratios_are_of_sums_over_the_last_eight_closed_periods():
    starts = pd.date_range("2024-01-01", periods=9, freq="QS")
    record = pd.DataFrame({"period_start": starts, "closed_at": starts.tz_localize("UTC") + pd.Timedelta(days=100)})
    record = record.assign(week=2, user_id="m1", category="commit", called=10.0, actual=[999.0, 20.0, *[5.0] * 7])
    ratio = call_ratios(record, week=2, cut=at("2027-01-01"))
    assert ratio["m1", "commit"] == (20 + 7 * 5) / 80
    assert call_ratios(record.assign(called=0.0), week=2, cut=at("2027-01-01")).empty


def test_without_a_model_there_are_calls_and_baselines_and_no_model_row():
    rows = rows_at(MONDAY)
    assert set(rows["forecaster"]) == {
        *("call", "call_corrected", "call_rolled_up"),
        *("stage_weighted", "same_day_conversion", "last_period"),
    }
    assert value(rows, "stage_weighted", ("company", "company")) == 30 + 25 + 0.25 * 70
    assert value(rows, "last_period", ("rep", "a")) == 250.0
    assert rows["p10"].isna().all() and (rows["basis"] == "replayed").all()


def test_error_and_range_are_judged_against_the_final_bookings():
    node = {"node_type": "company", "node_id": "company", "scope": "all", "mean": 110.0, "p10": 90.0, "p90": 100.0}
    nodes = called_nodes(COMPANY, HISTORY, MONDAY, QUARTER)
    spoken = nodes.iloc[-1:].assign(**node)
    record = caller_record(COMPANY, HISTORY, COMPANY.as_of)
    rows = review_rows(COMPANY, HISTORY, spoken, record, cut=MONDAY, period=QUARTER, basis="published")
    judged = with_actual(rows, final_bookings(COMPANY, HISTORY, QUARTER, COMPANY.as_of))
    judged = judged[judged["node_type"] == "company"]
    model = judged[judged["forecaster"] == "model"].iloc[0]
    assert (model["value"], model["actual"], model["error"], model["basis"]) == (110.0, 100.0, 10.0, "published")
    assert model["inside_80"]
    baseline = judged[judged["forecaster"] == "last_period"].iloc[0]
    assert baseline["basis"] == "replayed" and pd.isna(baseline["inside_80"]) and baseline["error"] == 250.0 - 100.0
    open_books = with_actual(rows, final_bookings(COMPANY, HISTORY, QUARTER, at("2026-07-10")))
    assert open_books[["actual", "error", "inside_80"]].isna().all(axis=None)
    assert list(open_books)[: len(REVIEW_COLUMNS)] == list(REVIEW_COLUMNS)


def test_what_was_undone_after_the_books_closed_is_told_beside_and_judges_nobody():
    undone = {
        "deal_id": "deal-0",
        "changed_at": "2026-07-12",
        "field": "stage",
        "old_value": "Won",
        "new_value": "Open",
    }
    first = {**undone, "changed_at": "2026-05-02", "old_value": "Open", "new_value": "Won"}
    tables = company({"amount": 70}, won("2026-05-02", amount=30), deal_history=[first, undone], as_of="2026-08-01")
    history = build_history(tables)
    nodes = called_nodes(tables, history, MONDAY, QUARTER).assign(mean=80.0)
    record = caller_record(tables, history, tables.as_of)
    rows = review_rows(tables, history, nodes, record, cut=MONDAY, period=QUARTER, basis="replayed")
    asked = (tables, history, QUARTER, tables.as_of)
    judged = with_actual(rows, final_bookings(*asked), latest_bookings(*asked))
    model = judged[(judged["node_type"] == "company") & (judged["forecaster"] == "model")].iloc[0]
    assert (model["actual"], model["actual_latest"], model["error"]) == (100.0, 30.0, -20.0)
    assert latest_bookings(tables, history, QUARTER, at("2026-07-10")).empty


def forecast_row(as_of: pd.Timestamp, mean: float) -> pd.DataFrame:
    numbers = {"won_to_date": mean, "open_pipeline": 0.0, "not_yet_created": 0.0, "mean": mean}
    texts = {"scope": "all", "node_type": "company", "node_id": "company", "model_version": "m", "data_version": "d"}
    days = {"period_start": pd.Timestamp(QUARTER.start), "period_end": pd.Timestamp(QUARTER.end)}
    row = pd.DataFrame([{**numbers, **texts, **days, "as_of": as_of}]).reindex(columns=list(FORECAST_COLUMNS))
    return row.assign(p50=np.float64(mean))


def test_a_cut_takes_what_was_published_last_in_the_week_before_it_and_never_a_replay(tmp_path):
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    said = Publication("forecast", "published", at("2026-04-12"), at("2026-04-12T06:00:00"), "m", "d")

    def publish(mean: float, **change: object) -> None:
        head = replace(said, **change)
        ledger.publish_forecast(head, forecast_row(head.as_of, mean))

    publish(1.0, published_at=at("2026-04-06T08:59:59"), as_of=at("2026-04-06"))
    assert published_nodes(ledger, cut=MONDAY, period=QUARTER) is None
    publish(2.0, published_at=at("2026-04-06T09:00:00"), as_of=at("2026-04-06"))
    publish(3.0, basis="replayed")
    publish(4.0, published_at=at("2026-04-13T09:00:01"))
    assert published_nodes(ledger, cut=MONDAY, period=QUARTER)["mean"].item() == 2.0
    publish(5.0)
    assert published_nodes(ledger, cut=MONDAY, period=QUARTER)["mean"].item() == 5.0
    assert published_nodes(ledger, cut=MONDAY, period=LAST_QUARTER) is None


def test_the_last_override_of_a_node_submitted_by_the_cut_stands_beside_the_others(tmp_path):
    ledger = open_ledger(f"sqlite:///{tmp_path}/dealcast.db")
    said = {
        "period_start": pd.Timestamp(QUARTER.start),
        "deal_id": None,
        "key_id": "k",
        "model_seen": True,
        "note": None,
    }
    node = {**said, "node_type": "rep", "node_id": "a", "user_id": "m1"}
    deal = {**said, "node_type": None, "node_id": None, "deal_id": "d", "user_id": "m1", "value": 9.0}
    for when, value in (("2026-04-12", 70.0), ("2026-04-11", 50.0), ("2026-04-14", 90.0)):
        moment = {"submitted_at": at(when), "received_at": at(when)}
        ledger.submit_overrides([{**node, **moment, "value": value}, {**deal, **moment}])
    nodes = called_nodes(COMPANY, HISTORY, MONDAY, QUARTER)
    record = caller_record(COMPANY, HISTORY, COMPANY.as_of)
    overrides = ledger.overrides(period_start=pd.Timestamp(QUARTER.start))
    at_cut = {"cut": MONDAY, "period": QUARTER, "basis": "replayed", "overrides": overrides}
    rows = review_rows(COMPANY, HISTORY, nodes, record, **at_cut)
    (found,) = rows[rows["forecaster"] == "override"].to_dict("records")
    assert (found["node_type"], found["node_id"], found["user_id"]) == ("rep", "a", "m1")
    assert (found["value"], found["basis"]) == (70.0, "published") and pd.isna(found["category"])
    others = rows[rows["forecaster"] != "override"].reset_index(drop=True)
    pd.testing.assert_frame_equal(others, rows_at(MONDAY))
