"""HTTP to a CRM: what may pass is tried again after growing pauses, requests are counted, failures explained."""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pandas as pd

from crm.errors import Detail, OtherSideFailed

TRY_AGAIN = {429, 502, 503, 504}
"""Answers of a server that is busy, not of one that refuses."""

LONGEST_PAUSE, LONGEST_ASKED = 60.0, 300.0
"""Seconds between two tries: of our own, and when the server says how long it wants to be left alone."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for an answer, how often to ask, and the first pause between two tries (then doubling)."""

    timeout_seconds: float = 60.0
    tries: int = 6
    pause_seconds: float = 0.5


@dataclass(frozen=True)
class Answer:
    """What the other side said.

    Attributes
    ----------
    document : the JSON document; None unless the status is 200 and it is one.
    server_time : by the server's clock; None if not told.
    text : the answer as it came.
    """

    status: int
    document: object
    server_time: pd.Timestamp | None
    text: str
    headers: Mapping[str, str]


class Transport:
    """Asks one server, again where the line or the server gave way.

    Only for requests that may safely arrive twice: whoever sends one sees to that.
    """

    def __init__(self, base_url: str, patience: Patience) -> None:
        self._client = httpx.Client(base_url=base_url, timeout=patience.timeout_seconds)
        self._patience = patience
        self.requests = 0

    def post(self, path: str, document: object, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a JSON document, as `send` does."""
        return self.send("POST", path, headers, json=document)

    def send(self, method: str, where: str, headers: Mapping[str, str] | None = None, **body: Any) -> Answer:
        """Ask and return the answer, whatever its status unless it is one to try again.

        Parameters
        ----------
        where : a path below the base address, or an address.
        body : what httpx takes as one: `json`, `data`, `content`.

        Raises
        ------
        OtherSideFailed
            If every try was in vain; the last trouble is in its details.
        """
        trouble = ""
        for done in range(self._patience.tries):
            asked: float | None = None
            self.requests += 1
            try:
                answer = self._client.request(method, where, headers=dict(headers or {}), **body)
                if answer.status_code not in TRY_AGAIN:
                    return _understood(answer)
                trouble = f"HTTP {answer.status_code} {answer.reason_phrase}"
                asked = _pause_asked(answer)
            except httpx.InvalidURL as error:
                raise self._failed(f"{error}") from error
            except (httpx.RequestError, ValueError) as error:
                # ValueError: a page that breaks off is no JSON document.
                trouble = f"{type(error).__name__}: {error}".rstrip(": ")
            if done + 1 < self._patience.tries:
                time.sleep(self._pause(done) if asked is None else min(asked, LONGEST_ASKED))
        raise self._failed(trouble)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _pause(self, done: int) -> float:
        """Twice as long each time; not to the second, so that many clients do not come back together."""
        return min(self._patience.pause_seconds * 2**done, LONGEST_PAUSE) * random.uniform(0.75, 1.25)

    def _failed(self, trouble: str) -> OtherSideFailed:
        return no_answer(str(self._client.base_url), self._patience, trouble)


def no_answer(url: str, patience: Patience, trouble: str) -> OtherSideFailed:
    """The error after every try was in vain."""
    rule = f"an answer within {patience.timeout_seconds:g} s, in {patience.tries} tries; last: {trouble}"[:500]
    step = "Check the address and the line, then run this again: nothing was half done."
    return OtherSideFailed(f"{url} does not answer.", Detail("url", url, rule, step))


def _understood(answer: httpx.Response) -> Answer:
    is_document = answer.status_code == httpx.codes.OK and "multipart" not in answer.headers.get("content-type", "")
    document = answer.json() if is_document else None
    return Answer(answer.status_code, document, clock_of(answer.headers), answer.text, answer.headers)


def _pause_asked(answer: httpx.Response) -> float | None:
    """Seconds of a Retry-After header; a date in it is as good as none."""
    asked = answer.headers.get("retry-after", "")
    return float(asked) if asked.isdigit() else None


def clock_of(headers: Mapping[str, str]) -> pd.Timestamp | None:
    """The server's clock, as an answer's headers tell it; None if they do not."""
    try:
        return pd.Timestamp(parsedate_to_datetime(headers["date"])).tz_convert("UTC").as_unit("us")
    except (KeyError, TypeError, ValueError):
        return None
