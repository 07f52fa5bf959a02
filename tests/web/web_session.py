"""A browser that is signed in, and notes everything that goes wrong on its pages."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from playwright.sync_api import Browser, ConsoleMessage, Page, Response

from ledger.ledger import Ledger
from tests.end_to_end.serving_here import fetch

AXE = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"
NUMBERS = itertools.count()
LONGEST_MS = 120_000
"""What is first asked for is worked out first; on a busy machine that takes its time."""
SCOPES = ("read", "what_if", "calls")


@dataclass
class Visit:
    """A page of a signed-in browser, and what was wrong on it."""

    page: Page
    troubles: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.troubles.append(f"script: {error}"))
        self.page.on("request", lambda request: self._left(request.url))

    def _heard(self, message: ConsoleMessage) -> None:
        expected = "status of 404" in message.text or "status of 422" in message.text
        if message.type in ("error", "warning") and not expected:
            self.troubles.append(f"console: {message.text}")

    def _left(self, url: str) -> None:
        if not url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            self.troubles.append(f"a request to {url}")


@dataclass(frozen=True)
class Web:
    """The service, its ledger, and a browser."""

    url: str
    ledger: Ledger
    browser: Browser
    shots: Path

    def key(self, user: str | None = None, scopes: tuple[str, ...] = SCOPES, name: str | None = None) -> str:
        """A new key, of a user or of nobody."""
        now, name = pd.Timestamp.now("UTC"), name or f"key {next(NUMBERS)}"
        return self.ledger.create_key(name, list(scopes), now=now, user_id=user)[0]

    def sign_in(
        self, user: str | None = None, *, scopes: tuple[str, ...] = SCOPES, name: str | None = None, **options: object
    ) -> Visit:
        """A browser of its own that has signed in by the form."""
        settings = {"viewport": {"width": 1280, "height": 900}, "locale": "en-US", "reduced_motion": "reduce"}
        context = self.browser.new_context(base_url=self.url, **{**settings, **options})  # type: ignore[arg-type]
        context.set_default_timeout(LONGEST_MS)
        visit = Visit(context.new_page())
        visit.page.goto("/login?next=/static/mark.svg")  # not the review: each test looks at its own page
        visit.page.fill("#key", self.key(user, scopes, name))
        visit.page.click("main form button")
        return visit

    def asked(self, path: str, body: object = None, *, user: str | None = None) -> dict:
        """What the API answers to a key of a user, or of nobody."""
        status, document = fetch(f"{self.url}{path}", body=body, key=self.key(user))
        assert status in (200, 202), document
        return document

    def shot(self, page: Page, name: str) -> None:
        """Keep a picture of the whole page."""
        page.screenshot(path=self.shots / f"{name}.png", full_page=True)


def look(page: Page, path: str) -> Response:
    """Go somewhere and wait until the charts are drawn."""
    answer = page.goto(path)
    assert answer is not None
    page.wait_for_function("[...document.querySelectorAll('[data-chart]')].every(each => each.dataset.drawn)")
    return answer


def findings(page: Page) -> list[str]:
    """What axe finds serious or worse."""
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']}: {each['help']} at {[node['target'] for node in each['nodes']][:3]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]
