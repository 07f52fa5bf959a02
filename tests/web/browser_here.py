"""The machine's own Chromium, quiet: it looks nothing up on its own."""

import os

from playwright.sync_api import Browser, Playwright

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
QUIET = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]


def launch(playwright: Playwright) -> Browser:
    """A browser of our own."""
    return playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
