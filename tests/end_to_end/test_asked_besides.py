"""What may be asked of a forecast besides: why it moved, what a quota takes, what would be if deals were otherwise."""

import json
import shutil
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from serving_here import NOW, until, url_of
from starlette.testclient import TestClient

from crm.bookings import bookings_by_node
from crm.history import build_history
from crm.store import read_tables, write_version
from crm.versions import import_lock
from ledger.ledger import Publication, open_ledger
from models.forecaster import QUANTILES, forecast_nodes
from serving.api import create_api

pytestmark = pytest.mark.slow

DAYS = 14


@pytest.fixture(scope="module")
def asked(trained, tmp_path_factory):
    """Ask the service of a workspace in which the same model had published a forecast two weeks before."""
    workspace = Path(shutil.copytree(trained, tmp_path_factory.mktemp("besides") / "workspace"))
    tables = with_quotas(workspace)
    ledger = open_ledger(url_of(workspace))
    with served(workspace, ledger) as post:
        first = post({})
        publish_before(ledger, tables, first)
        yield post


def with_quotas(workspace: Path):
    """Quotas for everybody, some thousands above what they and those below them have won."""
    tables = read_tables(workspace)
    period = tables.calendar.period_of(tables.as_of)
    booked = bookings_by_node(tables, build_history(tables), tables.as_of, period)
    booked = booked[booked["node_type"].isin(["rep", "manager"])].set_index("node_id")["booked"]
    users = tables.get("users")["user_id"]
    wanted = users.map(booked[~booked.index.duplicated(keep="last")]).fillna(0.0).to_numpy() + 5_000.0
    quotas = tables.get("quotas").iloc[:0].reindex(range(len(users)))
    quotas = quotas.assign(user_id=users.to_numpy(), period_start=pd.Timestamp(period.start), amount=wanted)
    quotas["currency"] = tables.calendar.base_currency
    tables = tables.with_tables(quotas=quotas.astype(tables.get("quotas").dtypes.to_dict()))
    with import_lock(workspace):
        write_version(workspace, tables, changed={"quotas"}, stages_derived=False, currency_given=True)
    return tables


def publish_before(ledger, tables, answer) -> None:
    """The present numbers, as if they had been published two weeks before: they tell which model spoke then."""
    at = tables.as_of - timedelta(days=DAYS)
    head = Publication("forecast", "published", at, at, answer["model_version"], answer["data_version"])
    nodes = pd.DataFrame(answer["nodes"]).assign(as_of=at)
    nodes["call_submitted_at"] = pd.to_datetime(nodes["call_submitted_at"], utc=True)
    ledger.publish_forecast(head, nodes)


@contextmanager
def served(workspace: Path, ledger):
    """A function that asks for a forecast, with the eyes of a user or of everybody."""
    with TestClient(create_api(workspace, url_of(workspace))) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        secrets: dict[str | None, str] = {}

        def post(body, user=None, status=200):
            if user not in secrets:
                secrets[user], _ = ledger.create_key(f"of {user}", ["read", "what_if"], now=NOW, user_id=user)
            answer = client.post("/v1/forecast", json=body, headers={"x-api-key": secrets[user]})
            assert answer.status_code == status, answer.text
            return json.loads(answer.text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))

        post.app = client.app
        yield post


def since(asked) -> str:
    return (asked.app.state.follower.state.as_of - timedelta(days=DAYS)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_forecast_says_why_it_moved_to_the_cent(asked):
    answer = asked({"since": since(asked)})
    assert answer["since"] == {"as_of": since(asked), "model_version": answer["model_version"]}
    moved = pd.DataFrame(answer["moved"])
    now = pd.DataFrame(answer["nodes"]).set_index(["node_type", "node_id"])["mean"]
    for node, bars in moved.groupby(["node_type", "node_id"]):
        assert bars["amount"].sum() == pytest.approx(bars["later"].iloc[0] - bars["earlier"].iloc[0], abs=0.005)
        assert bars["later"].iloc[0] == pytest.approx(now[node])
    assert "model" not in set(moved["cause"]) and {"time", "lost"} <= set(moved["cause"])
    assert asked({"since": "2024-06-01"}, status=422)["error"]["details"][0]["where"] == "since"


def test_nobody_is_told_of_a_move_or_a_gap_that_they_may_not_see(asked):
    everything = asked({"since": since(asked), "gap": True})
    state = asked.app.state.follower.state
    rep = next(node["node_id"] for node in everything["gap"] if node["node_type"] == "rep" and node["deals"])
    mine = asked({"since": since(asked), "gap": True}, user=rep)
    assert {(row["node_type"], row["node_id"]) for row in mine["moved"] + mine["gap"]} == {("rep", rep)}
    for row in mine["moved"] + mine["gap"]:
        assert all(state.owner_of[deal["deal_id"]] == rep for deal in row["deals"])
    foreign = next(deal for deal, owner in state.owner_of.items() if owner != rep and deal in state.score_of)
    error = asked({"what_if": [{"deal_id": foreign, "drop": True}]}, user=rep, status=404)["error"]
    assert error["details"][0]["where"] == "what_if[0].deal_id"


def test_a_quota_says_which_of_the_deals_expected_in_the_period_it_takes(asked):
    answer = asked({"gap": True})
    gaps = answer["gap"]
    assert {gap["node_type"] for gap in gaps} >= {"company", "team", "rep"}
    for gap in gaps:
        assert gap["gap"] == pytest.approx(max(gap["quota"] - gap["won_to_date"], 0.0))
        amounts = [deal["expected_amount"] for deal in gap["deals"]]
        assert amounts == sorted(amounts, reverse=True)
        if gap["needed"]:
            assert sum(amounts[: gap["needed"]]) >= gap["gap"] > sum(amounts[: gap["needed"] - 1])
    assert any(gap["needed"] for gap in gaps) and "what_if" not in answer


def test_what_would_be_without_a_deal_is_a_forecast_computed_without_it(asked):
    state = asked.app.state.follower.state
    period = state.tables.calendar.period_of(state.as_of)
    deal_id = state.scores.sort_values("period_win_probability")["deal_id"].iloc[-1]
    answer = asked({"what_if": [{"deal_id": deal_id, "drop": True}]})
    scores = state.scores[state.scores["deal_id"] != deal_id]
    anew = forecast_nodes(
        state.bundle, state.tables, state.history, scores, as_of=state.as_of, period=period
    ).set_index(["node_type", "node_id"])
    told = pd.DataFrame(answer["what_if"]["nodes"]).set_index(["node_type", "node_id"]).loc[anew.index]
    for name in ("mean", "open_pipeline", *QUANTILES, "probability_of_quota"):
        np.testing.assert_allclose(told[name].astype(float), anew[name].astype(float), atol=1e-6)
    (deal,) = answer["what_if"]["deals"]
    score = state.score_of[deal_id]
    assert deal["would_be"] is None and deal["period_win_probability"] == score["period_win_probability"]


def test_a_close_date_moved_out_of_the_period_and_an_amount_are_answered_by_the_model(asked):
    state = asked.app.state.follower.state
    measure, today = state.tables.calendar.measure, state.tables.calendar.local_day(state.as_of)
    due = state.tables.get("deals").set_index("deal_id").loc[list(state.score_of)]
    end = pd.Timestamp(state.tables.calendar.period_of(state.as_of).end)
    inside = due[(due["close_date"] < end) & due[measure].notna()].index
    chances = state.scores.set_index("deal_id").loc[inside, "period_win_probability"]
    deal_id = chances.idxmax()
    much_later = str(today + timedelta(days=200))
    answer = asked({"node_type": "company", "what_if": [{"deal_id": deal_id, "close_date": much_later}]})
    (deal,), (would,), (now,) = answer["what_if"]["deals"], answer["what_if"]["nodes"], answer["nodes"]
    assert deal["would_be"]["period_win_probability"] < deal["period_win_probability"]
    moved = sum(
        sign * each["period_win_probability"] * each["expected_amount"]
        for sign, each in ((1, deal["would_be"]), (-1, deal))
    )
    assert would["mean"] - now["mean"] == pytest.approx(moved, abs=0.005)
    answer = asked({"what_if": [{"deal_id": deal_id, "amount": 2.0 * float(due.loc[deal_id, measure])}]})
    deal = answer["what_if"]["deals"][0]
    assert deal["would_be"]["expected_amount"] == pytest.approx(2 * deal["expected_amount"], rel=0.2)


def test_a_deal_supposed_to_be_as_it_is_scores_as_it_does(asked):
    state = asked.app.state.follower.state
    deals = state.tables.get("deals").set_index("deal_id")
    deal_id = next(each for each in state.score_of if pd.notna(deals.loc[each, "close_date"]))
    same = str(deals.loc[deal_id, "close_date"].date())
    (deal,) = asked({"what_if": [{"deal_id": deal_id, "close_date": same}]})["what_if"]["deals"]
    for name in ("period_win_probability", "expected_amount"):
        assert deal["would_be"][name] == pytest.approx(deal[name], rel=1e-9)


def test_what_cannot_be_supposed_is_refused_with_the_rule(asked):
    state = asked.app.state.follower.state
    closed, open_id = next(iter(set(state.closing_of) - set(state.score_of))), next(iter(state.score_of))
    wrong = [{"deal_id": closed, "drop": True}, {"deal_id": open_id}, {"deal_id": open_id, "drop": True, "amount": 1.0}]
    details = asked({"what_if": wrong}, status=422)["error"]["details"]
    assert [detail["where"] for detail in details] == [
        *("what_if[0].deal_id", "what_if[1]", "what_if[2].deal_id", "what_if[2]")
    ]
