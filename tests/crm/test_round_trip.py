"""From the CRM's deals to a score on its form, with nothing but its own API and our command line."""

import pandas as pd
import pytest
from tryton_here import PASSWORD

from crm.store import read_tables
from features.catalogue import BY_NAME

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


def test_a_score_finds_its_way_from_the_crms_history_back_onto_its_form(scored_crm, dealcast):
    every_id = list(range(1, 301))
    found = dealcast.connect(scored_crm.url, f"user={somebody_who_may_only_read_and_score(scored_crm)}")
    assert found["system"] == "Tryton 8.0" and found["writes_to"] == "sale.opportunity.score"
    synced = dealcast("sync")
    assert synced["tables"]["deals"]["new"] == synced["tables"]["deals"]["read"] >= 280
    assert not any(table["refused"] for table in synced["tables"].values())
    fields = dealcast("check")["fields"]
    tracked = {name for name, known in fields.items() if known["class"] == "tracked"}
    assert tracked >= {"stage", "amount", "close_date", "owner_id", "account_id", "currency", "conversion_probability"}
    revisions = scored_crm.call("sale.opportunity.history_revisions", every_id, scored_crm.context)

    dealcast("train")
    scores = {score["deal_id"]: score for score in dealcast("score")["scores"]}
    pushed = dealcast("push")
    assert pushed["written"] == len(scores) > 10 and not pushed["failed"]

    shown = ["score_probability", "score_change", "score_reasons", "score_as_of", "score_model", "score_link"]
    on_forms = {str(each["id"]): each for each in scored_crm.rows("sale.opportunity", shown)}
    assert {deal for deal, form in on_forms.items() if form["score_probability"] is not None} == scores.keys()
    for deal_id, score in scores.items():
        form = on_forms[deal_id]
        assert form["score_probability"] == pytest.approx(score["win_probability"])
        assert form["score_model"] == score["model_version"]
        for_all = [each["text"] for each in score["reasons"] if BY_NAME[each["feature"]].audience == "everyone"]
        assert (form["score_reasons"] or "").splitlines() == for_all
        parts = {name: part for name, part in form["score_as_of"].items() if name != "__class__"}
        assert pd.Timestamp(**parts, tz="UTC") == pd.Timestamp(score["as_of"])
        assert form["score_link"] == f"https://dealcast.example.com/deals/{deal_id}"
    panel = scored_crm.call("sale.opportunity.fields_view_get", None, "form", scored_crm.context)["arch"]
    assert all(f'name="{name}"' in panel for name in shown if name != "score_model")
    # No score entered the opportunities' own history.
    assert revisions == scored_crm.call("sale.opportunity.history_revisions", every_id, scored_crm.context)

    again = dealcast("push")
    assert (again["written"], again["unchanged"]) == (0, len(scores))


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
