"""Signing in with the company's identity provider (OpenID Connect). The only module that knows tokens and asks it.

Nothing is fetched but from the issuer of the settings and the addresses that its own document names: never an address
that a caller or a token brings.
"""

import secrets
import threading
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pandas as pd
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from crm.errors import DealcastError, Detail, OtherSideFailed
from ledger.keys import Person
from serving.access import Oidc, is_safe, small
from serving.errors import Unauthorized

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
"""Signatures that are taken: none that a secret shared with others, or nobody, could have made."""
SKEW_SECONDS = 60
LOOK_AGAIN_SECONDS = 60.0
"""The keys are fetched again for a key that is not among them, at most so often."""
KEYS_LAST_SECONDS = 3600.0
TIMEOUT_SECONDS = 10.0
LONGEST_ANSWER = 1_000_000
WELL_KNOWN = "/.well-known/openid-configuration"


@dataclass(frozen=True)
class Trip:
    """A browser's way to the provider and back.

    Attributes
    ----------
    nonce, verifier : what the provider's token, and the exchange of its code, must show.
    redirect_uri : where the browser comes back.
    """

    nonce: str
    verifier: str
    redirect_uri: str


def begin_trip(redirect_uri: str) -> Trip:
    """A new one, which nobody can guess."""
    return Trip(secrets.token_urlsafe(32), secrets.token_urlsafe(48), redirect_uri)


class Provider:
    """The identity provider of the settings: its addresses and keys, fetched when first needed and kept."""

    def __init__(self, settings: Oidc, client_secret: str | None = None) -> None:
        self.settings = settings
        self._client_secret = client_secret
        self._client = httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False)
        self._lock = threading.Lock()
        self._document: dict[str, Any] | None = None
        self._keys: KeySet | None = None
        self._fetched_at = 0.0

    # -- bearer tokens -----------------------------------------------------------------------------------------------

    def person_of_bearer(self, token: str, now: pd.Timestamp) -> Person:
        """Who a bearer token speaks for.

        Raises
        ------
        Unauthorized
            It is not of this issuer, for this audience, signed by one of its keys, and in time; or has no verified
            e-mail.
        OtherSideFailed
            The provider's keys cannot be fetched.
        """
        return self._person(self._claims(token, self.settings.audience or self.settings.client_id, now))

    def _claims(self, token: str, audience: str, now: pd.Timestamp) -> dict[str, Any]:
        registry = jwt.JWTClaimsRegistry(
            now=int(now.timestamp()),
            leeway=SKEW_SECONDS,
            iss={"essential": True, "value": self.settings.issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
            sub={"essential": True},
        )
        try:
            claims = self._decoded(token)
            registry.validate(claims)
        except (JoseError, ValueError, TypeError, KeyError) as wrong:
            raise not_taken(type(wrong).__name__, getattr(wrong, "error", "")) from None
        return claims

    def _decoded(self, token: str) -> dict[str, Any]:
        try:
            return dict(jwt.decode(token, self._keys_now(), algorithms=list(ALGORITHMS)).claims)
        except InvalidKeyIdError:
            # The provider may have new keys. Whoever makes up key ids cannot have them fetched again and again.
            if not self._fetch_keys(older_than=LOOK_AGAIN_SECONDS):
                raise
            return dict(jwt.decode(token, self._keys_now(), algorithms=list(ALGORITHMS)).claims)

    def _person(self, claims: dict[str, Any]) -> Person:
        email = claims.get("email")
        if not isinstance(email, str) or "@" not in email or claims.get("email_verified") is not True:
            rule = "a token with an e-mail that the provider has verified (claims email, email_verified)"
            step = "let the provider send both with the scope email"
            raise Unauthorized("The token names no verified e-mail.", Detail("authorization", None, rule, step))
        given = claims.get("name")
        ends = pd.Timestamp(int(claims["exp"]), unit="s", tz="UTC")
        authority = self.settings.authority_of_groups(claims.get(self.settings.groups_claim))
        return Person(small(email), given if isinstance(given, str) and given else email, authority, ends)

    # -- pages: the authorization code flow, with PKCE ---------------------------------------------------------------

    def url_for(self, trip: Trip, state: str) -> str:
        """Where a browser goes to sign in; it comes back with `state` and a code.

        Raises
        ------
        OtherSideFailed
            The provider does not answer.
        """
        challenge = urlsafe_b64encode(sha256(trip.verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": trip.redirect_uri,
            "scope": "openid email profile",
            "state": state,
            "nonce": trip.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        address = self._address("authorization_endpoint")
        return address + ("&" if "?" in address else "?") + urlencode(asked)

    def person_with(self, code: str, trip: Trip, now: pd.Timestamp) -> Person:
        """Who came back from the provider with a code.

        Raises
        ------
        Unauthorized
            The provider does not take the code, or its token is not for this sign-in.
        OtherSideFailed
            The provider does not answer.
        """
        sent = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": trip.redirect_uri,
            "code_verifier": trip.verifier,
        }
        auth = None
        if self._client_secret:
            auth = (quote(self.settings.client_id, safe=""), quote(self._client_secret, safe=""))
        else:
            sent["client_id"] = self.settings.client_id
        answer = self._asked("POST", self._address("token_endpoint"), data=sent, auth=auth)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise not_taken("the code", str(answer.get("error", ""))[:80])
        claims = self._claims(token, self.settings.client_id, now)
        if not secrets.compare_digest(str(claims.get("nonce", "")).encode(), trip.nonce.encode()):
            raise not_taken("the token", "of another sign-in")
        # The session lasts as long as sessions do, not as long as this token.
        return replace(self._person(claims), expires_at=None)

    # -- what the provider publishes ---------------------------------------------------------------------------------

    def _keys_now(self) -> KeySet:
        if self._keys is None or time.monotonic() - self._fetched_at > KEYS_LAST_SECONDS:
            try:
                self._fetch_keys(older_than=LOOK_AGAIN_SECONDS)
            except OtherSideFailed:
                if self._keys is None:
                    raise
        assert self._keys is not None
        return self._keys

    def _fetch_keys(self, *, older_than: float) -> bool:
        """Fetch the provider's keys, unless they were fetched, or tried to be, within so many seconds."""
        with self._lock:
            if self._keys is not None and time.monotonic() - self._fetched_at < older_than:
                return False
            self._fetched_at = time.monotonic()
            found = self._asked("GET", self._address("jwks_uri"))
            try:
                self._keys = KeySet.import_key_set(found)  # type: ignore[arg-type]
            except (JoseError, ValueError, TypeError, KeyError):
                raise self._failed("its keys cannot be read") from None
            return True

    def _address(self, name: str) -> str:
        """An address from the provider's own document."""
        if self._document is None:
            found = self._asked("GET", self.settings.issuer.rstrip("/") + WELL_KNOWN)
            if found.get("issuer") != self.settings.issuer:
                raise self._failed(f"its document names the issuer {str(found.get('issuer'))[:200]}")
            self._document = found
        address = self._document.get(name)
        if not isinstance(address, str) or not is_safe(address, beside=self.settings.issuer):
            raise self._failed(f"its document has no usable {name}")
        return address

    def _asked(self, method: str, url: str, **more: Any) -> dict[str, Any]:
        """The JSON object that an address of the provider answers; what it refuses is one too."""
        try:
            answer = self._client.request(method, url, **more)
            if len(answer.content) > LONGEST_ANSWER or not (answer.is_success or answer.status_code == 400):
                raise self._failed(f"HTTP {answer.status_code}, {len(answer.content)} bytes")
            found = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as failure:
            raise self._failed(type(failure).__name__) from None
        if not isinstance(found, dict):
            raise self._failed("no JSON object")
        return found

    def _failed(self, trouble: str) -> OtherSideFailed:
        detail = Detail(
            "oidc issuer", self.settings.issuer, f"it answers as OpenID Connect asks ({trouble})", "try later"
        )
        return OtherSideFailed("The identity provider does not answer.", detail)


def not_taken(what: str, why: str) -> DealcastError:
    """The refusal of a token or code; it says which rule was broken and repeats nothing."""
    rule = "a token of the identity provider for this service, signed by it and in time"
    told = f"The sign-in is not taken ({what}{': ' if why else ''}{why})."
    return Unauthorized(told, Detail("authorization", None, rule, "sign in again"))
