"""What would be, asked over HTTP: deals as they are, edited, new, unreadable, and as they were."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from serving_here import NOW, another_model, until, url_of
from starlette.testclient import TestClient

from crm.history import open_deals
from crm.plain import to_plain
from crm.store import read_tables
from crm.truncation import truncate_export
from features.catalogue import BY_NAME
from ledger.ledger import open_ledger
from models.bundle import bundle_for
from models.scorer import score_deals
from serving.api import create_api
from serving.schema import SCORE_COLUMNS, WhatIfRequest, rows_of
from serving.state import load_state
from serving.what_if import answer_what_if

pytestmark = pytest.mark.slow


PARTS = {"history": "deal_history", "activities": "activities", "contacts": "deal_contacts"}


def rows_in(table: pd.DataFrame, deal_id: str) -> list[dict]:
    shown = table[table["deal_id"] == deal_id]
    return rows_of(shown, [name for name in shown if not name.startswith("_")])


def proposal_of(tables, deal_id: str) -> dict:
    """A stored deal as a caller would send it, unchanged."""
    parts = {part: rows_in(tables.get(table), deal_id) for part, table in PARTS.items()}
    return {"deal": rows_in(tables.get("deals"), deal_id)[0], **parts}


@pytest.fixture(scope="module")
def asking(trained, tmp_path_factory):
    """A function that asks what would be, with the company's eyes or a user's: the answer's document."""
    copy = Path(shutil.copytree(trained, tmp_path_factory.mktemp("asked") / "workspace"))
    ledger = open_ledger(url_of(copy))
    users = read_tables(copy).get("users")["user_id"]
    eyes = {None: ledger.create_key("asker", ["what_if"], now=NOW)[0]}
    eyes |= {user: ledger.create_key(user, ["what_if"], user_id=user, now=NOW)[0] for user in users}
    with TestClient(create_api(copy, url_of(copy))) as client:
        until(lambda: client.get("/readyz").status_code == 200)

        def ask(*deals: dict, viewer: str | None = None, status: int = 200, **more) -> dict:
            body = {"deals": list(deals), **more}
            answer = client.post("/v1/what_if", json=body, headers={"x-api-key": eyes[viewer]})
            assert answer.status_code == status, answer.text
            return answer.json()

        yield ask


def test_a_deal_proposed_as_it_is_has_its_stored_score(asking, view):
    tables, _, bundle, scores = view
    proposed = [proposal_of(tables, deal_id) for deal_id in scores["deal_id"].iloc[:60]]
    answer = asking(*proposed)
    assert list(answer) == ["as_of", "model_version", "data_version", "scores", "errors"] and answer["errors"] == []
    assert answer["model_version"] == bundle.model_version and answer["data_version"] == tables.data_version
    expected = rows_of(scores.iloc[:60], SCORE_COLUMNS)
    for index, (score, stored) in enumerate(zip(answer["scores"], expected, strict=True)):
        assert (score.pop("index"), score.pop("warnings")) == (index, [])
        assert score == stored
    alone = asking(proposed[7])["scores"][0]
    assert {**alone, "index": 7} == {**expected[7], "index": 7, "warnings": []}


def test_an_edit_moves_the_score_and_nothing_is_stored(asking, view):
    tables, _, _, scores = view
    stages = tables.get("stages")
    last_open = stages[~stages["is_closed"].astype(bool)].sort_values("sort_order")["stage"].iloc[-1]
    deals = tables.get("deals")
    early = deals[deals["deal_id"].isin(scores["deal_id"]) & (deals["stage"] != last_open)]
    deal_id = early["deal_id"].iloc[0]
    proposed = proposal_of(tables, deal_id)
    as_of = to_plain(tables.as_of)
    moved = {"deal_id": deal_id, "changed_at": as_of, "field": "stage"}
    moved |= {"old_value": proposed["deal"]["stage"], "new_value": last_open}
    edited = {**proposed, "deal": {**proposed["deal"], "stage": last_open}, "history": [*proposed["history"], moved]}
    (before,) = asking(proposed)["scores"]
    (after,) = asking(edited)["scores"]
    assert after["win_probability"] != before["win_probability"] and after["deal_id"] == deal_id
    assert asking(proposed)["scores"] == [before]


def test_a_new_deal_is_scored_and_what_nobody_knows_is_warned_of(asking, view):
    tables, _, _, scores = view
    stored = proposal_of(tables, scores["deal_id"].iloc[0])["deal"]
    given = ("created_at", "stage", "amount", "currency", "close_date", "account_id", "owner_id")
    fields = {name: stored[name] for name in given}
    plainly = {"deal": {"deal_id": "new 1", **fields}}
    strange = {"deal": {"deal_id": "new 2", **fields, "owner_id": "U?", "account_id": "A?", "colour": "red"}}
    answer = asking(plainly, strange)
    first, second = answer["scores"]
    assert first["warnings"] == [] and first["score_change"] is None and 0 < first["win_probability"] < 1
    assert first["amount_base"] is not None or stored["amount"] is None
    for word in ("U?", "A?", "colour"):
        assert sum(word in warning for warning in second["warnings"]) == 1
    told = {each["feature"] for each in second["reasons"] if "unknown" not in each["text"]}
    assert not told & {"owner_open_deals", "account_wins", "segment", "industry", "region"}


def test_what_cannot_be_read_is_told_by_index_and_the_others_are_scored(asking, view):
    tables, _, _, scores = view
    good = proposal_of(tables, scores["deal_id"].iloc[0])
    later = to_plain(tables.as_of + pd.Timedelta(seconds=1))
    deal = good["deal"]
    wrong = [
        ({"deal": {**deal, "deal_id": "w1", "amount": "a lot"}}, "deal.amount"),
        ({"deal": {**deal, "deal_id": "w2", "created_at": None}}, "deal.created_at"),
        ({"deal": {**deal, "deal_id": None}}, "deal.deal_id"),
        (
            {"deal": {**deal, "deal_id": "w4"}, "activities": [{"activity_id": "a", "occurred_at": later}]},
            "occurred_at",
        ),
        ({"deal": {**deal, "deal_id": "w5"}, "history": [{"changed_at": later, "field": "stage"}]}, "changed_at"),
        ({"deal": {**deal, "deal_id": "w6"}, "contacts": [{"contact_id": "c", "added_at": later}]}, "added_at"),
        ({"deal": {**deal, "deal_id": "w7"}, "history": [{"deal_id": "other", "field": "stage"}]}, "deal_id"),
        ({"deal": {**deal, "deal_id": "w8", "created_at": later}}, "created_at"),
        ({"deal": deal}, "deal.deal_id"),
    ]
    answer = asking(good, *(each for each, _ in wrong))
    assert [score["deal_id"] for score in answer["scores"]] == [deal["deal_id"]]
    assert answer["scores"] == asking(good)["scores"]
    assert [each["index"] for each in answer["errors"]] == list(range(1, len(wrong) + 1))
    for (_, where), each in zip(wrong, answer["errors"], strict=True):
        assert any(detail["where"].endswith(where) for detail in each["details"]), each
        assert all(detail["rule"] and detail["next_step"] for detail in each["details"])


def test_a_closed_deal_has_no_score_to_ask_for(asking, view):
    tables, history, _, _ = view
    closed = history.wins["deal_id"].iloc[0]
    answer = asking(proposal_of(tables, closed))
    assert answer["scores"] == [] and answer["errors"][0]["details"][0]["where"] == "deals[0].deal.stage"


def test_a_call_is_bounded_and_asks_about_no_future(asking, view):
    tables = view[0]
    assert asking(*[{"deal": {}}] * 101, status=413)["error"]["code"] == "too_large"
    later = to_plain(tables.as_of + pd.Timedelta(days=1))
    assert asking(as_of=later, status=422)["error"]["details"][0]["value"] == later
    assert asking(as_of="soon", status=422)["error"]["code"] == "invalid"
    early = to_plain(tables.as_of - pd.Timedelta(days=100))
    assert asking(as_of=early, status=422)["error"]["details"][0]["where"] == "as_of"
    assert asking()["scores"] == []


def test_a_deal_proposed_as_it_was_has_the_score_of_that_day(workspace):
    """Everything the store has learned since, of this deal and of all others, is out of sight."""
    tables = read_tables(workspace)
    at = tables.as_of - pd.Timedelta(days=30)
    long_ago = another_model(workspace, trained_as_of=(at - pd.Timedelta(days=1)).isoformat())
    state = load_state(workspace, open_ledger(url_of(workspace)))
    assert state.bundle.model_version != long_ago and state.bundle.trained_as_of > at
    bundle = bundle_for(workspace, at, tables.as_of)
    seen, history = bundle.read_history(tables)
    replay = score_deals(bundle, seen, history, open_deals(history, at).iloc[:20])
    then = truncate_export(seen, at, history)
    asked = WhatIfRequest(as_of=to_plain(at), deals=[proposal_of(then, deal_id) for deal_id in replay["deal_id"]])
    answer = answer_what_if(asked, state, open_ledger(url_of(workspace)), workspace=workspace, viewer=None)
    assert bundle.model_version == answer["model_version"] == long_ago and answer["errors"] == []
    expected = rows_of(replay, SCORE_COLUMNS)
    assert [{k: v for k, v in score.items() if k in expected[0]} for score in answer["scores"]] == expected


def test_asking_needs_the_scope(client, view):
    answer = client.post("/v1/what_if", json={"deals": []})
    assert answer.status_code == 403


def test_a_user_asks_with_no_more_than_what_the_user_may_see(asking, view):
    tables, _, _, scores = view
    deals = tables.get("deals").set_index("deal_id").loc[scores["deal_id"]]
    bosses = set(tables.get("users")["manager_id"].dropna())
    deal_id = next(each for each, owner in deals["owner_id"].items() if owner not in bosses)
    owner = deals.loc[deal_id, "owner_id"]
    other = next(each for each in deals["owner_id"].dropna().unique() if each != owner and each not in bosses)
    proposed = proposal_of(tables, deal_id)
    (own,) = asking(proposed, viewer=owner)["scores"]
    (whole,) = asking(proposed)["scores"]
    assert own["win_probability"] == whole["win_probability"] and own["warnings"] == []
    assert {BY_NAME[each["feature"]].audience for each in own["reasons"]} <= {"everyone"}
    (theirs,) = asking(proposed, viewer=other)["scores"]
    assert any(f"the owner {owner} is not known" in text for text in theirs["warnings"])
    assert theirs["score_change"] is None
