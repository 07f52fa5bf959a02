"""A CRM with its own web page and a dealcast beside it, both running; how a browser sees a deal in Tryton's page."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from playwright.sync_api import Locator, Page, TimeoutError, expect, sync_playwright
from tryton_here import DEADLINE_SECONDS, PASSWORD, Tryton

from features.catalogue import BY_NAME
from ledger.ledger import open_ledger
from models.bundle import read_bundle, write_bundle
from models.bundle_store import bundles_folder, read_champion, set_champion

CHROMIUM = Path("/usr/bin/chromium")
PICTURES = "DEALCAST_TEST_PICTURES"
"""An environment variable: the folder that pictures of the pages are kept in."""


@contextmanager
def serving(workspace: Path, port: int, key: str) -> Iterator[httpx.Client]:
    """`dealcast serve` in a process of its own, asked to stop afterwards; a client of it once it is ready."""
    command = "import sys; from dealcast.cli import main; main()"
    words = ["--workspace", str(workspace), "serve", "--port", str(port)]
    said = (workspace / "service.log").open("w")
    process = subprocess.Popen([sys.executable, "-c", command, *words], stdout=said, stderr=said, env={**os.environ})
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"x-api-key": key}, timeout=30) as client:
            until(lambda: is_ready(client))
            yield client
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)
        said.close()


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").is_success
    except httpx.TransportError:
        return False


def until(condition: Callable[[], Any]) -> Any:
    """The first true value of a condition, asked again and again."""
    give_up_at = time.monotonic() + DEADLINE_SECONDS
    while not (value := condition()):
        assert time.monotonic() < give_up_at, "it did not happen in time"
        time.sleep(0.05)
    return value


@contextmanager
def browser() -> Iterator[Page]:
    """A page of Debian's Chromium; skips where there is none."""
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not installed: apt-get install chromium fonts-dejavu-core")
    with sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = window.new_page(viewport={"width": 1280, "height": 1000}, locale="en")
        page.set_default_timeout(DEADLINE_SECONDS * 1000)
        expect.set_options(timeout=DEADLINE_SECONDS * 1000)
        try:
            yield page
        finally:
            window.close()


def keep_picture(page: Page, name: str, folder: Path) -> None:
    """A picture of the page, in the folder that `DEALCAST_TEST_PICTURES` names, else in the test's own."""
    kept = Path(os.environ.get(PICTURES) or folder)
    kept.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=kept / f"{name}.png", full_page=True)


@contextmanager
def pushing(workspace: Path) -> Iterator[None]:
    """`dealcast push --follow` in a process of its own."""
    command = "import sys; from dealcast.cli import main; main()"
    with (workspace / "push.log").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", command, "--workspace", str(workspace), "push", "--follow"], stdout=said, stderr=said
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(DEADLINE_SECONDS)


def serve_the_learned_model(workspace: Path) -> None:
    """The champion without its fallback: so few deals may not beat the baselines, which give no reasons."""
    bundle = read_bundle(bundles_folder(workspace) / read_champion(workspace))
    kept = {key: value for key, value in bundle.manifest.items() if key not in ("model_version", "files")}
    learned = write_bundle(workspace, replace(bundle, manifest={**kept, "fallback": None}))
    set_champion(workspace, learned.model_version, by="test", reason="with reasons", at=pd.Timestamp.now("UTC"))


def told_to_all(score: dict[str, Any]) -> list[str]:
    """The reasons that whoever sees the deal may read."""
    return [each["text"] for each in score["reasons"] if BY_NAME[each["feature"]].audience == "everyone"]


def said_of(workspace: Path, deal_id: str) -> pd.DataFrame:
    """What the ledger has of a deal."""
    ledger = open_ledger(f"sqlite:///{workspace / 'dealcast.db'}")
    history = ledger.score_history(deal_id)
    ledger.engine.dispose()
    return history


def open_deal(page: Page, crm: Tryton, deal_id: str) -> None:
    """Log in to Tryton's page and open a deal's form; it is there once it shows the score."""
    page.goto(f"{crm.url}/#crm/model/sale.opportunity/{deal_id}")
    password = page.locator("input[type=password]:visible")
    login = page.locator("input[name=login]")
    for _ in range(24):  # a form that does not know its database yet takes no Enter
        with suppress(TimeoutError):
            login.fill("admin", timeout=5_000)
            login.press("Enter", timeout=5_000)
        with suppress(TimeoutError):
            password.wait_for(timeout=5_000)
            break
    password.fill(PASSWORD)
    password.press("Enter")
    expect(shown_probability(page)).to_have_text(re.compile(r"^\d+%$"))


def shown_probability(page: Page) -> Locator:
    """The text on the bar of the win probability."""
    return page.locator(".progress-bar:visible")


def field(page: Page, name: str) -> Locator:
    """A field of the form."""
    return page.locator(f"[name={name}]:visible")


def end_configuration(crm: Tryton) -> None:
    """Say that Tryton is set up, or its page begins with that."""
    steps = crm.rows("ir.module.config_wizard.item", ["state"], [["state", "=", "open"]])
    crm.call("ir.module.config_wizard.item.write", [step["id"] for step in steps], {"state": "done"}, crm.context)
