"""creme-crm 2.8 with our app, over HTTP with a token: opportunities with the past that Creme's log tells of.

The app (crm_modules/creme) tells in the words of the contract, the same in pages as in events; here it is only asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from crm.connectors.base import OVERLAP, Batch, Fetch, Found, OutgoingScore, in_batches
from crm.connectors.settings import WebSettings
from crm.connectors.transport import Answer, Transport
from crm.errors import Detail, OtherSideFailed

SCORES_AT_ONCE = 200
OK, UNAUTHORIZED, NOT_FOUND = 200, 401, 404
GONE = "gone"
NOTES = (
    "no exchange rates: Creme keeps none; give them in exchange_rates.csv",
    "no managers: Creme's users have teams and roles alone",
    "no mails: only what is an activity in Creme is read",
)


@dataclass(frozen=True, kw_only=True)
class CremeSettings(WebSettings):
    """How to reach a Creme that has our app; the token, DEAL_SCORE_TOKEN of its settings, is kept apart."""

    name: ClassVar[str] = "creme"
    secret: ClassVar[str] = "token"

    def open(self, token: str) -> "CremeConnector":
        """A connection; nothing is sent yet."""
        return CremeConnector(Transport(self.url, self.patience), token)


class CremeConnector:
    """Reads the pages that our app gives, and writes scores into the app's table."""

    def __init__(self, transport: Transport, token: str) -> None:
        self._transport = transport
        self._headers = {"Authorization": f"Bearer {token}"}

    @property
    def api_calls(self) -> int:
        """Requests sent so far, repeated ones included."""
        return self._transport.requests

    def close(self) -> None:
        """End the connection."""
        self._transport.close()

    def survey(self) -> Found:
        """Ask the app what is there."""
        about = self._ask("about")
        since = about["history_since"]
        return Found(
            system=about["system"],
            tables=about["tables"],
            fields=tuple(about["fields"]),
            history_since=pd.Timestamp(since) if since else None,
            writes_to="deal_score.Score",
            notes=NOTES,
        )

    def fetch(self, since: str | None) -> Fetch:
        """Everything, or what changed since the cursor; deals as they stood at one moment of Creme's clock."""
        about = self._ask("about")
        moment = pd.Timestamp(about["now"]).tz_convert("UTC").as_unit("us")
        calendar = {"base_currency": about["base_currency"], "time_zone": about["time_zone"]}
        start = None if since is None else (pd.Timestamp(since) - OVERLAP).isoformat()
        gone: dict[str, str | None] = {}
        batches = self._batches(about["pages"], start, moment.isoformat(), gone)
        notes = [dict(zip(("what", "because"), note.split(": ", 1), strict=True)) for note in NOTES]
        return Fetch(moment, moment.isoformat(), calendar, batches, notes=notes, gone=gone)

    def _batches(
        self, kinds: Sequence[str], start: str | None, until: str, gone: dict[str, str | None]
    ) -> Iterator[Batch]:
        for kind in kinds:
            after: int | None = None
            while True:
                page = self._ask(f"pages/{kind}", since=start, until=until, after=after)
                for table, rows in page["tables"].items():
                    if table == GONE:
                        gone.update((row["deal_id"], None) for row in rows)
                    else:
                        yield Batch(table, rows)
                # A page that comes twice tells where to go on a second time, and never back.
                if page["next"] is None:
                    break
                after = page["next"]

    def push(self, scores: Sequence[OutgoingScore]) -> dict[str, str]:
        """Write scores into the app's table, 200 a call; what it does not take comes back with the reason."""
        refused: dict[str, str] = {}
        for some in in_batches(scores, SCORES_AT_ONCE):
            refused |= self._ask("scores", scores=[_record(score) for score in some])["refused"]
        return refused

    def withdraw(self, deal_ids: Sequence[str]) -> dict[str, str]:
        """Take scores out of the app's table, 200 a call."""
        for some in in_batches(deal_ids, SCORES_AT_ONCE):
            self._ask("withdraw", deals=some)
        return {}

    def _ask(self, what: str, **asked: object) -> Mapping[str, Any]:
        answer = self._transport.post(f"/deal_score/{what}", asked, self._headers)
        if answer.status != OK or not isinstance(answer.document, dict):
            raise _failure(what, answer)
        return answer.document


def _failure(what: str, answer: Answer) -> OtherSideFailed:
    """Why our app gave no document."""
    if answer.status == UNAUTHORIZED:
        rule = "the access token is DEAL_SCORE_TOKEN of Creme's settings"
        step = "Set DEALCAST_CREME_TOKEN to the access token, then run this again: nothing was half done."
        return OtherSideFailed("Creme does not let us in.", Detail("token", None, rule, step))
    rule = "our app answers with a JSON document"
    step = "Is `url` that of Creme, with our app installed (crm_modules/creme)?"
    if answer.status != NOT_FOUND:
        step = "See Creme's own log."
    return OtherSideFailed(f"Creme did not answer {what}.", Detail(what, f"HTTP {answer.status}", rule, step))


def _record(score: OutgoingScore) -> dict[str, object]:
    return {
        "deal_id": score.deal_id,
        "probability": score.win_probability,
        "low": score.win_probability_low,
        "high": score.win_probability_high,
        "change": score.score_change,
        "reasons": list(score.reasons),
        "as_of": score.as_of.isoformat(),
        "model": score.model_version,
    }
