"""The pictures of the README, taken from the real pages of a synthetic company: `make screenshots [WORKSPACE=DIR]`.

The company has lived with the service for two quarters; a model was trained at the beginning of each of them, and every
Monday was published under its own clock. With WORKSPACE that company is made there once and kept, for another look.
"""

import os
import sys
import tempfile
from pathlib import Path

import pandas as pd
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests" / "web")]

from browser_here import launch  # noqa: E402
from lived_company import ledger_of, lived_company  # noqa: E402
from web_session import Web, look  # noqa: E402

from dealcast.demo import COMPANY  # noqa: E402
from tests.end_to_end.serving_here import RealServer, until  # noqa: E402

PICTURES = PROJECT / "docs" / "images"
TRAINED_AS_OF = [pd.Timestamp(day, tz="UTC") for day in ("2025-10-01", "2026-01-01")]
MANAGER, CALLED = "005000020", "1310000"
LONGEST_SECONDS = 900
"""A busy machine takes its time; a quiet one needs seconds."""
COLOURS = 128
"""Pages are flat: so many colours look the same and weigh a third."""


def main() -> None:
    """Make the company, serve it, and take the pictures."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(os.environ.get("WORKSPACE") or Path(folder) / "workspace")
        if not workspace.exists():
            lived_company(workspace, COMPANY, *TRAINED_AS_OF)
        server = RealServer(workspace, Path(folder) / "server.log")
        try:
            server.until_ready(LONGEST_SECONDS)
            expect.set_options(timeout=1000 * LONGEST_SECONDS)
            with sync_playwright() as playwright:
                take(Web(server.url, ledger_of(workspace), launch(playwright), PICTURES))
        finally:
            server.process.kill()
            server.process.wait()


def take(web: Web) -> None:
    """The pictures, in light and dark; the review last, when the callers' record has been worked out."""
    page = web.sign_in(name="Sales operations").page
    look(page, "/changes")
    picture(page, "changes", height=830)
    look(page, "/deals")
    picture(page, "deals", height=900)
    page.locator(".talk tbody a").first.click()
    page.wait_for_selector("[data-chart][data-drawn]")
    page.locator("[hx-trigger=revealed]").first.scroll_into_view_if_needed()
    expect(page.locator(".change")).to_be_visible()
    picture(page, "deal", height=1330)
    hers = web.sign_in(MANAGER, color_scheme="dark").page
    look(hers, "/me")
    hers.fill("#amount", CALLED)
    hers.fill("#note", "Delta slips to April")
    hers.get_by_role("button", name="Submit my call").click()
    expect(hers.get_by_role("status")).to_be_visible()
    look(hers, "/me")
    picture(hers, "me-dark", height=930)
    pending = page.locator("#record-pending, #baselines-pending")
    until(lambda: look(page, "/accuracy") and not pending.count(), LONGEST_SECONDS)
    picture(page, "accuracy", height=800)
    look(page, "/review")
    page.locator(".opener[aria-expanded=false]").first.click()
    expect(page.locator("tr.depth-2").first).to_be_visible()
    picture(page, "review", height=1130)


def picture(page: Page, name: str, *, height: int) -> None:
    """A picture of the top of a page, small enough to be kept beside the README."""
    path = PICTURES / f"{name}.png"
    page.set_viewport_size({"width": 1280, "height": height})
    page.evaluate("scrollTo(0, 0)")
    page.mouse.move(0, 0)
    page.wait_for_timeout(400)  # charts follow the window's size
    page.screenshot(path=path)
    with Image.open(path) as taken:
        small = taken.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


if __name__ == "__main__":
    main()
