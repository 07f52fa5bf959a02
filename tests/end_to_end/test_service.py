"""From a trained workspace to answers over HTTP: in process for the shapes, as a real server for the rest."""

import json
import shutil
import signal
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from serving_here import NOW, RealServer, another_model, fetch, until, url_of
from starlette.testclient import TestClient

from crm.history import open_deals
from crm.plain import to_plain
from crm.store import read_tables, write_version
from crm.truncation import truncate_export
from crm.versions import import_lock
from features.catalogue import BY_NAME
from ledger.ledger import Publication, open_ledger
from models.bundle import bundle_for
from models.bundle_store import bundles_folder, set_champion
from models.forecaster import FORECAST_COLUMNS, forecast_nodes
from models.scorer import score_deals
from serving.api import create_api
from serving.schema import SCORE_COLUMNS, WhatIfRequest, rows_of
from serving.state import load_state
from serving.what_if import answer_what_if

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client(trained, tmp_path_factory):
    copy = Path(shutil.copytree(trained, tmp_path_factory.mktemp("served") / "workspace"))
    with served(copy) as client:
        yield client


@contextmanager
def served(workspace: Path):
    """A client of the workspace's service in this process, once it is ready."""
    secret, _ = open_ledger(url_of(workspace)).create_key("test", ["read"], now=NOW)
    with TestClient(create_api(workspace, url_of(workspace)), headers={"x-api-key": secret}) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        yield client


def publish_a_week_before(workspace: Path, tables, bundle, scores) -> pd.DataFrame:
    """Publish scores as if they had been said seven days before, with every probability halved."""
    as_of = tables.as_of - pd.Timedelta(days=7)
    halves = scores.assign(as_of=as_of, win_probability=scores["win_probability"] / 2)
    head = Publication("scores", "published", as_of, as_of, bundle.model_version, tables.data_version)
    open_ledger(url_of(workspace)).publish_scores(head, halves)
    return halves


def test_scores_come_in_request_order_as_the_command_line_makes_them(client, view):
    tables, _, bundle, scores = view
    ids = scores["deal_id"].tolist()[::-1]
    answer = client.post("/v1/score", json={"deal_ids": ids}).json()
    assert list(answer) == ["as_of", "model_version", "data_version", "stale", "scores", "unknown", "closed"]
    assert answer["as_of"] == tables.as_of.strftime("%Y-%m-%dT%H:%M:%SZ") and answer["stale"] is False
    assert answer["model_version"] == bundle.model_version and answer["data_version"] == tables.data_version
    assert [score["deal_id"] for score in answer["scores"]] == ids
    by_id = scores.set_index("deal_id")
    for score in answer["scores"]:
        assert tuple(score) == SCORE_COLUMNS
        for column in ("win_probability", "period_win_probability", "expected_amount"):
            assert score[column] == by_id.loc[score["deal_id"], column]
        amount = by_id.loc[score["deal_id"], "amount_base"]
        assert score["amount_base"] == (None if pd.isna(amount) else amount)
        assert score["score_change"] is None and score["score_change_since"] is None
        assert score["reasons"] == by_id.loc[score["deal_id"], "reasons"]
    assert any(score["reasons"] for score in answer["scores"])


def test_without_explain_there_are_no_reasons(client, view):
    ids = view[3]["deal_id"].tolist()[:5]
    scores = client.post("/v1/score", json={"deal_ids": ids, "explain": False}).json()["scores"]
    assert [score["reasons"] for score in scores] == [[]] * 5


def test_closed_and_unknown_deals_are_told_apart(client, view):
    _, history, _, scores = view
    closings = history.endings[history.endings["until"].isna()].drop_duplicates("deal_id", keep=False)
    won = closings[closings["outcome"] == "won"].iloc[0]
    open_id = scores["deal_id"].iloc[0]
    answer = client.post("/v1/score", json={"deal_ids": ["nobody", won["deal_id"], open_id]}).json()
    assert answer["unknown"] == ["nobody"]
    closed_at = won["at"].isoformat().replace("+00:00", "Z")
    assert answer["closed"] == [{"deal_id": won["deal_id"], "outcome": "won", "closed_at": closed_at}]
    assert [score["deal_id"] for score in answer["scores"]] == [open_id]


def test_no_answer_holds_a_number_that_json_does_not_know(client, view):
    def refuse(constant):
        raise AssertionError(constant)

    ids = view[3]["deal_id"].tolist()
    answers = [client.post("/v1/score", json={"deal_ids": ids}), client.post("/v1/forecast", json={})]
    answers += [client.get(f"/v1/deals/{ids[0]}"), client.get("/v1/model")]
    for answer in answers:
        assert answer.status_code == 200
        json.loads(answer.text, parse_constant=refuse)


def test_the_forecast_holds_every_node_or_the_one_asked_for(client, view):
    tables, history, bundle, scores = view
    period = tables.calendar.period_of(tables.as_of)
    nodes = forecast_nodes(bundle, tables, history, scores, as_of=tables.as_of, period=period)
    answer = client.post("/v1/forecast", json={}).json()
    assert list(answer) == [
        *("as_of", "model_version", "data_version", "period_start", "period_end", "published_at", "nodes")
    ]
    assert answer["period_start"] == str(period.start) and answer["published_at"] is None
    assert [node["node_id"] for node in answer["nodes"]] == nodes["node_id"].tolist()
    assert all(tuple(node) == FORECAST_COLUMNS for node in answer["nodes"])
    company = client.post("/v1/forecast", json={"node_type": "company"}).json()["nodes"]
    assert [node["mean"] for node in company] == nodes.loc[nodes["node_type"] == "company", "mean"].tolist()
    rep = nodes.loc[nodes["node_type"] == "rep", "node_id"].iloc[0]
    (alone,) = client.post("/v1/forecast", json={"node_type": "rep", "node_id": rep}).json()["nodes"]
    assert alone["node_id"] == rep
    missing = client.post("/v1/forecast", json={"node_type": "rep", "node_id": "nobody"})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


def test_a_forecast_of_the_next_period_is_given_and_of_a_day_that_starts_none_refused(client, view):
    calendar = view[0].calendar
    following = calendar.next_period(calendar.period_of(view[0].as_of))
    answer = client.post("/v1/forecast", json={"period_start": str(following.start), "node_type": "company"})
    assert answer.json()["period_end"] == str(following.end)
    refused = client.post("/v1/forecast", json={"period_start": "2026-01-02"})
    assert (refused.status_code, refused.json()["error"]["details"][0]["value"]) == (422, "2026-01-02")


def test_the_forecast_says_when_it_was_published(workspace, view):
    tables, history, bundle, scores = view
    period = tables.calendar.period_of(tables.as_of)
    nodes = forecast_nodes(bundle, tables, history, scores, as_of=tables.as_of, period=period)
    head = Publication("forecast", "published", tables.as_of, NOW, bundle.model_version, tables.data_version)
    open_ledger(url_of(workspace)).publish_forecast(head, nodes)
    with served(workspace) as client:
        assert client.post("/v1/forecast", json={}).json()["published_at"] == "2026-01-05T09:00:00Z"


def test_a_deal_comes_with_what_was_published_of_it_and_what_changed_since(workspace, view):
    tables, _, bundle, scores = view
    halves = publish_a_week_before(workspace, tables, bundle, scores).set_index("deal_id")
    with served(workspace) as client:
        deal_id = scores["deal_id"].iloc[0]
        answer = client.get(f"/v1/deals/{deal_id}").json()
        assert list(answer) == ["deal", "state", "score", "history", "stale"]
        assert answer["deal"]["deal_id"] == deal_id and "_first_seen_at" not in answer["deal"]
        assert answer["state"] == "open"
        before = halves.loc[deal_id, "win_probability"]
        (said,) = answer["history"]
        assert said["win_probability"] == before
        assert said["as_of"] == said["published_at"] == answer["score"]["score_change_since"]
        assert answer["score"]["score_change"] == pytest.approx(100 * before)


def test_a_closed_deal_has_its_outcome_and_no_score_and_one_that_is_not_there_is_not_found(client, view):
    history = view[1]
    closings = history.endings[history.endings["until"].isna()].drop_duplicates("deal_id", keep=False)
    for outcome in ("won", "lost"):
        deal_id = closings.loc[closings["outcome"] == outcome, "deal_id"].iloc[0]
        answer = client.get(f"/v1/deals/{deal_id}").json()
        assert (answer["state"], answer["score"]) == (outcome, None)
    missing = client.get("/v1/deals/nobody")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


def test_the_model_s_card_is_as_the_contract_says(client, view):
    card = client.get("/v1/model").json()
    assert set(card) == {
        *("model_version", "trained_as_of", "data_version", "promoted_at", "feature_set_hash", "features"),
        *("deals_won", "deals_lost", "metrics", "baselines", "fallback", "limits"),
    }
    assert card["model_version"] == view[2].model_version
    assert card["promoted_at"] == "2026-01-05T09:00:00Z"
    assert card["trained_as_of"].endswith("Z")
    assert {"name", "unit", "higher_is"} <= set(card["features"][0])
    wanted = {"log_loss", "brier", "auc", "calibration_error", "calibration_slope"}
    assert set(card["metrics"]) >= wanted and all(set(each) >= wanted for each in card["baselines"].values())


def test_a_key_of_a_user_sees_his_own_and_his_reports_deals_and_no_more(workspace, view):
    tables, _, _, scores = view
    owner_of = tables.get("deals").set_index("deal_id")["owner_id"]
    users = tables.get("users").set_index("user_id")
    owners = scores["deal_id"].map(owner_of)
    of_the_chain = [
        any(BY_NAME[each["feature"]].audience == "chain" for each in reasons) for reasons in scores["reasons"]
    ]
    rep = owners[of_the_chain].value_counts().index[0]
    manager = users.loc[rep, "manager_id"]
    theirs = {
        rep: set(scores.loc[owners == rep, "deal_id"]),
        manager: set(scores.loc[owners.map(users["manager_id"]) == manager, "deal_id"]),
    }
    assert theirs[rep] < theirs[manager] < set(scores["deal_id"])
    ledger = open_ledger(url_of(workspace))
    with served(workspace) as client:
        for user, visible in theirs.items():
            secret, _ = ledger.create_key(user, ["read"], user_id=user, now=NOW)
            headers = {"x-api-key": secret}
            answer = client.post("/v1/score", json={"deal_ids": scores["deal_id"].tolist()}, headers=headers).json()
            assert {score["deal_id"] for score in answer["scores"]} == visible
            assert set(answer["unknown"]) == set(scores["deal_id"]) - visible
            hidden = min(set(scores["deal_id"]) - visible)
            assert client.get(f"/v1/deals/{hidden}", headers=headers).status_code == 404
            assert client.get(f"/v1/deals/{min(visible)}", headers=headers).status_code == 200
            nodes = client.post("/v1/forecast", json={}, headers=headers).json()["nodes"]
            assert {node["node_type"] for node in nodes} <= {"rep", "manager"}
            assert {node["node_id"] for node in nodes} <= {user, *users.index[users["manager_id"] == user]}
            assert user in {node["node_id"] for node in nodes}
            whole = scores.set_index("deal_id")["reasons"]
            for score in answer["scores"]:
                to_all = [each for each in whole[score["deal_id"]] if BY_NAME[each["feature"]].audience == "everyone"]
                own = owner_of[score["deal_id"]] == user
                assert score["reasons"] == (to_all if own else whole[score["deal_id"]])
            company = {"node_type": "company", "node_id": "company"}
            assert client.post("/v1/forecast", json=company, headers=headers).status_code == 404


def test_a_new_champion_and_new_data_are_served_without_a_restart(workspace, view):
    tables, _, bundle, _ = view
    with served(workspace) as client:
        second = another_model(workspace, limits=["the second"])
        set_champion(workspace, second, by="test", reason="second", at=NOW)
        until(lambda: client.get("/v1/model").json()["model_version"] == second, seconds=15)
        newer = replace(tables, first_import_at=tables.as_of)
        with import_lock(workspace):
            version = write_version(workspace, newer, changed={"deals"}, stages_derived=False, currency_given=True)
        until(lambda: client.get("/readyz").json()["data_version"] == version, seconds=15)
        assert client.get("/readyz").json()["model_version"] == second


def test_a_champion_that_cannot_be_read_leaves_the_old_one_serving_and_says_so(workspace, view):
    scores = view[3]
    with served(workspace) as client:
        second = another_model(workspace, limits=["the second"])
        broken = bundles_folder(workspace) / second / "hazards.json"
        broken.write_text(broken.read_text() + " ")
        set_champion(workspace, second, by="test", reason="damaged", at=NOW)
        body = {"deal_ids": scores["deal_id"].tolist()[:1]}
        answer = until(lambda: (a := client.post("/v1/score", json=body).json())["stale"] and a, seconds=15)
        assert answer["model_version"] == view[2].model_version and len(answer["scores"]) == 1


def test_without_a_champion_the_service_lives_but_is_not_ready(workspace):
    (bundles_folder(workspace) / "CHAMPION").unlink()
    secret, _ = open_ledger(url_of(workspace)).create_key("test", ["read"], now=NOW)
    with TestClient(create_api(workspace, url_of(workspace)), headers={"x-api-key": secret}) as client:
        assert client.get("/livez").status_code == 200
        until(lambda: "champion" in client.get("/readyz").json()["error"]["message"])
        for answer in (client.get("/readyz"), client.post("/v1/score", json={"deal_ids": ["x"]})):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
            assert "dealcast" in answer.json()["error"]["details"][0]["next_step"]


# -- the real server -------------------------------------------------------------------------------------------------


def test_the_real_server_serves_follows_the_champion_and_stops_when_told(server, workspace, view):
    url, process, log = server
    scores = view[3]
    secret, _ = open_ledger(url_of(workspace)).create_key("test", ["read"], now=NOW)
    until(lambda: process.poll() is not None or (fetch(f"{url}/readyz") or (0,))[0] == 200, seconds=120)
    assert process.poll() is None, log.read_text()
    status, answer = fetch(f"{url}/v1/score", body={"deal_ids": scores["deal_id"].tolist()}, key=secret)
    assert status == 200 and len(answer["scores"]) == len(scores)
    assert answer["scores"][0]["win_probability"] == scores["win_probability"].iloc[0]
    (worker,) = RealServer.children(process.pid)
    assert b"\0MALLOC_ARENA_MAX=2\0" in Path(f"/proc/{worker}/environ").read_bytes()  # it keeps little that is free

    for closed in ("/docs.json", "/schema.json", "/", "/static_content/index.html"):
        assert fetch(url + closed)[0] == 401
    assert fetch(f"{url}/v1/nothing", key=secret)[0] == 404
    assert 'dealcast_requests_total{method="POST",route="/v1/score",status="200"} 1.0' in fetch(f"{url}/metrics")[1]

    second = another_model(workspace, limits=["the second"])
    set_champion(workspace, second, by="test", reason="second", at=NOW)
    until(lambda: fetch(f"{url}/v1/model", key=secret)[1]["model_version"] == second, seconds=30)

    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    until(lambda: fetch(f"{url}/livez") is None)
    written = log.read_text()
    assert secret not in written and "Traceback" not in written
    lines = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
    assert {"at", "request_id", "method", "path", "status", "milliseconds", "key_id"} == set(lines[0])


def test_the_worker_goes_when_whoever_started_it_is_killed(server):
    url, process, log = server
    until(lambda: process.poll() is not None or fetch(f"{url}/livez"), seconds=120)
    assert process.poll() is None, log.read_text()
    process.kill()
    process.wait()
    until(lambda: fetch(f"{url}/livez") is None, seconds=20)


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
