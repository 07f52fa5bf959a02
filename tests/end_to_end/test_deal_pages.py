"""The pages of deals tell what the API and the ledger tell, to whom may read it; asked in process, no browser."""

import io
import json
import re
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from babel import Locale
from serving_here import NOW, until, url_of
from starlette.testclient import TestClient

from dealcast.cli import answer
from features.catalogue import BY_NAME
from ledger.ledger import Publication, open_ledger
from serving.api import create_api
from serving.explained import change_since_published
from serving.pages.digest import write_digest
from serving.pages.imagined import proposal_of
from serving.pages.tables import cell
from serving.pages.words import Say
from serving.similar import past_deals, similar_deals

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


def test_the_card_tells_the_same_score_and_stands_without_the_frame(served):
    deal_id = ids_of(served, own=True)[0]
    answer = served.rep.get(f"/panel/{deal_id}")
    assert "<nav" not in answer.text and "<script" not in answer.text
    score = served.rep.post("/v1/score", json={"deal_ids": [deal_id]}).json()["scores"][0]
    assert served.say.percent(score["win_probability"]) in text_of(answer)
    assert served.rep.get(f"/panel/{ids_of(served, own=False)[0]}").status_code == 404


# -- deals to talk about ---------------------------------------------------------------------------------------------


def exported(client, query: str) -> pd.DataFrame:
    answer = client.get(f"/deals.csv?{query}")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/csv")
    return pd.read_csv(io.StringIO(answer.text), dtype={"deal_id": "str"})


def test_the_list_counts_and_sums_what_the_api_gives(served):
    rows = exported(served.everything, "view=all&sort=name")
    ids = rows["deal_id"].tolist()
    scores = served.everything.post("/v1/score", json={"deal_ids": ids}).json()["scores"]
    assert sorted(ids) == sorted(served.state.scores["deal_id"])
    for name in ("win_probability", "period_win_probability", "expected_amount"):
        assert rows[name].tolist() == pytest.approx([score[name] for score in scores])
    expected = sum(score["period_win_probability"] * score["expected_amount"] for score in scores)
    page = text_of(served.everything.get("/deals?view=all"))
    assert f"Deals {len(ids)} " in page and f"The model expects {served.say.short_money(expected)}" in page


def test_a_deal_is_the_reps_by_category_and_close_date_alone(served):
    rows = exported(served.everything, "view=all").set_index("deal_id")
    period = served.state.tables.calendar.period_of(served.state.as_of)
    for deal_id, row in rows.iterrows():
        deal = served.state.deal(deal_id)
        due = deal["close_date"] is not None and str(period.start) <= deal["close_date"] < str(period.end)
        counted = due and str(deal["forecast_category"]).lower().replace(" ", "_") in ("commit", "most_likely")
        amount = row["expected_amount"] if pd.isna(row["amount_base"]) else row["amount_base"]
        assert row["said"] == pytest.approx(amount if counted else 0.0)
        assert row["gap"] == pytest.approx(row["expected"] - row["said"])
    disagree = exported(served.everything, "view=disagree").set_index("deal_id")
    likely = rows["period_win_probability"] >= 0.5
    assert set(disagree.index) == set(rows.index[(rows["said"] > 0) != likely])
    gaps = disagree["gap"].abs().tolist()
    assert gaps == sorted(gaps, reverse=True)


def test_what_stands_out_is_the_feature_beside_what_is_usual(served):
    features = served.state.features.set_index("deal_id")
    usual = served.state.bundle.typical
    stalled = exported(served.everything, "view=stalled")
    assert len(stalled)
    for row in stalled.itertuples():
        assert row.stalled_value == pytest.approx(features["days_in_stage"][row.deal_id]) and row.stalled_value >= 14
        known = usual.of("days_in_stage", row.stage)
        assert (known is None and pd.isna(row.stalled_usual)) or row.stalled_usual == pytest.approx(known)
        assert not row.stalled_value <= 2 * row.stalled_usual
    pushed = exported(served.everything, "view=pushed")
    assert (pushed["pushed_value"] >= 2).all()
    assert pushed["pushed_value"].tolist() == features["close_date_pushes"].reindex(pushed["deal_id"]).tolist()


def test_deals_of_others_are_on_no_list_in_no_sum_and_in_no_choice(served):
    own = set(ids_of(served, own=True))
    mine = exported(served.rep, "view=all")
    assert set(mine["deal_id"]) == own
    foreign = next(iter(served.state.owner_of[id_] for id_ in ids_of(served, own=False)))
    assert exported(served.rep, f"view=all&owner={foreign}").empty
    answer = served.rep.get("/deals?view=all")
    assert f"Deals {len(own)} " in text_of(answer)
    assert f"The model expects {served.say.short_money(mine['expected'].sum())}" in text_of(answer)
    teams = re.search(r'<select id="by-team".*?</select>', answer.text, flags=re.S)
    assert teams is None or len(re.findall(r"<option", teams[0])) == 1 + mine["team"].nunique()
    listed = set(re.findall(r'href="/deals/([^"?]+)"', answer.text))
    assert listed <= own


def test_the_list_is_filtered_sorted_and_turned_page_by_page(served):
    everything = exported(served.everything, "view=all&sort=probability")
    chances = everything["period_win_probability"].tolist()
    assert chances == sorted(chances, reverse=True) and len(everything) > 50
    pages = -(-len(everything) // 50)
    seen = []
    for page in range(1, pages + 1):
        text = served.everything.get(f"/deals?view=all&sort=probability&page={page}").text
        seen += re.findall(r'<th><a href="/deals/([^"?]+)"', text)
    assert seen == everything["deal_id"].tolist()
    kind = everything["deal_type"].dropna().iloc[0]
    assert set(exported(served.everything, f"view=all&type={kind}")["deal_type"]) == {kind}
    for odd in ("view=nothing&sort=nothing&page=x", "page=999999", "type=%00&team='"):
        assert served.everything.get(f"/deals?{odd}").status_code == 200


def test_no_cell_of_the_file_is_a_formula(served):
    assert cell("=1+1") == "'=1+1" and cell(-5.0) == -5.0
    text = served.everything.get("/deals.csv?view=all").text
    assert not re.search(r"(^|,)\"?[=@]", text, flags=re.M)


# -- the digest ------------------------------------------------------------------------------------------------------


def digest_of(served, user_id, say=None):
    about = {"say": say or served.say, "now": NOW, "address": "https://deals.example"}
    return write_digest(served.state, served.ledger, user_id=user_id, **about)


def test_the_digest_tells_the_forecast_of_the_api_in_both_shapes(served):
    body = {"node_type": "company"}
    node = served.everything.post("/v1/forecast", json=body).json()["nodes"][0]
    digest = digest_of(served, None)
    assert digest.values["number"]["mean"] == node["mean"]
    for shape in (digest.html, json.dumps(digest.slack)):
        assert served.say.short_money(node["mean"]) in shape and served.say.short_money(node["p10"]) in shape
    assert not re.search(r"<(script|img|link)\b|url\(", digest.html)
    texts = [block["text"]["text"] for block in digest.slack["blocks"] if block["type"] == "section"]
    assert len(digest.slack["blocks"]) <= 50 and all(len(text) <= 3000 for text in texts)


def test_the_digest_is_told_in_another_currency(served):
    node = served.everything.post("/v1/forecast", json={"node_type": "company"}).json()["nodes"][0]
    euros = replace(served.say, currency="EUR", rate=1.25)
    digest = digest_of(served, None, euros)
    for shape in (digest.html, json.dumps(digest.slack, ensure_ascii=False)):
        assert served.say.short_money(node["mean"] / 1.25).replace("$", "€") in shape and "$" not in shape


def test_the_digest_of_a_user_holds_no_deal_of_others(served):
    digest = digest_of(served, served.rep_id)
    own = {id_ for id_, owner in served.state.owner_of.items() if owner == served.rep_id}
    for shape in (digest.html, json.dumps(digest.slack)):
        assert set(re.findall(r"https://deals\.example/deals/([^\"|>?]+)[\"|]", shape)) <= own
    mine = exported(served.rep, "view=slip")
    assert digest.values["lists"]["slip"]["deals"] == len(mine)
    assert digest.values["number"]["node_id"] == served.rep_id


def test_what_closed_is_told_with_what_was_published_a_week_before(served):
    state, digest = served.state, digest_of(served, None)
    week = state.as_of - pd.Timedelta(days=7)
    closed = [c for c in state.closing_of.values() if week < pd.Timestamp(c["closed_at"]) <= state.as_of]
    assert digest.values["ended"]["deals"] == len(closed)
    assert digest.values["ended"]["won"] == sum(c["outcome"] == "won" for c in closed)


def test_the_command_writes_both_files(served, tmp_path, capsys):
    workspace = served.everything.app.state.follower.workspace
    asked = ["--json", "--workspace", str(workspace), "digest", "--out", str(tmp_path), "--user", served.rep_id]
    assert answer(asked) == 0
    document = json.loads(capsys.readouterr().out)
    assert [Path(file).exists() for file in document["files"]] == [True, True] and document["user"] == served.rep_id
    assert answer(["--workspace", str(workspace), "digest", "--user", "nobody"]) == 2
    assert answer(["--workspace", str(workspace), "digest", "--locale", "tlh"]) == 2
    assert answer(["--workspace", str(workspace), "digest", "--currency", "XXX"]) == 2


def test_a_crm_that_knows_of_deals_alone_has_pages_too(served):
    follower = served.everything.app.state.follower
    state, deal_id = served.state, served.state.scores["deal_id"].iloc[0]
    kept = ["deal_id", "created_at", "stage", "is_closed", "is_won", "closed_at", "_first_seen_at"]
    deals = state.tables.get("deals")
    deals = deals[[name for name in kept if name in deals]]
    tables = replace(state.tables, tables={"deals": deals, "stages": state.tables.get("stages")})
    history = replace(state.history, changes=state.history.changes[:0], activities=state.history.activities[:0])
    features = state.features[["deal_id", "as_of", "deal_age_days"]]
    bare = replace(state, tables=tables, history=history, features=features, prepared={})
    follower.state = bare
    try:
        for path in (f"/deals/{deal_id}", f"/panel/{deal_id}", "/deals", "/deals?view=silent", "/deals.csv?view=all"):
            assert served.everything.get(path).status_code == 200, path
        assert "Deals 0 " in text_of(served.everything.get("/deals?view=disagree&team=none"))
    finally:
        follower.state = state
