"""Who did what when: `dealcast audit` tells what commands and the service wrote down, and nobody can take it back."""

import json
from pathlib import Path

import pandas as pd
import pytest

from dealcast.cli import answer
from ledger.ledger import open_ledger

NOW = pd.Timestamp("2026-01-05 09:00", tz="UTC")


@pytest.fixture
def told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Runs a command with `--json`: its exit code and its document."""

    def run(*arguments: str) -> tuple[int, dict]:
        code = answer(["--workspace", str(tmp_path), "--json", *arguments])
        return code, json.loads(capsys.readouterr().out)

    return run


def test_keys_that_are_made_and_revoked_stand_in_the_audit_without_their_secrets(told):
    _, key = told("keys", "create", "crm", "--scope", "read")
    told("keys", "revoke", "crm")
    code, document = told("audit")
    assert code == 0
    made, revoked = document["entries"]
    assert [made["number"], revoked["number"]] == [1, 2]
    assert all(entry["at"].endswith("Z") and entry["who"] for entry in document["entries"])
    assert key["key_id"] in json.dumps(made) and key["key_id"] in json.dumps(revoked)
    assert made["action"] != revoked["action"] and key["key"] not in json.dumps(document)


def test_the_newest_entries_are_told_oldest_first(told, tmp_path):
    ledger = open_ledger(f"sqlite:///{tmp_path}/dealcast.db")
    for place in range(5):
        ledger.record(f"key_{place}", "refused", "/v1/score", at=NOW + pd.Timedelta(seconds=place), status=403)
    _, document = told("audit", "--last", "2")
    assert [entry["who"] for entry in document["entries"]] == ["key_3", "key_4"]
    assert document["entries"][0] == {
        **{"number": 4, "at": "2026-01-05T09:00:03Z", "who": "key_3", "action": "refused", "about": "/v1/score"},
        "details": {"status": 403},
    }


def test_for_people_the_audit_is_a_table_and_without_entries_it_says_so_without_failing(tmp_path, capsys):
    assert answer(["--workspace", str(tmp_path), "audit"]) == 0
    capsys.readouterr()
    open_ledger(f"sqlite:///{tmp_path}/dealcast.db").record("key_1", "signed in", None, at=NOW, address="127.0.0.1")
    assert answer(["--workspace", str(tmp_path), "audit"]) == 0
    assert "key_1" in capsys.readouterr().out


def test_a_number_that_is_none_is_wrong_usage(told):
    code, document = told("audit", "--last", "0")
    assert code == 2 and "--last" in json.dumps(document)
