"""A key's secret is shown once, opens what its scopes say, and stops when it is revoked or its time is over."""

import pandas as pd
import pytest

from ledger.errors import LedgerError
from ledger.ledger import open_ledger

NOW = pd.Timestamp("2026-01-05 09:00", tz="UTC")
DAY = pd.Timedelta(days=1)


@pytest.fixture
def ledger(tmp_path):
    return open_ledger(f"sqlite:///{tmp_path}/dealcast.db")


def test_a_secret_opens_its_key_and_is_stored_nowhere(ledger, tmp_path):
    secret, key = ledger.create_key("crm", ["read", "events"], user_id="0051", now=NOW)
    assert secret.startswith("dc_") and len(secret) > 40
    assert ledger.authenticate(secret, now=NOW) == key
    assert (key.name, key.scopes, key.user_id) == ("crm", ("read", "events"), "0051")
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert secret.encode() not in stored and secret[3:].encode() not in stored
    assert secret not in repr(ledger.list_keys())


@pytest.mark.parametrize("wrong", ["", "dc_", "x", "dc_" + "A" * 43, "déal"])
def test_a_wrong_secret_opens_nothing(ledger, wrong):
    ledger.create_key("crm", ["read"], now=NOW)
    assert ledger.authenticate(wrong, now=NOW) is None


def test_a_key_opens_nothing_from_its_end_on(ledger):
    secret, _ = ledger.create_key("crm", ["read"], expires_at=NOW + DAY, now=NOW)
    assert ledger.authenticate(secret, now=NOW + DAY - pd.Timedelta(seconds=1))
    assert ledger.authenticate(secret, now=NOW + DAY) is None


@pytest.mark.parametrize("called", ["key_id", "name"])
def test_a_revoked_key_opens_nothing_and_its_name_is_free_again(ledger, called):
    secret, key = ledger.create_key("crm", ["read"], now=NOW)
    revoked = ledger.revoke_key(getattr(key, called), now=NOW + DAY)
    assert revoked.revoked_at == NOW + DAY
    assert ledger.authenticate(secret, now=NOW + DAY) is None
    assert ledger.revoke_key(getattr(key, called), now=NOW + 2 * DAY).revoked_at == NOW + DAY
    again, _ = ledger.create_key("crm", ["read"], now=NOW + DAY)
    assert ledger.authenticate(again, now=NOW + DAY)
    assert len(ledger.list_keys()) == 2


def test_admin_may_do_everything_and_others_what_their_scopes_say(ledger):
    _, reader = ledger.create_key("reader", ["read"], now=NOW)
    _, admin = ledger.create_key("admin", ["admin"], now=NOW)
    assert reader.allows("read") and not reader.allows("events")
    assert admin.allows("events")


@pytest.mark.parametrize(
    ("name", "scopes", "rule"),
    [("crm", [], "read, what_if"), ("crm", ["write"], "write"), (" ", ["read"], "name"), ("taken", ["read"], "in use")],
)
def test_a_key_without_a_name_of_its_own_or_with_scopes_that_do_not_exist_is_refused(ledger, name, scopes, rule):
    ledger.create_key("taken", ["read"], now=NOW)
    with pytest.raises(LedgerError) as refused:
        ledger.create_key(name, scopes, now=NOW)
    [detail] = refused.value.details
    assert rule in f"{refused.value} {detail.rule}" and detail.next_step


def test_revoking_a_key_that_does_not_exist_says_how_to_list_them(ledger):
    with pytest.raises(LedgerError, match="no key") as refused:
        ledger.revoke_key("nobody", now=NOW)
    assert [(detail.value, "keys list" in detail.next_step) for detail in refused.value.details] == [("nobody", True)]


def test_a_browser_s_session_opens_its_key_for_half_a_day_and_no_longer_than_the_key(ledger):
    secret, key = ledger.create_key("crm", ["read"], now=NOW)
    token = ledger.open_session(key, now=NOW)
    assert token != secret
    assert ledger.authenticate(token, now=NOW) == key
    assert ledger.authenticate(token, now=NOW + DAY / 2) is None
    ledger.revoke_key("crm", now=NOW)
    assert ledger.authenticate(token, now=NOW) is None
