"""The pictures of the README, taken from the real pages of a synthetic company: `make screenshots`.

The company has lived with the service for two quarters; a model was trained at the beginning of each of them.
"""

import sys
import tempfile
from pathlib import Path

import pandas as pd
from playwright.sync_api import sync_playwright

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests" / "web")]

from browser_here import launch  # noqa: E402
from lived_company import ledger_of, lived_company  # noqa: E402
from web_session import Web, look  # noqa: E402

from dealcast.demo import COMPANY  # noqa: E402
from tests.end_to_end.serving_here import RealServer, until  # noqa: E402

PICTURES = PROJECT / "docs" / "images"
TRAINED_AS_OF = [pd.Timestamp(day, tz="UTC") for day in ("2025-10-01", "2026-01-01")]
MANAGER = "005000020"


def main() -> None:
    """Make the company, serve it, and take the pictures."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        workspace = lived_company(Path(folder) / "workspace", COMPANY, *TRAINED_AS_OF)
        server = RealServer(workspace, Path(folder) / "server.log")
        try:
            server.until_ready()
            with sync_playwright() as playwright:
                take(Web(server.url, ledger_of(workspace), launch(playwright), PICTURES))
        finally:
            server.process.kill()
            server.process.wait()


def take(web: Web) -> None:
    """The pictures, in light and dark."""
    page = web.sign_in().page
    until(lambda: look(page, "/accuracy") and not page.locator("#record-pending, #baselines-pending").count(), 900)
    picture(page, "accuracy", height=1000)
    look(page, "/review")
    page.locator(".opener[aria-expanded=false]").first.click()
    page.wait_for_timeout(500)
    page.mouse.move(0, 0)
    picture(page, "review", height=1150)
    look(page, "/changes")
    picture(page, "changes", height=900)
    page = web.sign_in(MANAGER, color_scheme="dark").page
    look(page, "/me")
    picture(page, "me-dark", height=1000)


def picture(page, name: str, *, height: int) -> None:
    """A picture of the top of a page, small enough to be kept beside the README."""
    page.set_viewport_size({"width": 1280, "height": height})
    page.wait_for_timeout(300)
    page.screenshot(path=PICTURES / f"{name}.png")


if __name__ == "__main__":
    main()
