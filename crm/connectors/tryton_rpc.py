"""Talking to Tryton: a session over JSON-RPC, its values as plain ones, and its tables page by page."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from crm.connectors.transport import Answer, Transport
from crm.errors import Detail, OtherSideFailed

PAGE = 1000
"""Records of a page: to list so many, Tryton looks at each as often as there are of them."""
UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 401, 403, 404
Record = dict[str, Any]
Domain = Sequence[Any]
Context = Mapping[str, Any]


class TrytonRefused(OtherSideFailed):
    """Tryton understood and would not; the message is its own."""


class TrytonSession:
    """A user's session, logged in when it is first needed and again when it ran out."""

    def __init__(self, transport: Transport, *, database: str, user: str, password: str) -> None:
        self.transport = transport
        self._database, self._user, self._password = database, user, password
        self._token: str | None = None
        self._preferences: Context | None = None
        self.server_time: pd.Timestamp | None = None

    def version(self) -> str:
        """The server's release series, such as 8.0; needs no session."""
        return str(self._result(self._post("/rpc/", "common.server.version", []), "common.server.version"))

    @property
    def preferences(self) -> Context:
        """What Tryton's own client sends as context of every call: the user's companies, employee and language."""
        if self._preferences is None:
            self._preferences = self._call("model.res.user.get_preferences", [True, {}])
        return self._preferences

    def call(self, method: str, *params: object, context: Context | None = None) -> Any:
        """Call a method of a model; it must not matter if the call arrives twice.

        Parameters
        ----------
        context : beside the user's own; an instant `_datetime` reads the past.

        Raises
        ------
        TrytonRefused
            If Tryton says no.
        OtherSideFailed
            If there is no answer, or the session is refused.
        """
        return self._call(method, [*params, {**self.preferences, **_encoded(context or {})}])

    def pages(
        self, model: str, domain: Domain, fields: Sequence[str], context: Context | None = None
    ) -> Iterator[list[Record]]:
        """The records of a model by id, page by page; each page begins after the last id of the one before."""
        last = 0
        while True:
            beyond = [domain, [["id", ">", last]]] if domain else [["id", ">", last]]
            asked = [beyond, 0, PAGE, [["id", "ASC"]], list(fields)]
            page = self.call(f"model.{model}.search_read", *asked, context=context)
            if not page:
                return
            yield page
            last = max(record["id"] for record in page)

    def ids(self, model: str, domain: Domain) -> list[int]:
        """The ids of a model's records, ascending, far quicker than reading them."""
        found: list[int] = []
        while True:
            beyond = [["id", ">", found[-1] if found else 0]]
            asked = [[domain, beyond] if domain else beyond, 0, PAGE, [["id", "ASC"]]]
            page = self.call(f"model.{model}.search", *asked)
            if not page:
                return found
            found += page

    def has_model(self, model: str) -> bool:
        """Whether the database knows a model."""
        return bool(self.call("model.ir.model.search_count", [["name", "=", model]]))

    def _call(self, method: str, params: Sequence[object]) -> Any:
        path = f"/{self._database}/rpc/"
        for again in (True, False):
            answer = self._post(path, method, params, {"Authorization": f"Session {self._token or self._log_in()}"})
            if answer.status != UNAUTHORIZED or not again:
                break
            self._token = None  # it ran out
        return self._result(answer, method)

    def _log_in(self) -> str:
        asked = [self._user, {"password": self._password}, "en"]
        answer = self._post(f"/{self._database}/rpc/", "common.db.login", asked)
        if answer.status == UNAUTHORIZED:
            detail = Detail(
                "user", self._user, "a user of this database, with its password", "Correct the user or the password."
            )
            raise OtherSideFailed(f"Tryton does not let {self._user} in.", detail)
        user_id, key, *_ = self._result(answer, "common.db.login")
        self._token = base64.b64encode(f"{self._user}:{user_id}:{key}".encode()).decode()
        return self._token

    def _post(
        self, path: str, method: str, params: Sequence[object], headers: Mapping[str, str] | None = None
    ) -> Answer:
        answer = self.transport.post(path, {"id": 1, "method": method, "params": list(params)}, headers)
        self.server_time = answer.server_time or self.server_time
        return answer

    def _result(self, answer: Answer, method: str) -> Any:
        if answer.status == NOT_FOUND:
            detail = Detail("database", self._database, "a database of this server", "Correct `database` or `url`.")
            raise OtherSideFailed(f"Tryton has no database {self._database}.", detail)
        if not isinstance(answer.document, dict):
            step = "Give the user access to it." if answer.status == FORBIDDEN else "Is `url` that of a Tryton server?"
            detail = Detail(method, f"HTTP {answer.status}", "Tryton answers a call with a JSON document", step)
            raise OtherSideFailed(f"Tryton did not answer {method}.", detail)
        if "error" in answer.document:
            said = _said(answer.document["error"])
            step = "See Tryton's own log, or give the user the access it lacks."
            raise TrytonRefused(f"Tryton refused: {said}", Detail(method, None, said, step))
        return decoded(answer.document.get("result"))


def _said(error: Any) -> str:
    """The words of a JSON-RPC error: [kind, [message, description, …]] or [message, traceback]."""
    parts = error if isinstance(error, list) else [error]
    if len(parts) > 1 and isinstance(parts[1], list):
        return " ".join(str(part) for part in parts[1] if isinstance(part, str) and part)
    return str(parts[0])


def _encoded(context: Context) -> Context:
    return {
        name: encoded_instant(value) if isinstance(value, pd.Timestamp) else value for name, value in context.items()
    }


def encoded_instant(moment: pd.Timestamp) -> dict[str, object]:
    """An instant as Tryton takes it, in contexts and domains."""
    at = moment.tz_convert("UTC")
    parts = {name: getattr(at, name) for name in ("year", "month", "day", "hour", "minute", "second", "microsecond")}
    return {"__class__": "datetime", **parts}


def decoded(value: Any) -> Any:
    """Instants as UTC timestamps; days and decimals as the text that the contract's tables hold."""
    if isinstance(value, list):
        return [decoded(each) for each in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("__class__")
    if kind == "datetime":
        parts = {name: part for name, part in value.items() if name != "__class__"}
        return pd.Timestamp(**parts, tz="UTC").as_unit("us")
    if kind == "date":
        return f"{value['year']:04d}-{value['month']:02d}-{value['day']:02d}"
    if kind == "Decimal":
        return value["decimal"]
    return {name: decoded(each) for name, each in value.items()}
