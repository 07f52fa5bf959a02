"""From the CRM's deals to a score on its form, with nothing but its own API and our command line."""

import re
import shutil
from dataclasses import dataclass
from typing import Any

import httpx
import pandas as pd
import pytest
from command_line import CommandLine
from playwright.sync_api import expect
from showroom import (
    browser,
    end_configuration,
    field,
    keep_picture,
    open_deal,
    pushing,
    said_of,
    serve_the_learned_model,
    serving,
    shown_probability,
    told_to_all,
    until,
)
from tryton_here import PASSWORD, Tryton, free_port, web_client

from crm.store import read_tables

pytestmark = pytest.mark.slow


def somebody_who_may_only_read_and_score(crm) -> str:
    """A login of the groups that docs/crm.md asks for."""
    groups = [each["id"] for each in crm.rows("res.group", ["name"], [["name", "in", ["Sales", "Deal Scores"]]])]
    company = crm.context["company"]
    works_for = {"companies": [["add", [company]]], "company": company}
    login = {"name": "dealcast", "login": "dealcast", "password": PASSWORD}
    crm.call("res.user.create", [{**login, **works_for, "groups": [["add", groups]]}], {})
    assert len(groups) == 2
    return "dealcast"


@dataclass(frozen=True)
class Showroom:
    """A Tryton and a dealcast beside it, both running, and what dealcast said at each step."""

    crm: Tryton
    dealcast: CommandLine
    service: httpx.Client
    found: dict[str, Any]
    synced: dict[str, Any]
    scores: dict[str, dict[str, Any]]
    pushed: dict[str, Any]
    revisions: list[Any]


@pytest.fixture(scope="module")
def showroom(tryton, scored_company, tmp_path_factory):
    """The whole way, in order: connect, sync, train, score, push, serve."""
    folder = tmp_path_factory.mktemp("showroom")
    dealcast = CommandLine(folder / "workspace")
    key = dealcast("keys", "create", "tryton", "--scope", "events,read")["key"]
    crm, port = Tryton(tryton, folder, "scored"), free_port()
    shutil.copy(scored_company.database, crm.database)
    crm.configure(f"url = http://127.0.0.1:{port}", f"key = {key}", web=web_client())
    with pytest.MonkeyPatch.context() as environment, crm.running():
        environment.setenv("DEALCAST_TRYTON_PASSWORD", PASSWORD)
        end_configuration(crm)
        user = somebody_who_may_only_read_and_score(crm)
        found = dealcast.connect(crm.url, f"user={user}", "least_change_points=0")
        synced = dealcast("sync")
        revisions = crm.call("sale.opportunity.history_revisions", list(range(1, 301)), crm.context)
        dealcast("train")
        serve_the_learned_model(dealcast.workspace)
        scores = {score["deal_id"]: score for score in dealcast("score")["scores"]}
        pushed = dealcast("push")
        with serving(dealcast.workspace, port, key) as service:
            yield Showroom(crm, dealcast, service, found, synced, scores, pushed, revisions)


def test_a_score_finds_its_way_from_the_crms_history_back_onto_its_form(showroom):
    crm, scores = showroom.crm, showroom.scores
    assert showroom.found["system"] == "Tryton 8.0" and showroom.found["writes_to"] == "sale.opportunity.score"
    tables = showroom.synced["tables"]
    assert tables["deals"]["new"] == tables["deals"]["read"] >= 280 and tables["activities"]["new"] > 1000
    assert not any(table["refused"] for table in tables.values())
    fields = showroom.dealcast("check")["fields"]
    tracked = {name for name, known in fields.items() if known["class"] == "tracked"}
    assert tracked >= {"stage", "amount", "close_date", "owner_id", "account_id", "currency", "conversion_probability"}
    assert showroom.pushed["written"] == len(scores) > 10 and not showroom.pushed["failed"]
    assert any(score["reasons"] for score in scores.values())

    shown = ["score_probability", "score_change", "score_reasons", "score_as_of", "score_model", "score_link"]
    on_forms = {str(each["id"]): each for each in crm.rows("sale.opportunity", shown)}
    assert {deal for deal, form in on_forms.items() if form["score_probability"] is not None} == scores.keys()
    for deal_id, score in scores.items():
        form = on_forms[deal_id]
        assert form["score_probability"] == pytest.approx(score["win_probability"])
        assert form["score_model"] == score["model_version"]
        assert (form["score_reasons"] or "").splitlines() == told_to_all(score)
        parts = {name: part for name, part in form["score_as_of"].items() if name != "__class__"}
        assert pd.Timestamp(**parts, tz="UTC") == pd.Timestamp(score["as_of"])
        assert form["score_link"] == f"{showroom.service.base_url}/deals/{deal_id}".replace("//deals", "/deals")
    # No score entered the opportunities' own history.
    now_there = crm.call("sale.opportunity.history_revisions", list(range(1, 301)), crm.context)
    assert [each for each in showroom.revisions if each not in now_there] == []


def test_the_crms_own_page_shows_the_ledgers_probability_and_reasons(showroom, tmp_path):
    deal_id, score = max(showroom.scores.items(), key=lambda each: len(told_to_all(each[1])))
    with browser() as page:
        open_deal(page, showroom.crm, deal_id)
        probability = said_of(showroom.dealcast.workspace, deal_id)["win_probability"].iloc[-1]
        expect(shown_probability(page)).to_have_text(f"{probability * 100:.0f}%")
        assert len(told_to_all(score)) >= 2
        expect(field(page, "score_reasons")).to_have_value("\n".join(told_to_all(score)))
        expect(field(page, "score_link")).to_have_value(re.compile(rf"/deals/{deal_id}$"))
        keep_picture(page, "tryton-deal", tmp_path)
        page.get_by_role("tab", name="Activities").click()
        expect(page.locator("table.tree:visible tbody").last).to_contain_text("Offer")
        keep_picture(page, "tryton-activities", tmp_path)


def test_a_stage_that_a_rep_moves_in_the_browser_changes_the_score_that_is_shown(showroom, tmp_path):
    crm = showroom.crm
    states = {str(each["id"]): each for each in crm.rows("sale.opportunity", ["state", "stage"])}
    deal_id = next(
        deal for deal in showroom.scores if states[deal]["state"] == "opportunity" and not states[deal]["stage"]
    )
    before = said_of(showroom.dealcast.workspace, deal_id)
    with pushing(showroom.dealcast.workspace), browser() as page:
        open_deal(page, crm, deal_id)
        field(page, "stage").select_option(label="Negotiation")
        page.locator("#save:visible").click()
        # The webhook tells the service, which says another score; it is pushed, and shown.
        until(lambda: len(said_of(showroom.dealcast.workspace, deal_id)) > len(before))
        said = said_of(showroom.dealcast.workspace, deal_id)["win_probability"].iloc[-1]
        assert said != before["win_probability"].iloc[-1]
        row = [["id", "=", int(deal_id)]]
        until(lambda: crm.rows("sale.opportunity", ["score_probability"], row)[0]["score_probability"] == said)
        page.locator("#reload:visible").click()
        expect(shown_probability(page)).to_have_text(f"{said * 100:.0f}%")
        expect(page.locator("select[name=stage]:visible option:checked")).to_have_text("Negotiation")
        keep_picture(page, "tryton-deal-moved", tmp_path)
    deal = showroom.service.get(f"/v1/deals/{deal_id}").json()
    assert deal["deal"]["stage"] == "Negotiation" and deal["score"]["win_probability"] == said
    assert crm.rows("deal_score.change", ["refused"]) == []


def test_a_later_sync_brings_what_changed_and_nothing_twice(small_crm, dealcast):
    dealcast.connect(small_crm.url)
    first = dealcast("sync")
    (some,) = small_crm.rows("sale.opportunity", ["state"], [["state", "=", "lead"]])[:1]
    small_crm.call("sale.opportunity.lost", [some["id"]], small_crm.context)
    customer = read_tables(dealcast.workspace).get("accounts")["account_id"].iloc[-1]
    (country,) = small_crm.call("country.country.create", [{"name": "Germany", "code": "DE"}], {})
    small_crm.call("party.address.create", [{"party": int(customer), "country": country}], small_crm.context)
    later = dealcast("sync")
    accounts = read_tables(dealcast.workspace).get("accounts").set_index("account_id")
    assert accounts["country"].dropna().to_dict() == {customer: "DE"}
    assert later["data_version"] > first["data_version"] and later["cursor"] > first["cursor"]
    assert (later["tables"]["deals"]["new"], later["tables"]["deals"]["changed"]) == (0, 1)
    assert later["tables"]["deal_history"]["new"] == 2  # its state and, as losing does, its close date
    assert later["api_calls"] < first["api_calls"] / 2
    full = dealcast("sync", "--full")
    assert full["tables"]["deals"]["read"] == first["tables"]["deals"]["read"]
    assert full["tables"]["deal_history"]["new"] == 0 == full["tables"]["deals"]["changed"]
