"""Talking to Salesforce through simple-salesforce: patience, a token that is renewed, the API budget, plain rows."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from simple_salesforce import Salesforce
from simple_salesforce.exceptions import SalesforceError

from crm.connectors.base import Row
from crm.connectors.repetition import repeated
from crm.connectors.transport import Patience, clock_of, no_answer
from crm.errors import Detail, OtherSideFailed

API_VERSION = "62.0"
BULK_WAIT_SECONDS, BULK_ROWS = 0.5, 50_000
UNAUTHORIZED = 401


class _PlainOnThisMachine(HTTPAdapter):
    """simple-salesforce asks by https whatever it is told; a server on this machine may answer by http."""

    def get_connection_with_tls_context(self, request: Any, verify: Any, proxies: Any = None, cert: Any = None) -> Any:
        return self.poolmanager.connection_from_url(request.url.replace("https://", "http://", 1))


class _PatientSession(requests.Session):
    """Time-outs and repetitions for every request; all of them may safely arrive twice."""

    def __init__(self, url: str, patience: Patience) -> None:
        super().__init__()
        self._patience = patience
        self.sent = 0
        kind = _PlainOnThisMachine if url.startswith("http:") else HTTPAdapter
        self.mount("https://", kind(max_retries=repeated(patience, noted=self.note)))

    def note(self) -> None:
        """Count a request."""
        self.sent += 1

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs.setdefault("timeout", self._patience.timeout_seconds)
        for left in reversed(range(self._patience.tries)):
            try:
                return super().request(method, url, *args, **kwargs)
            except requests.exceptions.ChunkedEncodingError:  # half a page, which Retry does not know of
                if not left:
                    raise
        raise AssertionError("at least one try")


class _Token(AuthBase):
    """A token by the client credentials flow, asked for when it is first needed and again when it has expired."""

    def __init__(self, session: _PatientSession, url: str, client_id: str, client_secret: str) -> None:
        self._session, self._url = session, url
        self._known = {"client_id": client_id, "client_secret": client_secret, "grant_type": "client_credentials"}
        self._token = ""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token or self._ask()}"
        request.register_hook("response", self._renewed)
        return request

    def _renewed(self, answer: requests.Response, **kwargs: Any) -> requests.Response:
        if answer.status_code != UNAUTHORIZED:
            return answer
        answer.close()
        self._session.sent += 1
        again = answer.request.copy()
        again.hooks = requests.hooks.default_hooks()
        again.headers["Authorization"] = f"Bearer {self._ask()}"
        kept = {name: kwargs[name] for name in ("timeout", "verify", "cert", "proxies", "stream") if name in kwargs}
        return self._session.send(again, **kept)

    def _ask(self) -> str:
        where = f"https://{urlsplit(self._url).netloc}/services/oauth2/token"
        answer = self._session.post(where, data=self._known, auth=lambda request: request)
        said = answer.json() if "json" in answer.headers.get("content-type", "") else {}
        if answer.status_code != requests.codes.ok or "access_token" not in said:
            rule = str(said.get("error_description") or said.get("error") or f"HTTP {answer.status_code}")
            step = "Correct client_id, the client secret, or the app's client credentials flow (docs/crm.md)."
            raise OtherSideFailed("Salesforce does not let us in.", Detail("client_id", None, rule, step))
        self._token = str(said["access_token"])
        return self._token


class SalesforceClient:
    """One org: what it has, rows of an object, and records written."""

    def __init__(
        self, url: str, *, client_id: str, client_secret: str, patience: Patience, budget_share: float
    ) -> None:
        self._url, self._patience, self._budget_share = url, patience, budget_share
        self._session = _PatientSession(url, patience)
        self._session.hooks["response"].append(self._note)
        self._session.auth = _Token(self._session, url, client_id, client_secret)
        # The session signs every request itself, those of the bulk interface too.
        where = f"https://{urlsplit(url).netloc}"
        # Amounts stay as they are written: no float in between.
        self._org = Salesforce(
            session_id="-", instance_url=where, session=self._session, version=API_VERSION, parse_float=str
        )
        self.server_time: pd.Timestamp | None = None
        self.api_usage: tuple[int, int] | None = None

    @property
    def requests_sent(self) -> int:
        """Requests sent so far, repeated ones included."""
        return self._session.sent

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def objects(self) -> set[str]:
        """The objects that the org has and the user may see."""
        with self._explained("sobjects"):
            described = self._org.describe()
        return {each["name"] for each in (described or {}).get("sobjects", []) if each.get("queryable", True)}

    def fields(self, name: str) -> dict[str, Mapping[str, Any]]:
        """The fields of an object that the user may see, by name."""
        with self._explained(name):
            described = getattr(self._org, name).describe()
        return {each["name"]: each for each in described["fields"]}

    def count(self, name: str, where: str = "") -> int:
        """How many rows there are, deleted ones included."""
        with self._explained(name):
            told = self._org.query(f"SELECT COUNT() FROM {name}{where}", include_deleted=True)
        return int(told["totalSize"])

    def rows(self, soql: str) -> Iterator[Row]:
        """The rows of a query, deleted ones included, as text, page by page."""
        with self._explained(soql):
            for record in self._org.query_all_iter(soql, include_deleted=True):
                yield {name: _text(value) for name, value in record.items() if name != "attributes"}

    def bulk_rows(self, name: str, soql: str) -> Iterator[Row]:
        """The same through Bulk API 2.0: a few calls, however many rows."""
        with self._explained(soql):
            pages: Iterable[str] = getattr(self._org.bulk2, name).query_all(
                soql, max_records=BULK_ROWS, wait=BULK_WAIT_SECONDS
            )
            for page in pages:
                for row in csv.DictReader(io.StringIO(page)):
                    yield {field: value or None for field, value in row.items()}

    def update(self, name: str, records: Sequence[Mapping[str, object]]) -> list[str | None]:
        """Write fields of up to 200 records, each by itself; returns for each why not, None where it was taken."""
        sent = [{"attributes": {"type": name}, **record} for record in records]
        with self._explained(f"composite/sobjects, {name}"):
            results = self._org.restful(
                "composite/sobjects", method="PATCH", json={"allOrNone": False, "records": sent}
            )
        if not isinstance(results, list) or len(results) != len(records):
            rule = f"a result for each of {len(records)} records"
            detail = Detail("composite/sobjects", None, rule, "Run it again: writing twice is as good as once.")
            raise OtherSideFailed("Salesforce did not say what became of the records.", detail)
        return [None if result.get("success") else _why_not(result.get("errors") or []) for result in results]

    def _note(self, answer: requests.Response, **_: object) -> None:
        """Count the request, and mind the clock and the budget that the answer tells of."""
        self._session.note()
        self.server_time = clock_of(answer.headers) or self.server_time
        used = re.search(r"api-usage=(\d+)/(\d+)", answer.headers.get("Sforce-Limit-Info", ""))
        if used:
            self.api_usage = int(used[1]), int(used[2])
            if self.api_usage[0] > self._budget_share * self.api_usage[1]:
                raise self._spent()

    def _spent(self) -> OtherSideFailed:
        used, allowed = self.api_usage or (0, 0)
        rule = f"dealcast stops at {self._budget_share:.0%} of the {allowed:,} calls that the org has in 24 hours"
        step = "Run it again later, it goes on where it stopped; or raise api_budget_share."
        return OtherSideFailed(
            "Salesforce's API budget is nearly spent.", Detail("Sforce-Limit-Info", f"{used:,}", rule, step)
        )

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """What the client raises, in our words."""
        try:
            yield
        except SalesforceError as error:
            content = getattr(error, "content", None)
            said = content[0] if isinstance(content, list) and content and isinstance(content[0], dict) else {}
            message = str(said.get("message") or content or error)
            if said.get("errorCode") == "REQUEST_LIMIT_EXCEEDED":
                step = "Run it again when the limit is free again: nothing was half done."
                raise OtherSideFailed(
                    "Salesforce's API limit is reached.", Detail(what, None, message, step)
                ) from error
            step = "Give the user of the connected app access to it, or see Salesforce's own log; then run this again."
            where = f"HTTP {getattr(error, 'status', '')}, {what}"[:300]
            raise OtherSideFailed(
                f"Salesforce refused: {said.get('errorCode') or type(error).__name__}.",
                Detail(where, None, message, step),
            ) from error
        except (requests.RequestException, ValueError) as error:
            raise no_answer(self._url, self._patience, f"{type(error).__name__}: {error}") from error


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None or value == "" else str(value)


def _why_not(errors: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(f"{each.get('statusCode')}: {each.get('message')}" for each in errors) or "no reason given"
