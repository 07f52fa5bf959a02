"""What a company's settings say about who may come in and what they see; read once, the same in every worker."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from models.holdout import Holdout

Authority = Literal["executive", "revops", "admin"]
LISTED: dict[str, Authority] = {"admins": "admin", "revops": "revops", "executives": "executive"}
"""The lists of settings.toml and the authority each gives, the strongest first."""

ACCESS = "DEALCAST_ACCESS"
"""The environment variable in which the settings reach a worker."""


@dataclass(frozen=True)
class Access:
    """Who sees the whole company.

    Attributes
    ----------
    executives, revops, admins : e-mails with which people sign in, or the user_id that a key is made for. The CRM's
        own columns never give authority: whoever may edit them could read everything.
    holdout : teams whose deals' scores nobody sees.
    """

    executives: tuple[str, ...] = ()
    revops: tuple[str, ...] = ()
    admins: tuple[str, ...] = ()
    holdout: Holdout = Holdout()

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
        stored: dict[str, Any] = json.loads(text or "{}")
        lists = {field.name for field in fields(Access) if field.type == tuple[str, ...]}
        holdout = Holdout(**stored.pop("holdout", {}))
        told = {name: tuple(value) if name in lists else value for name, value in stored.items()}
        return Access(**told, holdout=holdout)


def small(name: str) -> str:
    """An e-mail as it is compared: A-Z in small letters, look-alikes of other alphabets apart; a user_id as it is."""
    return name.strip().encode("utf-8", "replace").lower().decode("utf-8") if "@" in name else name
