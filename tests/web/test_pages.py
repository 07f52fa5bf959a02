"""The pages as a sales team sees them, in a real browser: what they show is what the API and the ledger say."""

import csv
import io
import re

import pandas as pd
import pytest
from lived_company import LATE
from playwright.sync_api import Page, expect
from web_session import findings, look

from crm.store import read_tables
from models.bundle import bundle_for
from tests.end_to_end.serving_here import fetch, until

pytestmark = pytest.mark.slow
PAGES = ("/review", "/changes", "/accuracy")
PAST = "2025-12-10"
REPLAYED_AT = pd.Timestamp("2025-09-01 09:00", tz="UTC")


@pytest.fixture(scope="module")
def facts(company):
    """The company as the command line reads it."""
    tables = read_tables(company)
    return bundle_for(company, tables.as_of, tables.as_of).read_history(tables)


@pytest.fixture(scope="module")
def manager(facts) -> str:
    """A manager with reps below."""
    users = facts[0].get("users")
    return str(users.loc[users["role"] == "manager", "user_id"].iloc[0])


@pytest.fixture(scope="module")
def rep(facts, manager) -> str:
    """A rep of the manager's."""
    users = facts[0].get("users")
    return str(users.loc[users["manager_id"] == manager, "user_id"].iloc[0])


def money(page: Page, node: str, column: str) -> float:
    """An amount of the table of nodes."""
    return amount(page.locator(f"[data-node='{node}'] [data-value={column}]").inner_text())


def amount(text: str) -> float:
    return float(re.sub(r"[^0-9.-]", "", text))


# -- looking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_usable_by_everybody_in_both_themes(visit, web, manager, scheme):
    for who, paths in ((None, PAGES), (manager, ("/me", *PAGES))):
        page = visit(who, color_scheme=scheme)
        for path in paths:
            assert look(page, path).status == 200
            assert findings(page) == [], f"{path} as {who}"
            web.shot(page, f"{path.strip('/')}-{'company' if who is None else 'manager'}-{scheme}")


def test_a_phone_shows_every_page_without_scrolling_sideways(visit, web, manager):
    page = visit(manager, viewport={"width": 390, "height": 844})
    for path in ("/me", *PAGES):
        look(page, path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        web.shot(page, f"{path.strip('/')}-phone")


def test_the_first_load_of_a_page_is_light(visit):
    page = visit()
    page.wait_for_load_state("networkidle")
    sizes = page.context.new_cdp_session(page)
    sizes.send("Network.enable")
    sizes.send("Network.clearBrowserCache")
    loaded: list[float] = []
    sizes.on("Network.loadingFinished", lambda event: loaded.append(event["encodedDataLength"]))
    look(page, "/review")
    assert len(loaded) >= 5 and 50_000 < sum(loaded) < 500_000


def test_the_theme_and_the_language_are_the_browsers_unless_chosen(visit):
    page = visit(color_scheme="dark", locale="de-DE")
    look(page, "/review")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    assert page.locator("html").get_attribute("lang") == "en-US", "no German texts: then not half of it"
    page.locator(".menu summary").click()
    page.get_by_role("link", name="Light", exact=True).click()
    assert page.evaluate(background) != dark and page.url.endswith("/review")


def test_a_printed_page_has_its_numbers_and_no_controls(visit):
    page = visit()
    look(page, "/review")
    page.emulate_media(media="print")
    expect(page.locator("nav")).to_be_hidden()
    expect(page.locator("form.pickers")).to_be_hidden()
    expect(page.locator("[data-node='company:company']")).to_be_visible()


# -- the review ------------------------------------------------------------------------------------------------------


def test_the_numbers_of_the_review_are_the_apis(visit, web):
    page = visit()
    look(page, "/review")
    nodes = {(n["node_type"], n["node_id"]): n for n in web.asked("/v1/forecast", {})["nodes"] if n["scope"] == "all"}
    while (closed := page.locator(".opener[aria-expanded=false]")).count():
        opener = closed.first
        key = opener.get_attribute("data-branch")
        opener.click()
        page.wait_for_selector(f".opener[data-branch='{key}'][aria-expanded=true]")
    shown = page.locator("[data-node]").evaluate_all("rows => rows.map(row => row.dataset.node)")
    expected = [f"{kind}:{name}" for kind, name in nodes if kind != "manager"]
    assert sorted(shown) == sorted(expected) and len(shown) > 10
    for key in shown:
        kind, _, name = key.partition(":")
        for column in ("won_to_date", "p50"):
            assert money(page, key, column) == pytest.approx(nodes[kind, name][column], abs=0.51)


def test_a_past_day_shows_exactly_what_was_published_then(visit, web):
    page = visit()
    look(page, f"/review?as_of={PAST}")
    head, said = web.ledger.latest_forecast(at=pd.Timestamp(PAST, tz="UTC") + pd.Timedelta(days=1))
    told = page.locator(".headline p").first.inner_text()
    assert "published" in told and "Dec 8, 2025, 9:02 AM" in told and head.published_at.day == 8
    company = said[said["node_type"] == "company"].iloc[0]
    assert money(page, "company:company", "p50") == pytest.approx(company["p50"], abs=0.51)
    assert money(page, "company:company", "won_to_date") == pytest.approx(company["won_to_date"], abs=0.51)


def test_the_chart_says_what_was_said_each_week_and_so_does_its_table(visit, web):
    page = visit()
    look(page, f"/review?as_of={PAST}")
    said = web.ledger.node_history(
        "company",
        "company",
        basis="published",
        period_start=pd.Timestamp("2025-10-01"),
        at=pd.Timestamp(PAST, tz="UTC") + pd.Timedelta(days=1),
    )
    page.get_by_text("As a table").first.click()
    rows = page.locator(".chart table tbody tr").all_inner_texts()
    assert len(rows) == len(said) > 8
    for row, low, middle, high in zip(rows, said["p10"], said["p50"], said["p90"], strict=True):
        assert [amount(cell) for cell in row.split("\t")[-3:]] == pytest.approx([low, middle, high], abs=0.51)


def test_pickers_take_effect_at_once_and_the_address_keeps_them(visit):
    page = visit()
    look(page, "/review")
    page.select_option("#period", "2025-10-01")
    page.wait_for_url("**period=2025-10-01**")
    assert page.locator("h1").inner_text() == "FY2025 Q4"
    page.select_option("#node", page.locator("#node option[value^=region]").first.get_attribute("value"))
    page.wait_for_url("**node=region**")
    assert "FY2025 Q4 · " in page.locator("h1").inner_text()


def test_a_breakdown_shows_its_deals_alone(visit, web, facts):
    page = visit()
    look(page, "/review?scope=deal_type%3Dnew")
    whole = web.asked("/v1/forecast", {"node_type": "company"})["nodes"][0]
    assert 0 < money(page, "company:company", "p50") < whole["p50"]
    look(page, f"/review?scope=deal_type%3Dnew&as_of={PAST}")
    expect(page.get_by_text("dealcast forecast --by deal_type")).to_be_visible()


def test_what_was_replayed_is_hatched_and_labelled(visit, web, company):
    head, said = web.ledger.latest_forecast(at=pd.Timestamp("2025-10-08", tz="UTC"))
    period = {"period_start": pd.Timestamp("2025-07-01"), "period_end": pd.Timestamp("2025-10-01")}
    rows = said.assign(as_of=REPLAYED_AT, node_name=None, **period)
    web.ledger.publish_forecast(
        type(head)("forecast", "replayed", REPLAYED_AT, head.published_at, head.model_version, head.data_version), rows
    )
    page = visit()
    look(page, "/review?as_of=2025-09-05")
    expect(page.locator(".headline .tag.hatched")).to_have_text("replayed")
    assert page.locator(".strip.hatched").count() and not page.locator(".strip:not(.hatched)").count()
    web.shot(page, "review-replayed")


def test_a_day_before_anything_was_published_says_what_to_do(visit):
    page = visit()
    look(page, "/review?as_of=2025-06-02")
    expect(page.get_by_text("Nothing was published for this period by then")).to_be_visible()
    expect(page.get_by_text("dealcast review --period-start 2025-04-01")).to_be_visible()


def test_the_export_is_the_forecast_as_the_api_gives_it(visit, web):
    page = visit()
    look(page, "/review")
    with page.expect_download() as started:
        page.get_by_role("link", name="Export CSV").click()
    rows = list(csv.DictReader(io.StringIO(started.value.path().read_text("utf-8"))))
    nodes = {(n["node_type"], n["node_id"]): n for n in web.asked("/v1/forecast", {})["nodes"]}
    assert {(row["node_type"], row["node_id"]) for row in rows} == set(nodes)
    for row in rows:
        assert float(row["mean"]) == pytest.approx(nodes[row["node_type"], row["node_id"]]["mean"])


def test_without_javascript_the_page_tells_the_same(visit):
    page = visit(java_script_enabled=False)
    page.goto("/review")
    before = page.locator("[data-node]").count()
    page.locator(".opener[aria-expanded=false]").first.click()
    assert page.locator("[data-node]").count() >= before - 1 > 0
    page.goto(f"/review?as_of={PAST}")
    page.locator(".pickers .apply").click()
    expect(page.locator("[data-node='company:company']")).to_be_visible()


def test_the_tree_opens_and_closes_by_keyboard(visit):
    page = visit()
    look(page, "/review")
    opener = page.locator(".opener[aria-expanded=false]").first
    key = opener.get_attribute("data-branch")
    opener.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(f".opener[data-branch='{key}'][aria-expanded=true]")
    below = page.locator(f"[data-under~='{key}']")
    expect(below.first).to_be_visible()
    page.keyboard.press("Enter")
    expect(below.first).to_be_hidden()


def test_money_is_read_in_the_currency_that_the_reader_chose(visit, web, facts):
    page = visit()
    look(page, "/review")
    node = web.asked("/v1/forecast", {"node_type": "company"})["nodes"][0]
    choose_currency(page, "EUR")
    rates = facts[0].get("exchange_rates").query("currency == 'EUR'").set_index("valid_from")["rate_to_base"]
    rate = rates.loc[pd.Timestamp("2026-01-01", tz="UTC")]
    assert rate != 1 and page.locator("#priced").inner_text().startswith("Amounts in EUR: 1 EUR = ")
    assert amount(page.locator("#priced").inner_text().split("=")[1].split("USD")[0]) == pytest.approx(rate, abs=6e-5)
    assert money(page, "company:company", "p50") == pytest.approx(node["p50"] / rate, abs=0.51)
    assert page.evaluate("worth(1)") == pytest.approx(1 / rate) and page.evaluate("exact.format(1)") == "€1"
    look(page, "/changes")
    bars = page.locator(".chart tbody tr")
    assert "€" in bars.last.inner_text() or page.get_by_text("As a table").click() is None
    assert "€" in bars.last.inner_text()
    choose_currency(page, LATE)
    no_rate = f"No rate of {LATE} is known for this moment: amounts are in USD."
    expect(page.locator("#priced")).to_have_text(no_rate)
    look(page, "/review")
    assert money(page, "company:company", "p50") == pytest.approx(node["p50"], abs=0.51)


def choose_currency(page: Page, currency: str) -> None:
    """Choose in the menu, as a reader does, and wait for the page to come back."""
    page.locator(".menu summary").click()
    page.get_by_role("link", name=currency, exact=True).click()
    page.wait_for_function("[...document.querySelectorAll('[data-chart]')].every(each => each.dataset.drawn)")
    page.locator(f".menu a[href*='currency={currency}'][aria-current=true]").wait_for(state="attached")


# -- who sees what ---------------------------------------------------------------------------------------------------


def test_a_manager_sees_the_people_below_and_nobody_else(visit, web, manager, rep):
    page = visit(manager)
    look(page, "/review")
    nodes = web.asked("/v1/forecast", {}, user=manager)["nodes"]
    shown = page.locator("[data-node]").evaluate_all("rows => rows.map(row => row.dataset.node)")
    assert set(shown) <= {f"{n['node_type']}:{n['node_id']}" for n in nodes} and f"rep:{rep}" in shown
    for path in ("/review?node=company%3Acompany", "/changes?node=company%3Acompany", "/review?node=rep%3A005999"):
        assert page.goto(path).status == 404
        expect(page.get_by_role("heading", name="There is no node")).to_be_visible()
    assert page.goto("/review/rows?branch=company%3Acompany").status == 404


def test_nobody_comes_in_without_signing_in(browser, web):
    context = browser.new_context(base_url=web.url)
    page = context.new_page()
    for path in ("/", "/me", *PAGES):
        page.goto(path)
        assert "/login?next=" in page.url
    page.fill("#key", "dc_wrong")
    page.click("main form button")
    expect(page.get_by_text("This key opens nothing")).to_be_visible()
    page.fill("#key", web.key())
    page.click("main form button")
    page.wait_for_url("**/review")
    context.close()


# -- what changed, my page, accuracy ---------------------------------------------------------------------------------


def test_the_walk_adds_up_and_each_cause_has_its_deals(visit):
    page = visit()
    look(page, "/changes")
    page.get_by_text("As a table").click()
    amounts = [amount(text.split("\t")[1]) for text in page.locator(".chart tbody tr").all_inner_texts()]
    assert sum(amounts[:-1]) == pytest.approx(amounts[-1], abs=len(amounts))
    step = page.locator("details.step").first
    step.locator("summary").click()
    expect(step.locator("table, p").first).to_be_visible()


def test_a_call_from_the_page_is_in_the_ledger_with_what_had_been_seen(visit, web, rep):
    page = visit(rep)
    look(page, "/me")
    page.fill("#amount", "123 456")
    page.fill("#note", "what I feel")
    page.get_by_role("button", name="Submit my call").click()
    expect(page.get_by_role("status")).to_have_text("Your call is kept.")
    expect(page.locator(".figures > div", has_text="My commit")).to_contain_text("$123K")  # at once
    call = web.ledger.calls().iloc[-1]
    assert (call["user_id"], call["category"], call["amount"], call["model_seen"]) == (rep, "commit", 123456, True)
    shown = {"node_type": "rep", "node_id": rep}
    until(lambda: web.asked("/v1/forecast", shown)["nodes"][0]["call_commit"] == 123456)
    web.shot(page, "me-called")
    choose_currency(page, "EUR")
    expect(page.get_by_label("Amount in EUR")).to_be_visible()
    page.fill("#amount", "1000")
    page.get_by_role("button", name="Submit my call").click()
    expect(page.get_by_role("status")).to_have_text("Your call is kept.")
    call = web.ledger.calls().iloc[-1]
    assert (call["user_id"], call["amount"], call["currency"]) == (rep, 1000, "EUR")


def test_who_disagrees_says_why_and_learns_later_who_was_closer(visit, web, rep, facts):
    page = visit(rep)
    look(page, "/me")
    row = page.locator("tr[data-deal]").first
    deal = row.get_attribute("data-deal")
    score = web.asked("/v1/score", {"deal_ids": [deal]})["scores"][0]
    assert row.locator("[data-value=period_win_probability]").inner_text() == f"{score['period_win_probability']:.0%}"
    row.locator(".disagree summary").click()
    row.get_by_label("It will bring").fill("1000")
    row.get_by_label("Because").fill("they told me so")
    row.get_by_role("button", name="Keep it").click()
    expect(page.get_by_role("status")).to_have_text("It is kept that you disagree.")
    said = web.ledger.all_overrides(rep).iloc[-1]
    assert (said["deal_id"], said["value"], said["note"], said["model_seen"]) == (deal, 1000, "they told me so", True)
    expect(page.get_by_text("1 more waits for its period's books to close.")).to_be_visible()
    say_of_the_past(web, rep, facts)
    look(page, "/me")
    expect(page.get_by_text("You disagreed once and were closer once.")).to_be_visible()


def say_of_the_past(web, rep: str, facts) -> None:
    """An override of the last period, right to the cent: of a deal that was open in it, and that had been scored."""
    at = pd.Timestamp("2025-10-14", tz="UTC")
    head, scores = web.ledger.latest_scores(at)
    tables, history = facts
    endings = history.endings.set_index("deal_id")
    lost = [d for d in scores["deal_id"] if d in endings.index and (endings.loc[[d], "outcome"] == "lost").all()]
    said = {"deal_id": lost[0], "value": 0.0, "note": None, "user_id": rep, "key_id": "k", "model_seen": True}
    when = {"period_start": pd.Timestamp("2025-10-01").date(), "submitted_at": at, "received_at": at}
    web.ledger.submit_overrides([{**said, **when, "node_type": None, "node_id": None}])


def test_the_reliability_diagram_is_what_the_ledger_published_and_what_came(visit, web, facts):
    page = visit()
    until(lambda: look(page, "/accuracy") and not page.locator("#record-pending").count(), 240)
    said = []
    for head in web.ledger.publications("scores", basis="published"):
        if head.period_end <= facts[0].as_of.tz_localize(None):
            rows = web.ledger.scores_of(head)[["deal_id", "as_of", "period_win_probability"]]
            said.append(rows.assign(ends=head.period_end.tz_localize("UTC")))
    said = pd.concat(said)
    wins = facts[1].endings.query("outcome == 'won'")[["deal_id", "at"]]
    both = said.reset_index(names="row").merge(wins, on="deal_id")
    won = both[(both["at"] > both["as_of"]) & (both["at"] < both["ends"])].groupby(["deal_id", "as_of"]).size()
    said["won"] = pd.MultiIndex.from_frame(said[["deal_id", "as_of"]]).isin(won.index)
    band = said[(said["period_win_probability"] >= 0.2) & (said["period_win_probability"] < 0.3)]
    page.locator(".chart summary").first.click()
    rows = [text.split("\t") for text in page.locator(".chart").first.locator("tbody tr").all_inner_texts()]
    told = next(row for row in rows if 20 <= amount(row[0]) < 30)
    assert (int(told[3]), int(told[4])) == (len(band), band["deal_id"].nunique()) and len(band) > 10
    assert amount(told[1]) == pytest.approx(100 * band["won"].mean(), abs=0.51)
    web.shot(page, "accuracy-judged")


def test_a_persons_lean_is_seen_by_the_person_and_the_chain_alone(visit, web, rep, manager, facts):
    names = facts[0].get("users").set_index("user_id")["name"]
    page = visit(rep)
    until(lambda: look(page, "/accuracy") and not page.locator("#record-pending").count(), 240)
    leans = page.locator("section", has=page.get_by_role("heading", name="How callers lean"))
    shown = leans.locator("tbody th").all_inner_texts()
    assert set(shown) <= {names[rep]}
    assert not [other for other in names.drop(rep) if other != names[rep] and other in leans.inner_text()]


# -- another company -------------------------------------------------------------------------------------------------


def test_the_files_of_a_page_are_kept_for_good_and_hold_no_data(web):
    status, text = fetch(f"{web.url}/static/pages.js")
    assert status == 200 and "addEventListener" in text
    assert fetch(f"{web.url}/static/../frame.py")[0] == 404
