"""The pages of a real pipeline without calls, quotas and teams: every page stands, and says what is missing."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from lived_company import ledger_of
from playwright.sync_api import expect
from web_session import Visit, Web, findings, look

from crm.ingest import import_folder
from crm.store import read_tables
from tests.end_to_end.serving_here import RealServer
from training.fit import train

pytestmark = pytest.mark.slow
EVERY = 8
"""One deal of so many: training takes seconds, not minutes."""


@pytest.fixture(scope="module")
def bank(shared, tmp_path_factory) -> Path:
    """A workspace with an eighth of the bank's deals, and a model."""
    source, folder = shared / "data" / "bank_loans", tmp_path_factory.mktemp("bank")
    export = folder / "export"
    export.mkdir()
    deals = pd.read_csv(source / "deals.csv", dtype=str).iloc[::EVERY]
    deals.to_csv(export / "deals.csv", index=False)
    for name in ("deal_history.csv", "activities.csv"):
        rows = pd.read_csv(source / name, dtype=str)
        rows[rows["deal_id"].isin(deals["deal_id"])].to_csv(export / name, index=False)
    for name in ("stages.csv", "users.csv", "calendar.json"):
        shutil.copy(source / name, export / name)
    as_of = pd.Timestamp(json.loads((source / "calendar.json").read_text("utf-8"))["as_of"], tz="UTC")
    import_folder(folder / "workspace", export, full=False, now=as_of)
    train(folder / "workspace", now=as_of, promote="always")
    return folder / "workspace"


def test_every_page_of_a_bank_stands_and_says_what_is_missing(bank, browser, tmp_path):
    server = RealServer(bank, tmp_path / "server.log")
    try:
        server.until_ready()
        web = Web(server.url, ledger_of(bank), browser, tmp_path)
        visit: Visit = web.sign_in()
        page = visit.page
        for path in ("/review", "/changes", "/accuracy", "/deals"):
            assert look(page, path).status == 200
            assert findings(page) == [], path
        look(page, "/review")
        company = next(n for n in web.asked("/v1/forecast", {})["nodes"] if n["node_type"] == "company")
        shown = page.locator("[data-node='company:company'] [data-value=p50]").inner_text()
        assert float("".join(c for c in shown if c.isdigit() or c == ".")) == pytest.approx(company["p50"], abs=0.51)
        expect(page.get_by_text("Nobody has called this yet.")).to_be_visible()
        expect(page.get_by_text("No quota is known here")).to_be_visible()
        expect(page.locator(".headline .tag.live")).to_have_text("live, not published yet")
        deal = web.asked("/v1/score", {"deal_ids": list(some_deals(bank))})["scores"][0]["deal_id"]
        assert look(page, f"/deals/{deal}").status == 200
        page.context.close()
        assert not visit.troubles, visit.troubles
    finally:
        server.process.kill()
        server.process.wait()


def some_deals(workspace: Path) -> list[str]:
    """The deals that were created last, of which some are open."""
    deals = read_tables(workspace).get("deals")
    return deals.sort_values("created_at")["deal_id"].tail(900).tolist()
