"""The pages of deals in a real browser: sliders, lists, files, the card, and both translations."""

import csv
import io

import pytest
from playwright.sync_api import Page, expect
from web_session import findings, look

from crm.store import read_tables
from models.bundle import bundle_for
from serving.pages.words import Say, locale_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def facts(company):
    """The tables, and the ids of the open deals by owner."""
    tables = read_tables(company)
    bundle_for(company, tables.as_of, tables.as_of)
    deals = tables.get("deals")
    return tables, deals[~deals["is_closed"].fillna(False).astype(bool) & deals["close_date"].notna()]


@pytest.fixture(scope="module")
def deal_id(web, facts) -> str:
    """An open deal with everything on it."""
    ids = facts[1]["deal_id"].tolist()
    return str(web.asked("/v1/score", {"deal_ids": ids})["scores"][0]["deal_id"])


@pytest.fixture(scope="module")
def say(facts) -> Say:
    calendar = facts[0].calendar
    return Say(locale_of("en-US", ""), calendar.base_currency, str(calendar.time_zone))


def wait_for_pieces(page: Page) -> None:
    """Everything that comes a little later is there."""
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(page.locator(".change")).to_be_visible(timeout=60_000)
    expect(page.locator(".similar")).to_be_visible(timeout=60_000)
    page.evaluate("scrollTo(0, 0)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_of_deals_are_usable_by_everybody_in_both_themes(visit, web, deal_id, scheme):
    page = visit(color_scheme=scheme)
    for path, name in ((f"/deals/{deal_id}", "deal"), ("/deals?view=all", "deals"), (f"/panel/{deal_id}", "panel")):
        assert look(page, path).status == 200
        if name == "deal":
            wait_for_pieces(page)
        assert findings(page) == [], path
        web.shot(page, f"{name}-{scheme}")


def test_a_phone_shows_pages_of_deals_without_scrolling_sideways(visit, web, deal_id):
    page = visit(viewport={"width": 390, "height": 844})
    for path, name in ((f"/deals/{deal_id}", "deal"), ("/deals?view=all", "deals"), (f"/panel/{deal_id}", "panel")):
        look(page, path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        web.shot(page, f"{name}-phone")


def test_the_deal_on_the_page_is_the_deal_of_the_api(visit, web, deal_id, say):
    page = visit()
    look(page, f"/deals/{deal_id}")
    told = web.asked(f"/v1/deals/{deal_id}")
    hero = page.locator(".figure.hero dd")
    expect(hero).to_contain_text(say.percent(told["score"]["win_probability"]))
    rows = page.locator("table", has_text="published").locator("tr", has_text="published")
    shown = rows.evaluate_all("rows => rows.map(row => row.lastElementChild.textContent.trim())")
    assert shown == [say.percent(each["win_probability"]) for each in reversed(told["history"])]


def test_a_moved_slider_is_answered_at_once_as_the_api_answers(visit, web, deal_id, say):
    page = visit()
    look(page, f"/deals/{deal_id}")
    before = web.asked(f"/v1/deals/{deal_id}")["score"]
    slider = page.locator("#slider-close_date")
    with page.expect_response(lambda answer: "/what_if/" in answer.url and answer.ok) as answered:
        slider.focus()
        page.keyboard.press("End")
    html = answered.value.text()
    expect(page.locator("#says-close_date")).to_contain_text("imagined")
    shown = page.locator(".answer [data-name=period_win_probability] dd")
    assert shown.inner_text().split()[0] in html
    assert shown.inner_text() != say.percent(before["period_win_probability"])
    days = int(slider.get_attribute("max"))
    there = page.goto(f"/what_if/{deal_id}?close_date={days}")
    assert there is not None and there.status == 200
    expect(page.locator("#slider-close_date")).to_have_value(str(days))
    page.get_by_role("link", name="As it is").click()
    expect(page.locator(".answer [data-name=win_probability] dd")).to_have_text(say.percent(before["win_probability"]))


def test_a_list_is_opened_filtered_and_kept_as_a_file(visit, web, say):
    page = visit()
    look(page, "/deals")
    page.locator(".tabs a", has_text="All open deals").click()
    page.wait_for_url("**view=all*")
    team = page.locator("#by-team option").nth(1).inner_text()
    page.select_option("#by-team", label=team)
    page.wait_for_url("**team=*")
    count = page.locator(".sums dd").first.inner_text()
    with page.expect_download() as kept:
        page.get_by_role("link", name="As a CSV file").click()
    rows = list(csv.DictReader(io.StringIO(kept.value.path().read_text("utf-8"))))
    assert say.number(len(rows)) == count and {row["team"] for row in rows} == {team}
    scores = web.asked("/v1/score", {"deal_ids": [row["deal_id"] for row in rows]})["scores"]
    assert [float(row["win_probability"]) for row in rows] == [score["win_probability"] for score in scores]
    page.locator(".talk tbody a").first.click()
    expect(page.locator("h1")).to_have_text(rows[0]["name"])


def test_a_rep_finds_no_deal_of_others(visit, facts):
    owners = facts[1].groupby("owner_id")["deal_id"].first()
    page = visit(str(owners.index[0]))
    assert page.goto(f"/deals/{owners.iloc[0]}").status == 200
    assert page.goto(f"/deals/{owners.iloc[-1]}").status == 404
    expect(page.locator("h1")).to_contain_text("There is no deal")


def test_who_disagrees_on_the_deals_page_is_read_there_by_those_above(visit, web, facts):
    users = facts[0].get("users").set_index("user_id")
    manager = users.index[users["role"] == "manager"][-1]  # another's reps disagree in other tests
    open_deal = facts[1][facts[1]["owner_id"].isin(users.index[users["manager_id"] == manager])].iloc[0]
    rep, deal_id = str(open_deal["owner_id"]), str(open_deal["deal_id"])
    page = visit(rep)
    look(page, f"/deals/{deal_id}")
    assert not page.locator(".otherwise").count()
    page.locator(".disagree summary").click()
    page.get_by_label("It will bring").fill("4321")
    page.get_by_label("Because").fill("the budget is signed")
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_role("status")).to_have_text("It is kept that you disagree.")
    expect(page.locator(".otherwise tbody")).to_contain_text("$4,321")
    expect(page.locator(".otherwise tbody")).to_contain_text(users.loc[rep, "name"])
    said = web.ledger.deal_overrides(deal_id).iloc[-1]
    told = (said["user_id"], said["value"], said["note"], said["model_seen"])
    assert told == (rep, 4321, "the budget is signed", True)
    above = visit(manager)
    look(above, f"/deals/{deal_id}")
    expect(above.locator(".otherwise tbody")).to_contain_text("the budget is signed")


@pytest.mark.parametrize(("locale", "title"), [("fr-FR", "Affaires à discuter"), ("ro-RO", "Oportunități de discutat")])
def test_pages_speak_the_browsers_language(visit, web, deal_id, locale, title):
    page = visit(locale=locale)
    look(page, "/deals")
    assert page.locator("html").get_attribute("lang") == locale
    expect(page.locator("h1")).to_have_text(title)
    web.shot(page, f"deals-{locale}")
    look(page, f"/deals/{deal_id}")
    web.shot(page, f"deal-{locale}")
