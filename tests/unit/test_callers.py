"""With whose eyes a caller sees, and what gives authority: settings and groups, never a column of the CRM."""

import pandas as pd
import pytest

from ledger.keys import ApiKey
from serving.access import Access
from serving.callers import Person, caller_signed_in, caller_with, users_by_email
from serving.errors import Forbidden

ACCESS = Access(executives=("CRO@example.com", "U9"), revops=("ops@example.com",), admins=("it@example.com",))
USERS = users_by_email(
    ["U1", "U2", "U3", "U4", "U9"], ["ann@example.com", "Bo@Example.com", "two@example.com", "TWO@example.com", None]
)


def key(user_id=None, scopes=("read",)):
    return ApiKey("key_1", "crm", scopes, user_id, pd.Timestamp("2026-01-05", tz="UTC"), None, None)


def test_a_key_of_nobody_sees_the_whole_company_and_a_user_s_what_the_user_sees():
    assert caller_with(key(), ACCESS).viewer is None
    assert caller_with(key("U1"), ACCESS).viewer == caller_with(key("U1"), ACCESS).user_id == "U1"
    assert caller_with(key("U1", ("admin",)), ACCESS).viewer == "U1"


def test_a_user_listed_in_the_settings_sees_the_whole_company_and_still_acts_for_the_user():
    executive = caller_with(key("U9"), ACCESS)
    assert (executive.viewer, executive.user_id, executive.scopes) == (None, "U9", ("read",))


@pytest.mark.parametrize(
    ("email", "may", "may_not"),
    [
        ("cro@example.com", "calls", "events"),
        ("ops@example.com", "events", "admin"),
        ("it@example.com", "admin", None),
    ],
)
def test_who_signs_in_with_a_listed_e_mail_has_its_authority_without_being_in_the_crm(email, may, may_not):
    caller = caller_signed_in(Person(email, "Somebody"), ACCESS, USERS)
    assert caller.viewer is None and caller.user_id is None
    assert caller.allows(may) and not (may_not and caller.allows(may_not))
    assert "example" not in caller.key_id


def test_groups_of_the_identity_provider_give_authority_too():
    caller = caller_signed_in(Person("ann@example.com", "Ann", "executive"), ACCESS, USERS)
    assert (caller.viewer, caller.user_id) == (None, "U1")


def test_without_authority_the_one_user_with_the_e_mail_is_who_signed_in():
    caller = caller_signed_in(Person("bo@example.com", "Bo"), ACCESS, USERS)
    assert (caller.viewer, caller.user_id, caller.scopes) == ("U2", "U2", ("read", "what_if", "calls"))


@pytest.mark.parametrize(("email", "told"), [("nobody@example.com", "no user"), ("two@example.com", "2 users")])
def test_an_e_mail_of_nobody_or_of_two_users_matches_nobody_and_says_so(email, told):
    with pytest.raises(Forbidden) as refused:
        caller_signed_in(Person(email, "X"), ACCESS, USERS)
    (detail,) = refused.value.details
    assert detail.where == "email" and told in detail.rule and "CRM" in detail.next_step


def test_an_e_mail_written_into_the_crm_gives_nobody_authority():
    """A rep whose e-mail column is made the executive's stays a rep, by key as by signing in."""
    users = users_by_email(["U1"], ["cro@example.com"])
    assert caller_with(key("U1"), ACCESS).viewer == "U1"
    assert caller_signed_in(Person("ann@example.com", "Ann"), ACCESS, {**users, "ann@example.com": ("U1",)}).viewer
    listed_by_id = Access(executives=("U1",))
    assert caller_signed_in(Person("cro@example.com", "Rep"), listed_by_id, users).viewer == "U1"


def test_look_alike_letters_of_another_alphabet_are_another_e_mail():
    users = users_by_email(["U1"], ["kim@example.com"])
    with pytest.raises(Forbidden):
        caller_signed_in(Person("\N{KELVIN SIGN}im@example.com", "Kim"), ACCESS, users)


def test_settings_reach_the_workers_as_they_are():
    assert Access.from_json(ACCESS.to_json()) == ACCESS and Access.from_json("") == Access()
