"""The pages of deals tell what the API and the ledger tell, to whom may read it; asked in process, no browser."""

import re
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from babel import Locale
from serving_here import NOW, until, url_of
from starlette.testclient import TestClient

from features.catalogue import BY_NAME
from ledger.ledger import Publication, open_ledger
from serving.api import create_api
from serving.pages.words import Say

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Served:
    """The service of a small company: a client that sees all of it, one of a rep, and what stands behind them."""

    everything: TestClient
    rep: TestClient
    rep_id: str
    state: object
    ledger: object
    say: Say


@pytest.fixture(scope="module")
def served(trained, view, tmp_path_factory):
    workspace = Path(shutil.copytree(trained, tmp_path_factory.mktemp("pages") / "workspace"))
    tables, _, bundle, scores = view
    ledger = open_ledger(url_of(workspace))
    for basis, days, factor in (("replayed", 14, 0.25), ("published", 7, 0.5)):
        at = tables.as_of - pd.Timedelta(days=days)
        head = Publication("scores", basis, at, at, bundle.model_version, tables.data_version)
        ledger.publish_scores(head, scores.assign(as_of=at, win_probability=factor * scores["win_probability"]))
    owners = tables.get("deals").set_index("deal_id")["owner_id"].reindex(scores["deal_id"])
    rep_id = owners.value_counts().index[0]
    api = create_api(workspace, url_of(workspace))
    with ExitStack() as stack:
        clients = []
        for name, user in (("all", None), ("rep", rep_id)):
            secret, _ = ledger.create_key(name, ["read", "what_if"], user_id=user, now=NOW)
            headers = {"x-api-key": secret, "accept": "text/html", "accept-language": "en-US"}
            clients.append(TestClient(api, headers=headers))
        stack.enter_context(clients[0])
        until(lambda: clients[0].get("/readyz").status_code == 200)
        calendar = tables.calendar
        say = Say(Locale("en", "US"), calendar.base_currency, str(calendar.time_zone))
        yield Served(*clients, rep_id, api.state.follower.state, ledger, say)


def text_of(answer) -> str:
    """What a page says, without its tags."""
    assert answer.status_code == 200, answer.text
    told = re.sub(r"<(script|style)\b.*?</\1>", " ", answer.text, flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", told)).split())


def ids_of(served, *, own: bool) -> list[str]:
    owner_of = served.state.owner_of
    return [id_ for id_ in served.state.scores["deal_id"] if (owner_of[id_] == served.rep_id) is own]


# -- one deal ------------------------------------------------------------------------------------------------------


def test_the_deal_page_tells_the_score_of_the_api(served):
    for deal_id in served.state.scores["deal_id"].head(3):
        score = served.everything.post("/v1/score", json={"deal_ids": [deal_id]}).json()["scores"][0]
        page = text_of(served.everything.get(f"/deals/{deal_id}"))
        for name in ("win_probability", "period_win_probability", "next_period_win_probability"):
            assert served.say.percent(score[name]) in page
        assert served.say.day(score["expected_close_date"]) in page
        assert served.say.points(score["score_change"]) in page
        for reason in score["reasons"]:
            assert reason["text"] in page and served.say.points(reason["effect"]) in page


def test_published_and_replayed_scores_are_lines_of_their_own(served):
    deal_id = served.state.scores["deal_id"].iloc[0]
    score = served.state.score_of[deal_id]["win_probability"]
    answer = served.everything.get(f"/deals/{deal_id}")
    lines = re.findall(r'"basis": "(\w+)", "name": "[^"]+", "points": (\[\[.*?\]\])', answer.text)
    assert [basis for basis, _ in lines] == ["published", "replayed"]
    shares = {basis: float(points.rstrip("]").split(", ")[1]) / score for basis, points in lines}
    assert shares == pytest.approx({"published": 0.5, "replayed": 0.25})
    history = served.everything.get(f"/v1/deals/{deal_id}").json()["history"]
    assert [each["win_probability"] for each in history] == [0.5 * score]


def test_what_changed_is_told_as_explain_tells_it(served):
    from serving.explained import change_since_published

    state, deal_id = served.state, served.state.scores["deal_id"].iloc[0]
    told = change_since_published(
        served.ledger, Path("."), state.bundle, state.tables, state.history, deal_id=deal_id, as_of=state.as_of
    )
    page = text_of(served.everything.get(f"/change/{deal_id}", headers={"hx-request": "true"}))
    change = 100 * (state.score_of[deal_id]["win_probability"] - told.since.win_probability)
    assert sum(each.effect for each in told.changes) == pytest.approx(change)
    assert f"{served.say.points(change)} points since" in page
    assert all(each.text in page for each in told.changes[:3])


def test_a_rep_is_not_told_what_is_meant_for_those_above(served):
    told = {name for name, feature in vars(BY_NAME)["_declared"].items() if feature.audience == "chain"}
    words = [BY_NAME[name].reason.split("{")[0] for name in told]
    deal_id = ids_of(served, own=True)[0]
    for path in (f"/deals/{deal_id}", f"/change/{deal_id}"):
        page = text_of(served.rep.get(path))
        assert not [word for word in words if len(word) > 8 and word in page]


def test_the_sliders_answer_as_the_what_if_of_the_api(served):
    deal_id = next(id_ for id_ in served.state.scores["deal_id"] if served.state.deal(id_).get("close_date"))
    as_it_is = text_of(served.everything.get(f"/what_if/{deal_id}", headers={"hx-request": "true"}))
    score = served.state.score_of[deal_id]
    assert served.say.percent(score["win_probability"]) in as_it_is and "points" not in as_it_is
    from serving.pages.deal import proposal_of

    stage_now = served.state.deal(deal_id)["stage"]
    page = text_of(
        served.everything.get(f"/what_if/{deal_id}?close_date=120&amount=200", headers={"hx-request": "true"})
    )
    edits = {
        "close_date": str(served.state.tables.calendar.local_day(served.state.as_of) + pd.Timedelta(days=120))[:10],
        "amount": round(2 * served.state.deal(deal_id)["amount"], 2),
    }
    body = {"deals": [proposal_of(deal_id, served.state, edits).model_dump()]}
    answer = served.everything.post("/v1/what_if", json=body).json()
    assert answer["errors"] == []
    there = answer["scores"][0]
    for name in ("win_probability", "period_win_probability"):
        points = 100 * (there[name] - score[name])
        assert f"{served.say.percent(there[name])} {served.say.points(points)} points" in page
    assert stage_now in page and "imagined" in page


def test_without_javascript_the_sliders_are_a_form_that_answers_with_the_page(served):
    deal_id = served.state.scores["deal_id"].iloc[0]
    answer = served.everything.get(f"/what_if/{deal_id}?close_date=120")
    assert "<html" in answer.text and 'value="120"' in answer.text and "imagined" in answer.text
    assert "<html" in served.everything.get(f"/similar/{deal_id}").text


def test_a_deal_of_others_is_no_deal(served):
    foreign, own = ids_of(served, own=False)[0], ids_of(served, own=True)[0]
    for path in ("deals", "change", "similar", "what_if"):
        assert served.rep.get(f"/{path}/{own}").status_code == 200
        refused, missing = served.rep.get(f"/{path}/{foreign}"), served.rep.get(f"/{path}/nobody")
        assert refused.status_code == missing.status_code == 404
        assert refused.text.replace(foreign, "X") == missing.text.replace("nobody", "X")


def test_similar_deals_are_those_the_reader_may_see_as_known_then(served):
    from serving.similar import past_deals, similar_deals

    deal_id = ids_of(served, own=True)[0]
    everybody, mine = (similar_deals(served.state, viewer, deal_id) for viewer in (None, served.rep_id))
    assert mine and {served.state.owner_of[each.deal_id] for each in mine} == {served.rep_id}
    assert {each.deal_id for each in mine} != {each.deal_id for each in everybody}
    distances = [each.distance for each in everybody]
    assert distances == sorted(distances) and deal_id not in {each.deal_id for each in everybody}
    assert all(each.outcome == served.state.standing_of(each.deal_id) for each in everybody)
    spells = served.state.history.spells
    for each in everybody:
        its = spells[spells["deal_id"] == each.deal_id]
        assert ((its["opened_at"] <= each.as_of) & ~(its["ended_at"] <= each.as_of)).any()
        assert each.ended_at is None or each.ended_at > each.as_of
    assert past_deals(served.state).weights.sum() == pytest.approx(1.0)
    page = text_of(served.rep.get(f"/similar/{deal_id}", headers={"hx-request": "true"}))
    assert mine[0].deal_id in served.rep.get(f"/similar/{deal_id}").text and f"Of the {len(mine)} past deal" in page
