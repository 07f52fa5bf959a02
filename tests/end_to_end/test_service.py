"""From a trained workspace to answers over HTTP: in process for the shapes, as a real server for the rest."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from in_this_process import served
from serving_here import NOW, RealServer, another_model, fetch, until, url_of
from starlette.testclient import TestClient

from crm.store import write_version
from crm.versions import import_lock
from features.catalogue import BY_NAME
from ledger.ledger import Publication, open_ledger
from models.bundle_store import bundles_folder, set_champion
from models.forecaster import FORECAST_COLUMNS, forecast_nodes
from serving.api import create_api
from serving.schema import SCORE_COLUMNS

pytestmark = pytest.mark.slow


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
