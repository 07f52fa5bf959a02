"""From a real Creme's deals to a score in the block on its own page, and back when a rep moves a phase there.

`make soak` and `make test-crm` run this: Creme takes a minute to install, and minutes to be filled.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from command_line import CommandLine
from creme_here import LOGIN, TOKEN, Creme, installation
from playwright.sync_api import Locator, Page, expect
from showroom import browser, keep_picture, pushing, said_of, serve_the_learned_model, serving, told_to_all, until
from stumbling_proxy import stumbling_proxy
from tryton_here import free_port
from what_stands import assert_same, held

from crm.store import read_tables

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(3600)]

HERE = Path(__file__).parent
DEALS = 240
STUMBLES = {3: "429", 5: "503", 7: "half", 11: "cut"}


@dataclass(frozen=True)
class Showroom:
    """A Creme and a dealcast beside it, both running, and what dealcast said at each step."""

    crm: Creme
    written: list[list[str]]
    dealcast: CommandLine
    service: httpx.Client
    found: dict[str, Any]
    synced: dict[str, Any]
    scores: dict[str, dict[str, Any]]
    pushed: dict[str, Any]


@pytest.fixture(scope="module")
def showroom(tmp_path_factory):
    """The whole way, in order: connect, sync, train, score, push, serve."""
    folder = tmp_path_factory.mktemp("showroom")
    dealcast = CommandLine(folder / "workspace")
    key, port = dealcast("keys", "create", "creme", "--scope", "events,read")["key"], free_port()
    crm = Creme(installation(), folder)
    written = crm.run(HERE / "creme_company.py", {"count": DEALS, "seed": 7, "now": now()})
    crm.tells = {"DEALCAST_URL": f"http://127.0.0.1:{port}", "DEALCAST_KEY": key}
    with pytest.MonkeyPatch.context() as environment, crm.running():
        environment.setenv("DEALCAST_CREME_TOKEN", TOKEN)
        found = dealcast("connect", "creme", f"url={crm.url}", "least_change_points=0")
        synced = dealcast("sync")
        dealcast("train")
        serve_the_learned_model(dealcast.workspace)
        scores = {score["deal_id"]: score for score in dealcast("score")["scores"]}
        pushed = dealcast("push")
        with serving(dealcast.workspace, port, key) as service:
            yield Showroom(crm, written, dealcast, service, found, synced, scores, pushed)


def now() -> str:
    return pd.Timestamp.now("UTC").isoformat()


def test_every_deal_comes_with_its_whole_past_and_what_was_said_and_done_about_it(showroom):
    assert showroom.found["system"] == "Creme 2.8.6" and showroom.found["writes_to"]
    assert not any(table["refused"] for table in showroom.synced["tables"].values())
    tables = read_tables(showroom.dealcast.workspace)
    assert len(tables.get("deals")) == DEALS == tables.get("deals")["account_id"].notna().sum()
    assert len(tables.get("activities")) > 2 * DEALS and set(tables.get("activities")["type"]) == {"call", "meeting"}
    assert len(tables.get("deal_contacts")) == DEALS
    standing, expected = {}, []
    for deal_id, at, field, value in showroom.written:
        if standing.get((deal_id, field)) != value:
            expected.append((deal_id, pd.Timestamp(at), field, standing.get((deal_id, field)), value))
        standing[deal_id, field] = value
    history = tables.get("deal_history")
    history = history[history["field"].isin(["stage", "amount", "close_date"])]
    columns = ["deal_id", "changed_at", "field", "old_value", "new_value"]
    told = history[columns].astype("object").where(history[columns].notna(), None).itertuples(index=False, name=None)
    assert sorted(map(plain, told)) == sorted(map(plain, expected))
    fields = showroom.dealcast("check")["fields"]
    tracked = {name for name, known in fields.items() if known["class"] == "tracked"}
    assert tracked >= {"stage", "amount", "close_date", "owner_id", "currency"}


def plain(change: tuple[Any, ...]) -> tuple[str, ...]:
    """A change to sort and compare: a number is the same whether it says cents or not."""
    deal_id, at, field, *values = change
    if field == "amount":
        values = [value if value is None else float(value) for value in values]
    return (deal_id, pd.Timestamp(at).isoformat(), field, *map(str, values))


def test_a_server_that_stumbles_again_and_again_delivers_everything_once(showroom, tmp_path):
    twice = CommandLine(tmp_path / "workspace")
    with stumbling_proxy(showroom.crm.url) as proxy:
        proxy.plan = lambda number, body: next((what for n, what in STUMBLES.items() if number % n == 0), None)
        twice("connect", "creme", f"url={proxy.url}", "pause_seconds=0.01")
        twice("sync")
    assert set(proxy.stumbles) == set(STUMBLES.values())
    assert_same(held(twice.workspace), held(showroom.dealcast.workspace))


def test_creme_takes_every_score_once_and_names_what_it_does_not_know(showroom):
    assert showroom.pushed["written"] == len(showroom.scores) > 10 and not showroom.pushed["failed"]
    assert any(score["reasons"] for score in showroom.scores.values())
    score = {"probability": 0.5, "low": None, "high": None, "change": None, "reasons": [], "model": "m"}
    odd = [{**score, "deal_id": each, "as_of": now()} for each in ("999999", "x")]
    assert showroom.crm.ask("scores", scores=odd)["refused"] == dict.fromkeys(("999999", "x"), "no such opportunity")
    assert showroom.crm.ask("withdraw", deals=["999999", "x"]) == {"withdrawn": 0}


def test_nobody_reads_or_writes_without_the_token(showroom):
    for what in ("about", "pages/opportunities", "scores", "withdraw"):
        for headers in ({}, {"authorization": "Bearer wrong"}):
            answer = httpx.post(f"{showroom.crm.url}/deal_score/{what}", json={}, headers=headers)
            assert answer.status_code == 401 and "deals" not in answer.text
    assert httpx.get(f"{showroom.crm.url}/deal_score/about").status_code == 405


def open_deal(page: Page, crm: Creme, deal_id: str) -> Locator:
    """Log in to Creme and open a deal's page; the block with the score."""
    page.goto(f"{crm.url}/opportunities/opportunity/{deal_id}")
    page.locator("input[name=username]").fill(LOGIN)
    page.locator("input[name=password]").fill(LOGIN)
    page.keyboard.press("Enter")
    block = page.locator(".deal-score")
    expect(block).to_be_visible()
    return block


def test_cremes_own_page_shows_the_ledgers_probability_and_reasons(showroom, tmp_path):
    deal_id, score = max(showroom.scores.items(), key=lambda each: len(told_to_all(each[1])))
    with browser() as page:
        block = open_deal(page, showroom.crm, deal_id)
        probability = said_of(showroom.dealcast.workspace, deal_id)["win_probability"].iloc[-1]
        expect(block.locator(".deal-score-percent")).to_have_text(f"{probability * 100:.0f}%")
        expect(block.get_by_role("progressbar")).to_have_attribute("aria-valuenow", f"{probability * 100:.0f}")
        assert len(told_to_all(score)) >= 2
        expect(block.locator("li")).to_have_text(told_to_all(score))
        link = f"{showroom.service.base_url}/deals/{deal_id}".replace("//deals", "/deals")
        expect(block.locator("a")).to_have_attribute("href", link)
        keep_picture(page, "creme-deal", tmp_path)


def test_a_phase_that_a_rep_moves_in_the_browser_changes_the_score_that_is_shown(showroom, tmp_path):
    workspace = showroom.dealcast.workspace
    deals = read_tables(workspace).get("deals").set_index("deal_id")["stage"]
    deal_id = next(deal for deal in showroom.scores if deals[deal] == "In progress")
    before = said_of(workspace, deal_id)
    with pushing(workspace), browser() as page:
        block = open_deal(page, showroom.crm, deal_id)
        choose_phase(page, "Under negotiation")
        # The webhook tells the service, which says another score; it is pushed, and shown.
        until(lambda: len(said_of(workspace, deal_id)) > len(before))
        said = said_of(workspace, deal_id)["win_probability"].iloc[-1]
        assert said != before["win_probability"].iloc[-1]
        shown = f"{said * 100:.0f}%"
        until(lambda: page.reload() and block.locator(".deal-score-percent").text_content() == shown)
        expect(block.locator(".deal-score-range")).to_be_visible()
        keep_picture(page, "creme-deal-moved", tmp_path)
    deal = showroom.service.get(f"/v1/deals/{deal_id}").json()
    assert deal["deal"]["stage"] == "Under negotiation" and deal["score"]["win_probability"] == said


def choose_phase(page: Page, phase: str) -> None:
    """Edit the field where it stands, as a rep does."""
    edit = page.locator("a[href*='regular_field-sales_phase']").first
    page.locator(".card-info-field").filter(has=edit).hover()
    edit.click()
    dialog = page.locator(".ui-dialog:visible")
    dialog.locator(".select2-selection").click()
    page.locator(".select2-results__option").filter(has_text=phase).click()
    dialog.get_by_role("button", name="Save the modifications").click()
    expect(dialog).to_be_hidden()
    expect(page.locator(".card-info-field").filter(has_text="Sales phase")).to_contain_text(phase)
