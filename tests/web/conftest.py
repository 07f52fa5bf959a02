"""One company that has lived with the service, one server of it and one browser, for all tests of the pages."""

import shutil
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from browser_here import CHROMIUM, launch
from lived_company import ledger_of, lived_company
from made_once import made_once
from playwright.sync_api import Browser, Page, expect, sync_playwright
from web_session import Visit, Web

from crm.synthetic import CompanyConfig
from tests.end_to_end.serving_here import RealServer

PROJECT = Path(__file__).resolve().parents[2]
SHOTS = PROJECT / ".screenshots"
COMPANY = CompanyConfig(
    seed=5,
    start=date(2024, 9, 2),
    days=525,
    n_reps=6,
    n_teams=3,
    n_regions=2,
    deals_per_week=9,
    team_moves=True,
    currencies=("USD", "EUR"),
)
TRAINED_AS_OF = pd.Timestamp("2025-09-22", tz="UTC")


@pytest.fixture(scope="session")
def company(tmp_path_factory) -> Path:
    """The workspace of the company, a copy of its own for each process of tests; only what pages write changes it."""
    lived = made_once(tmp_path_factory, "lived", lambda half: lived_company(half, COMPANY, TRAINED_AS_OF))
    return Path(shutil.copytree(lived, tmp_path_factory.mktemp("company") / "workspace"))


@pytest.fixture(scope="session")
def service(company, tmp_path_factory):
    """The URL of the company's service, ready to answer."""
    server = RealServer(company, tmp_path_factory.mktemp("server") / "server.log")
    try:
        server.until_ready()
        yield server.url
    finally:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="module")
def browser() -> Browser:
    """Chromium for one file of tests: while Playwright is there no test of the process can run an event loop."""
    if not Path(CHROMIUM).exists():
        pytest.skip("Chromium is not installed: apt-get install chromium")
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        found = launch(playwright)
        yield found
        found.close()


@pytest.fixture(scope="module")
def web(company, service, browser) -> Web:
    """How tests sign in and look."""
    SHOTS.mkdir(exist_ok=True)  # files of tests run beside each other: each overwrites its own pictures
    return Web(service, ledger_of(company), browser, SHOTS)


@pytest.fixture
def visit(web):
    """Sign in (as a user of the CRM, or with nobody's key) and get the page; nothing may be wrong on it at the end."""
    opened: list[Visit] = []

    def sign_in(user: str | None = None, **options: object) -> Page:
        opened.append(web.sign_in(user, **options))
        return opened[-1].page

    yield sign_in
    troubles = [trouble for each in opened for trouble in each.troubles]
    for each in opened:
        each.page.context.close()
    assert not troubles, troubles
