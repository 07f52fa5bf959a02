"""What a company's settings say about who may come in and what they see; read once, the same in every worker."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from models.holdout import Holdout

Authority = Literal["executive", "revops", "admin"]
LISTED: dict[str, Authority] = {"admins": "admin", "revops": "revops", "executives": "executive"}
"""The lists of settings.toml and the authority each gives, the strongest first."""

ACCESS = "DEALCAST_ACCESS"
"""The environment variable in which the settings reach a worker."""


@dataclass(frozen=True)
class Oidc:
    """The identity provider that people sign in with.

    Attributes
    ----------
    issuer : its address, exactly as its tokens name it.
    client_id : what it calls this service.
    audience : what bearer tokens must be meant for; empty: the client_id.
    groups_claim : the claim of its tokens that lists groups.
    admin_groups, revops_groups, executive_groups : groups whose members have an authority.
    """

    issuer: str
    client_id: str
    audience: str = ""
    groups_claim: str = "groups"
    admin_groups: tuple[str, ...] = ()
    revops_groups: tuple[str, ...] = ()
    executive_groups: tuple[str, ...] = ()

    def authority_of_groups(self, groups: object) -> Authority | None:
        """The strongest authority that groups give; whatever is no list of texts gives none."""
        found = {each for each in groups if isinstance(each, str)} if isinstance(groups, list) else set()
        lists: dict[Authority, tuple[str, ...]] = {
            "admin": self.admin_groups,
            "revops": self.revops_groups,
            "executive": self.executive_groups,
        }
        return next((authority for authority, names in lists.items() if found & set(names)), None)


@dataclass(frozen=True)
class Access:
    """Who sees the whole company, how people sign in, and how much one may ask.

    Attributes
    ----------
    executives, revops, admins : e-mails with which people sign in, or the user_id that a key is made for. The CRM's
        own columns never give authority: whoever may edit them could read everything.
    holdout : teams whose deals' scores nobody sees.
    oidc : the identity provider; None: people sign in with keys alone.
    public_url : where browsers reach the service, without a slash at the end; empty: where it listens.
    frame_ancestors : the addresses of the CRM that may show the panel in a frame of its own.
    requests_per_minute : of one key or person, by each process that serves; 0 for any number.
    failures_per_minute : requests with a wrong key from one address, until further ones are answered 429.
    blind_calls : who may call sees the model's number of what the call covers only after calling for the period.
    """

    executives: tuple[str, ...] = ()
    revops: tuple[str, ...] = ()
    admins: tuple[str, ...] = ()
    holdout: Holdout = Holdout()
    oidc: Oidc | None = None
    public_url: str = ""
    frame_ancestors: tuple[str, ...] = ()
    requests_per_minute: int = 60_000
    failures_per_minute: int = 30
    blind_calls: bool = False

    def authority_of_user(self, user_id: str) -> Authority | None:
        """What the settings let a user of the CRM see and do beyond the own subtree, by user_id alone."""
        return None if "@" in user_id else self._listed(user_id)

    def authority_of_email(self, email: str) -> Authority | None:
        """The same for somebody who signed in with this e-mail, in small letters."""
        return self._listed(email) if "@" in email else None

    def _listed(self, name: str) -> Authority | None:
        listed = (kind for place, kind in LISTED.items() if name in map(small, getattr(self, place)))
        return next(listed, None)

    def to_json(self) -> str:
        """As one environment variable holds it."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Access":
        """Back from `to_json`; an empty text is the default."""
        stored = {name: _frozen(value) for name, value in json.loads(text or "{}").items()}
        oidc = stored.pop("oidc", None)
        holdout = Holdout(**stored.pop("holdout", {}))
        provider = oidc and Oidc(**{name: _frozen(value) for name, value in oidc.items()})
        return Access(**stored, oidc=provider, holdout=holdout)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


LOOPBACK = ("localhost", "127.0.0.1", "::1")


def is_safe(address: str, *, beside: str | None = None) -> bool:
    """Whether an address is https; plain http only on this machine, and beside another only if that is on it too."""
    try:
        parts, near = urlsplit(address), urlsplit(beside or address)
        hosts = (parts.hostname, near.hostname)
    except ValueError:
        return False
    if parts.scheme == "https":
        return bool(parts.hostname)
    return parts.scheme == "http" and all(host in LOOPBACK for host in hosts)


def small(name: str) -> str:
    """An e-mail as it is compared: A-Z in small letters, look-alikes of other alphabets apart; a user_id as it is."""
    return name.strip().encode("utf-8", "replace").lower().decode("utf-8") if "@" in name else name
