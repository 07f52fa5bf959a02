"""Who calls: a key or a person who signed in, what each may do, and with whose eyes each sees.

This is the one place that decides it. A rep sees own deals, a manager those of the whole subtree (`State.may_see_deal`
and what stands beside it, given `Caller.viewer`), somebody with authority the whole company. Authority comes from
settings.toml or from groups of the identity provider, never from a column of the CRM.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from crm.errors import Detail, NoModel
from ledger.keys import ApiKey, Person
from serving.access import LISTED, Access, Authority, small
from serving.errors import Forbidden

DOES: dict[Authority | None, tuple[str, ...]] = {
    None: ("read", "what_if", "calls"),
    "executive": ("read", "what_if", "calls"),
    "revops": ("read", "what_if", "events", "calls"),
    "admin": ("admin",),
}
"""The scopes of somebody who signed in, by authority."""

UsersByEmail = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Caller:
    """Who stands behind a request.

    Attributes
    ----------
    name : the key's, or the person's, to be shown.
    key_id : what the ledger keeps of who it was; a person's is no name.
    scopes : what the caller may do; `admin` may do everything.
    user_id : the CRM user who acts (calls, overrides, the own page); None if it is nobody's.
    viewer : the CRM user with whose eyes the caller sees; None sees the whole company.
    """

    name: str
    key_id: str
    scopes: tuple[str, ...]
    user_id: str | None
    viewer: str | None

    def allows(self, scope: str) -> bool:
        """Whether the caller may do what the scope covers."""
        return scope in self.scopes or "admin" in self.scopes

    def must_have(self, scope: str) -> None:
        """Refuse what the caller may not do."""
        if not self.allows(scope):
            step = f"use a key made with `dealcast keys create NAME --scope {scope}`"
            raise Forbidden(f"{self.name} may not do this.", Detail("key", self.name, f"the scope {scope}", step))


def caller_with(key: ApiKey, access: Access) -> Caller:
    """Who calls with a key: one of nobody's sees the whole company, a user's what that user may see."""
    return Caller(key.name, key.key_id, key.scopes, key.user_id, viewer_for(key.user_id, access))


def viewer_for(user_id: str | None, access: Access) -> str | None:
    """With whose eyes a user sees: the own ones, or (None) the whole company's, for nobody's keys and for authority."""
    return None if user_id is None or access.authority_of_user(user_id) else user_id


def caller_signed_in(person: Person, access: Access, users: UsersByEmail) -> Caller:
    """Who calls after signing in: the one user of the CRM with this e-mail, or somebody with authority.

    Parameters
    ----------
    users : the user_ids of each e-mail.

    Raises
    ------
    Forbidden
        No user has this e-mail, or several do, and the person has no authority.
    """
    given: Authority | None = next((each for each in LISTED.values() if each == person.authority), None)
    authority = access.authority_of_email(person.email) or given
    same = users.get(person.email, ())
    user_id = same[0] if len(same) == 1 else None
    if user_id is None and authority is None:
        told = f"{len(same)} users of the CRM have" if same else "no user of the CRM has"
        step = "give each user an e-mail of their own in the CRM" if same else "enter it with your user in the CRM"
        detail = Detail("email", person.email, f"an e-mail that one user of the CRM has; {told} it", step)
        raise Forbidden("You are signed in, but nobody knows which user you are.", detail)
    pseudonym = "person_" + hashlib.sha256(person.email.encode()).hexdigest()[:12]
    return Caller(person.name, pseudonym, DOES[authority], user_id, None if authority else user_id)


def caller_known(who: ApiKey | Person, access: Access, users: UsersByEmail | None) -> Caller:
    """Who calls with a key or after signing in.

    Parameters
    ----------
    users : None as long as no data are loaded: only those who have authority are known until then.

    Raises
    ------
    Forbidden
        Nobody, or several, have the person's e-mail.
    NoModel
        No data are loaded yet that would say which user it is.
    """
    if isinstance(who, ApiKey):
        return caller_with(who, access)
    try:
        return caller_signed_in(who, access, users or {})
    except Forbidden:
        if users is not None:
            raise
        step = "try again in a moment, or see /readyz"
        raise NoModel("The service is not ready.", Detail("/readyz", None, "data are loaded", step)) from None


def users_by_email(user_ids: list[str], emails: list[str | None]) -> UsersByEmail:
    """The user_ids of each e-mail, in small letters; users without one are left out."""
    found: dict[str, tuple[str, ...]] = {}
    for user_id, email in zip(user_ids, emails, strict=True):
        if isinstance(email, str) and "@" in email:
            found[small(email)] = (*found.get(small(email), ()), user_id)
    return found
