"""Connections are checked whenever they are read, and secrets are never among their settings."""

import pytest

from crm.errors import DealcastError, UsageError
from dealcast.connections import asked_connection, read_connection, read_secret, write_connection

GOOD = ("url=https://crm.example.com", "database=crm", "user=me")


def details_of(failure) -> str:
    return " ".join(f"{each.where} {each.value} {each.rule} {each.next_step}" for each in failure.value.details)


def test_a_connection_comes_back_as_it_was_written(tmp_path):
    asked = asked_connection(tmp_path, "tryton", (*GOOD, "tries=3", "least_change_points=2.5"))
    path = write_connection(tmp_path, asked)
    assert read_connection(tmp_path, None) == asked == read_connection(tmp_path, "tryton")
    assert (asked.settings.tries, asked.least_change_points) == (3, 2.5)
    assert "secret" in path.read_text().splitlines()[0].lower()


def test_settings_given_before_stay(tmp_path):
    write_connection(tmp_path, asked_connection(tmp_path, "tryton", (*GOOD, "tries=3")))
    changed = asked_connection(tmp_path, "tryton", ("user=you",))
    assert (changed.settings.user, changed.settings.tries, changed.settings.database) == ("you", 3, "crm")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (GOOD[:2], "user"),
        ((*GOOD, "databse=x"), "Did you mean database?"),
        ((*GOOD, "tries=many"), "a number"),
        ((*GOOD, "tries=0"), "1 or more"),
        ((*GOOD, "timeout_seconds=0"), "above 0"),
        ((*GOOD, "pause_seconds=-1"), "0 or more"),
        ((*GOOD, "least_change_points=-1"), "0 or more"),
        ((*GOOD, "least_change_points=nan"), "a number"),
        ((*GOOD, "write_to=amount"), "score_table or conversion_probability"),
        (("url=crm.example.com", *GOOD[1:]), "https://HOST"),
        (("url=https://me:hunter2@crm.example.com", *GOOD[1:]), "no user or password in it"),
        ((*GOOD, "password=hunter2"), "secrets are kept apart"),
        ((*GOOD, "hunter2"), "KEY=VALUE"),
    ],
)
def test_what_is_wrong_with_a_setting_is_told_with_the_rule(tmp_path, words, told):
    with pytest.raises(UsageError) as failure:
        asked_connection(tmp_path, "tryton", words)
    assert told in details_of(failure)


@pytest.mark.parametrize("word", ["password=hunter2", "url=https://me:hunter2@crm.example.com"])
def test_a_secret_that_was_given_is_not_repeated(tmp_path, word):
    with pytest.raises(UsageError) as failure:
        asked_connection(tmp_path, "tryton", (*GOOD, word))
    assert "hunter2" not in details_of(failure) + failure.value.message


def test_a_file_that_was_spoiled_by_hand_is_explained(tmp_path):
    path = write_connection(tmp_path, asked_connection(tmp_path, "tryton", GOOD))
    path.write_text(path.read_text().replace("tries = 6", "tries = many"))
    with pytest.raises(UsageError, match="cannot be read") as failure:
        read_connection(tmp_path, None)
    assert str(path) in details_of(failure)
    with pytest.raises(UsageError, match="cannot be read"):
        asked_connection(tmp_path, "tryton", ("user=you",))


def test_without_a_connection_the_next_step_is_to_make_one(tmp_path):
    with pytest.raises(UsageError) as failure:
        read_connection(tmp_path, None)
    assert "dealcast connect" in details_of(failure)
    with pytest.raises(DealcastError, match="no connector saleforce"):
        read_connection(tmp_path, "saleforce")


def test_the_environment_wins_over_the_file_of_secrets(tmp_path):
    secrets = tmp_path / "secrets.toml"
    secrets.write_text('[tryton]\npassword = "of the file"\n')
    secrets.chmod(0o600)
    assert read_secret(tmp_path, "tryton", {}) == "of the file"
    assert read_secret(tmp_path, "tryton", {"DEALCAST_TRYTON_PASSWORD": "of the air"}) == "of the air"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_file_of_secrets_that_others_may_read_is_refused(tmp_path, mode):
    secrets = tmp_path / "secrets.toml"
    secrets.write_text('[tryton]\npassword = "hunter2"\n')
    secrets.chmod(mode)
    with pytest.raises(UsageError, match="Others can read") as failure:
        read_secret(tmp_path, "tryton", {})
    assert "chmod 600" in details_of(failure) and "hunter2" not in details_of(failure)


def test_a_missing_secret_is_asked_for_by_name(tmp_path):
    with pytest.raises(UsageError, match="No password") as failure:
        read_secret(tmp_path, "tryton", {})
    assert "DEALCAST_TRYTON_PASSWORD" in details_of(failure)
