"""Scores of held-out teams are shown nowhere, are published all the same, and what scores do is measured."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from serving_here import NOW, until, url_of
from starlette.testclient import TestClient

from crm.store import read_tables
from dealcast.cli import answer
from ledger.ledger import Publication, open_ledger
from models.holdout import Holdout
from serving.access import Access
from serving.api import create_api
from serving.pages.imagined import proposal_of

pytestmark = pytest.mark.slow


def one_of(teams: list[str]) -> Holdout:
    """A holdout of one team alone."""
    keys = (Holdout(0.5, str(number)) for number in range(100))
    return next(each for each in keys if sum(map(each.holds_out, teams)) == 1)


@pytest.fixture(scope="module")
def company(view):
    """The holdout, and the open deals of the team that sees no scores and of the others."""
    tables, _, _, scores = view
    users = tables.get("users")
    holdout = one_of(sorted(users["team"].dropna().unique()))
    owners = tables.get("deals").set_index("deal_id")["owner_id"].reindex(scores["deal_id"])
    hidden = owners.isin(list(holdout.withheld_owners(users)))
    return holdout, owners.index[hidden].tolist(), owners.index[~hidden].tolist()


@pytest.fixture(scope="module")
def workspace(trained, company, tmp_path_factory) -> Path:
    workspace = Path(shutil.copytree(trained, tmp_path_factory.mktemp("held_out") / "workspace"))
    holdout, *_ = company
    lines = ["[holdout]", f"share = {holdout.share}", f'key = "{holdout.key}"', 'since = "2020-01-01"']
    (workspace / "settings.toml").write_text("\n".join(lines))
    return workspace


@pytest.fixture(scope="module")
def client(workspace, company):
    access = Access.from_json(Access(holdout=company[0]).to_json())  # as a worker gets it
    secret, _ = open_ledger(url_of(workspace)).create_key("test", ["read", "what_if"], now=NOW)
    api = create_api(workspace, url_of(workspace), access)
    with TestClient(api, headers={"x-api-key": secret}) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        yield client


def test_the_service_withholds_the_scores_of_held_out_teams_and_of_no_others(client, company):
    _, hidden, shown = company
    assert hidden and shown
    told = client.post("/v1/score", json={"deal_ids": hidden + shown}).json()
    assert [score["deal_id"] for score in told["scores"]] == shown
    assert told["withheld"] == hidden and told["unknown"] == []
    deal = client.get(f"/v1/deals/{hidden[0]}").json()
    assert (deal["state"], deal["score"], deal["history"]) == ("open", None, [])
    assert client.get(f"/v1/deals/{shown[0]}").json()["score"] is not None
    supposed = {"what_if": [{"deal_id": hidden[0], "drop": True}]}
    assert client.post("/v1/forecast", json=supposed).status_code == 404
    assert "Holdout: 1 of 2 teams" in " ".join(client.get("/v1/model").json()["limits"])


def test_what_if_tells_nothing_of_held_out_teams(client, company):
    _, hidden, shown = company
    state = client.app.state.follower.state
    proposals = [proposal_of(deal_id, state, {}).model_dump() for deal_id in (hidden[0], shown[0])]
    told = client.post("/v1/what_if", json={"deals": proposals}).json()
    assert [score["deal_id"] for score in told["scores"]] == [shown[0]], told["errors"]
    assert "holdout" in told["errors"][0]["details"][0]["rule"] and told["errors"][0]["index"] == 0


def test_pages_tell_nothing_of_held_out_teams(client, company):
    _, hidden, shown = company
    page = client.get(f"/deals/{hidden[0]}", headers={"accept": "text/html"})
    assert page.status_code == 200 and "see no scores" in page.text and "Win probability, 365" not in page.text
    assert "Win probability, 365" in client.get(f"/deals/{shown[0]}", headers={"accept": "text/html"}).text
    panel = client.get(f"/panel/{hidden[0]}", headers={"accept": "text/html"})
    assert panel.status_code == 200 and "Win probability" not in panel.text
    listed = client.get("/deals", headers={"accept": "text/html"}).text
    assert not any(f'/deals/{deal_id}"' in listed for deal_id in hidden)


def test_exports_leave_them_out_and_the_ledger_keeps_them(workspace, company, capsys):
    _, hidden, shown = company

    def run(*words: str) -> dict:
        capsys.readouterr()
        assert answer(["--workspace", str(workspace), "--json", *words]) == 0
        return json.loads(capsys.readouterr().out)

    told = run("score")
    assert sorted(score["deal_id"] for score in told["scores"]) == sorted(shown)
    published = open_ledger(url_of(workspace)).latest_scores()[1]
    assert set(published["deal_id"]) == {*hidden, *shown}
    report = run("holdout")
    assert [team["open_deals"] for team in report["teams"] if not team["sees_scores"]] == [len(hidden)]
    assert report["detectable_points"] > 0 and report["effect"] is None
    assert "Holdout" in " ".join(run("models", "show")["limits"])


def test_once_a_period_has_ended_what_scores_do_is_measured(workspace, company, view, capsys):
    tables, history, bundle, scores = view

    period = tables.calendar.period_of(tables.as_of)
    before = tables.calendar.period_of(period.start_at - pd.Timedelta(days=1))
    head = Publication(
        "scores",
        "published",
        before.start_at,
        before.start_at,
        bundle.model_version,
        tables.data_version,
        period_start=pd.Timestamp(before.start),
        period_end=pd.Timestamp(before.end),
    )
    deals = tables.get("deals")
    open_then = deals[(deals["created_at"] <= before.start_at) & ~(deals["closed_at"] <= before.start_at)]["deal_id"]
    rows = scores.iloc[[0] * len(open_then)].assign(deal_id=open_then.to_numpy(), period_win_probability=0.25)
    rows = rows.assign(as_of=before.start_at, period_start=head.period_start, period_end=head.period_end)
    open_ledger(url_of(workspace)).publish_scores(head, rows)
    capsys.readouterr()
    assert answer(["--workspace", str(workspace), "--json", "holdout"]) == 0
    effect = json.loads(capsys.readouterr().out)["effect"]
    assert effect["teams"] == [1, 1] and sum(effect["deals"]) > 0 and effect["chance"] == 1.0 and effect["draws"] == 2
    ended = history.endings[history.endings["outcome"] == "won"]
    won = set(ended.loc[(ended["at"] > before.start_at) & (ended["at"] < before.end_at), "deal_id"])
    users = tables.get("users").set_index("user_id")["team"]
    team = deals.set_index("deal_id")["owner_id"].map(users).reindex(open_then)
    beyond = pd.Series([deal in won for deal in open_then], index=team.index).astype(float) - 0.25
    held = team.map(company[0].holds_out).astype(bool)
    assert effect["difference"] == pytest.approx(100 * (beyond[~held].mean() - beyond[held].mean()))
    assert read_tables(workspace).data_version == tables.data_version
