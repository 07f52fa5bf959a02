"""The sign-in of an app with Microsoft Entra ID, by msal: tokens for one Dataverse environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msal

from crm.connectors.transport import Transport
from crm.errors import Detail, OtherSideFailed


class EntraLogin:
    """Tokens by the client credentials flow; each is kept until it runs out."""

    def __init__(
        self, transport: Transport, url: str, *, login_url: str, tenant_id: str, client_id: str, client_secret: str
    ) -> None:
        self._http = _PatientHttp(transport, login_url)
        self._scope = f"{url.rstrip('/')}/.default"
        self._tenant_id, self._authority = tenant_id, f"https://{urlsplit(login_url).netloc}/{tenant_id}"
        self._secret = {"client_id": client_id, "client_credential": client_secret}
        self._app: msal.ConfidentialClientApplication | None = None

    def token(self, *, anew: bool) -> str:
        """A token; `anew`: not the one given before, which was refused.

        Raises
        ------
        OtherSideFailed
            If Microsoft Entra ID gives none.
        """
        if self._app is None:
            self._app = self._application()
        elif anew:
            self._app.remove_tokens_for_client()
        told = self._app.acquire_token_for_client([self._scope]) or {}
        if "access_token" not in told:
            rule = str(told.get("error_description") or told.get("error") or "a token")
            step = "Correct tenant_id, client_id or the client secret (docs/dynamics.md)."
            raise OtherSideFailed("Microsoft Entra ID does not let us in.", Detail("client_id", None, rule, step))
        return str(told["access_token"])

    def _application(self) -> msal.ConfidentialClientApplication:
        """Looks the tenant up."""
        try:
            return msal.ConfidentialClientApplication(
                **self._secret, authority=self._authority, http_client=self._http, instance_discovery=False
            )
        except ValueError as error:
            rule = f"a tenant of Microsoft Entra ID ({error})"[:400]
            detail = Detail("tenant_id", self._tenant_id, rule, "Correct tenant_id, or login_url.")
            raise OtherSideFailed("Microsoft Entra ID does not know the tenant.", detail) from None


class _PatientHttp:
    """What msal sends its requests by: ours, patient and counted. It knows https alone, a test's server may not."""

    def __init__(self, transport: Transport, login_url: str) -> None:
        self._transport, self._is_plain = transport, login_url.startswith("http:")

    def get(self, url: str, params: Any = None, headers: Any = None, **_: Any) -> "_Answer":
        return self._asked("GET", url, headers, params=params)

    def post(self, url: str, params: Any = None, data: Any = None, headers: Any = None, **_: Any) -> "_Answer":
        return self._asked("POST", url, headers, params=params, data=data)

    def close(self) -> None:
        pass

    def _asked(self, method: str, url: str, headers: Any, **what: Any) -> "_Answer":
        where = url.replace("https:", "http:", 1) if self._is_plain else url
        answer = self._transport.send(method, where, headers, **what)
        return _Answer(answer.status, answer.text, answer.headers)


@dataclass(frozen=True)
class _Answer:
    status_code: int
    text: str
    headers: Mapping[str, str]

    def raise_for_status(self) -> None:
        if self.status_code >= 400:
            raise ValueError(f"HTTP {self.status_code}")
