"""Talking to Dataverse, the database of Dynamics 365, by its Web API: tokens, pages, delta links, batches."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit
from uuid import uuid4

import pandas as pd

from crm.connectors.transport import Answer, Transport
from crm.errors import Detail, OtherSideFailed

API = "/api/data/v9.2/"
PAGE, BATCH = 1000, 100
UNAUTHORIZED, BUSY = 401, 429
IN_A_PATH = "%/:?=&$(),@'"
Record = dict[str, Any]
"""A row of a table, as the Web API tells it."""


class Login(Protocol):
    """What gives tokens."""

    def token(self, *, anew: bool) -> str:
        """A token; `anew`: not the one given before, which was refused."""
        ...


class DynamicsRefused(OtherSideFailed):
    """Dataverse understood and would not."""


class LinkExpired(DynamicsRefused):
    """A delta link is too old: changes are kept for some days only."""


@dataclass(frozen=True)
class Table:
    """What Dataverse says of a table: its set in the Web API, and whether changes of it are tracked and audited."""

    name: str
    rows: str
    is_tracked: bool
    is_audited: bool


@dataclass(frozen=True)
class Part:
    """One request of a batch: the method, the path below the interface, the document if there is one.

    Attributes
    ----------
    makes : whether a PATCH of what is not there makes it; otherwise it is refused.
    """

    method: str
    path: str
    document: Mapping[str, object] | None = None
    makes: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a part of a batch."""

    status: int
    document: Record

    @property
    def refusal(self) -> str | None:
        """Why not; None if it was done."""
        return None if self.status < 400 else f"HTTP {self.status}: {_said(self.document)}"


class DynamicsClient:
    """One environment: rows of a table, what changed in it, and several requests in one."""

    def __init__(self, transport: Transport, login: Login) -> None:
        self._transport, self._login = transport, login
        self.server_time: pd.Timestamp | None = None
        self.requests_left: int | None = None

    @property
    def requests_sent(self) -> int:
        """Requests sent so far, repeated ones included."""
        return self._transport.requests

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    # -- reading -----------------------------------------------------------------------------------------------------

    def tables(self, names: Sequence[str]) -> dict[str, Table]:
        """Those of these tables that the environment has, by name."""
        named = " or ".join(f"LogicalName eq '{name}'" for name in names)
        columns = "LogicalName,EntitySetName,ChangeTrackingEnabled,IsAuditEnabled"
        found = self.get(f"EntityDefinitions?$select={columns}&$filter={named}")["value"]
        return {
            each["LogicalName"]: Table(
                each["LogicalName"],
                each["EntitySetName"],
                bool(each["ChangeTrackingEnabled"]),
                bool(each["IsAuditEnabled"]["Value"]),
            )
            for each in found
        }

    def columns(self, table: str) -> dict[str, Record]:
        """The columns of a table, by name."""
        wanted = "LogicalName,AttributeType,IsCustomAttribute,IsAuditEnabled"
        found = self.get(f"EntityDefinitions(LogicalName='{table}')/Attributes?$select={wanted}")["value"]
        return {each["LogicalName"]: each for each in found}

    def options(self, table: str, column: str) -> list[Record]:
        """The options of a choice column in their order."""
        attribute = f"EntityDefinitions(LogicalName='{table}')/Attributes(LogicalName='{column}')"
        kind = "Microsoft.Dynamics.CRM.PicklistAttributeMetadata"
        known = self.get(f"{attribute}/{kind}?$select=LogicalName&$expand=OptionSet($select=Options)")
        return list(known["OptionSet"]["Options"])

    def rows(self, where: str, *, annotations: str = "") -> Iterator[list[Record]]:
        """The rows of a query, page by page."""
        link: str | None = where
        while link:
            page = self.get(link, prefer=_annotated(annotations))
            yield page["value"]
            link = page.get("@odata.nextLink")

    def changed(
        self, rows: str, columns: Sequence[str], links: dict[str, str], *, annotations: str = ""
    ) -> Iterator[list[Record]]:
        """What changed in a tracked table since its delta link, or all there is; page by page, deleted rows last.

        A deleted row has the keys `id` and `reason` alone.

        Parameters
        ----------
        rows : the table's set.
        links : the delta link of each set; this one's is replaced once the last page is read.

        Raises
        ------
        LinkExpired
            If changes have not been kept for that long.
        """
        select = f"$select={','.join(columns)}"
        link = links.get(rows)
        if link is not None and select not in unquote(link):
            link = None  # it follows other columns
        try:
            page = self.get(link or f"{rows}?{select}", prefer=f"odata.track-changes,{_annotated(annotations)}")
        except DynamicsRefused as refused:
            if link is None:
                raise
            raise LinkExpired(refused.message, *refused.details) from refused
        while True:
            yield page["value"]
            if "@odata.nextLink" not in page:
                links[rows] = _below(page["@odata.deltaLink"])
                return
            page = self.get(page["@odata.nextLink"], prefer=f"odata.track-changes,{_annotated(annotations)}")

    def get(self, where: str, *, prefer: str = "") -> Record:
        """The document at a path below the interface, or at a link that Dataverse gave."""
        answer = self._send("GET", API + _below(where), {"prefer": prefer} if prefer else {})
        if not isinstance(answer.document, dict):
            raise _refused(where, answer)
        return answer.document

    # -- several in one ----------------------------------------------------------------------------------------------

    def batch(self, parts: Sequence[Part]) -> list[Outcome]:
        """Send up to 1,000 requests as one; each is done or refused by itself."""
        if not parts:
            return []
        name = f"batch_{uuid4()}"
        sent = "".join(_written(part, name) for part in parts) + f"--{name}--\r\n"
        headers = {"content-type": f'multipart/mixed; boundary="{name}"', "prefer": "odata.continue-on-error"}
        answer = self._send("POST", f"{API}$batch", headers, content=sent.encode())
        outcomes = _outcomes(answer) if answer.status == 200 else []
        busy = [each for each in outcomes if each.status == BUSY]
        if len(outcomes) != len(parts) or busy:
            rule = f"an answer to each of {len(parts)} requests, got {len(outcomes)}, {len(busy)} of them busy"
            step = "Run it again, later if it is busy: what comes twice counts once."
            raise OtherSideFailed("Dynamics did not do the whole batch.", Detail("$batch", None, rule, step))
        return outcomes

    # -- asking ------------------------------------------------------------------------------------------------------

    def _send(self, method: str, path: str, headers: Mapping[str, str], **body: Any) -> Answer:
        said = {"accept": "application/json", "odata-version": "4.0", "odata-maxversion": "4.0", **headers}
        for again in (True, False):
            answer = self._transport.send(
                method, path, {**said, "authorization": f"Bearer {self._login.token(anew=not again)}"}, **body
            )
            if answer.status != UNAUTHORIZED or not again:
                break
        self.server_time = answer.server_time or self.server_time
        left = answer.headers.get("x-ms-ratelimit-burst-remaining-xrm-requests", "")
        self.requests_left = int(left) if left.isdigit() else self.requests_left
        if answer.status == UNAUTHORIZED:
            rule = "the app is an application user of this environment (Power Platform admin center)"
            raise OtherSideFailed("Dynamics does not let us in.", Detail("client_id", None, rule, "Add it there."))
        return answer


def _annotated(annotations: str) -> str:
    asked = f'odata.include-annotations="{annotations}",' if annotations else ""
    return f"{asked}odata.maxpagesize={PAGE}"


def _below(link: str) -> str:
    """A link's part below the interface: whatever host it names, we ask the one we were told to."""
    parts = urlsplit(link)
    path = parts.path.split(API, 1)[-1]
    return f"{path}?{parts.query}" if parts.query else path


def _written(part: Part, name: str) -> str:
    lines = [f"--{name}", "Content-Type: application/http", "Content-Transfer-Encoding: binary", ""]
    lines += [f"{part.method} {API}{quote(part.path, safe=IN_A_PATH)} HTTP/1.1"]
    lines += ["Accept: application/json", *([] if part.makes or part.method != "PATCH" else ["If-Match: *"])]
    if part.document is not None:
        lines += ["Content-Type: application/json; type=entry", "", json.dumps(part.document)]
    return "\r\n".join([*lines, "", ""])


def _outcomes(answer: Answer) -> list[Outcome]:
    found = re.search(r'boundary="?([^";]+)', answer.headers.get("content-type", ""))
    pieces = answer.text.split(f"--{found[1]}")[1:-1] if found else []
    return [_outcome(piece) for piece in pieces]


def _outcome(piece: str) -> Outcome:
    _, _, inner = piece.partition("HTTP/1.1 ")
    head, _, body = inner.replace("\r\n", "\n").partition("\n\n")
    return Outcome(int(head[:3]), json.loads(body) if body.strip() else {})


def _refused(where: str, answer: Answer) -> DynamicsRefused:
    try:
        said = _said(json.loads(answer.text))
    except ValueError:
        said = answer.text[:200]
    step = "Give the application user a security role that may read it (docs/dynamics.md), or see what Dynamics says."
    detail = Detail(f"HTTP {answer.status}, {where[:200]}", None, said or "no reason given", step)
    return DynamicsRefused(f"Dynamics refused: {said or answer.status}"[:300], detail)


def _said(document: Record) -> str:
    error = document.get("error") or {}
    return " ".join(str(error[name]) for name in ("code", "message") if error.get(name))
