import json
from pathlib import Path

import pytest

from crm.errors import UsageError
from dealcast.cli import answer
from dealcast.settings import TEMPLATE, read_settings

SECRET = "hunter2"


def write(workspace: Path, text: str) -> Path:
    (workspace / "settings.toml").write_text(text, "utf-8")
    return workspace


def test_without_a_file_everything_has_a_default(tmp_path: Path):
    settings = read_settings(tmp_path, {})
    assert settings.ledger_url == f"sqlite:///{tmp_path}/dealcast.db"
    assert (settings.host, settings.port) == ("127.0.0.1", 3000)


def test_a_workspace_that_is_no_folder_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    a_file = write(tmp_path, "") / "settings.toml"
    assert answer(["--workspace", str(a_file), "--json", "score"]) == 2
    [detail] = json.loads(capsys.readouterr().out)["error"]["details"]
    assert (detail["where"], detail["value"]) == ("--workspace", str(a_file))


def test_the_template_changes_nothing(tmp_path: Path):
    before = read_settings(tmp_path, {})
    assert read_settings(write(tmp_path, TEMPLATE), {}) == before


def test_the_file_is_read_and_the_environment_wins(tmp_path: Path):
    write(tmp_path, '[ledger]\nurl = "sqlite:///a.db"\n[service]\nport = 8080\n')
    assert read_settings(tmp_path, {}).ledger_url == "sqlite:///a.db"
    settings = read_settings(tmp_path, {"DEALCAST_LEDGER_URL": "sqlite:///b.db"})
    assert (settings.ledger_url, settings.port) == ("sqlite:///b.db", 8080)


@pytest.mark.parametrize(
    ("text", "where", "next_step"),
    [
        ("[service\n", "settings.toml", "correct that line"),
        ("[servce]\nport = 1\n", "[servce]", "did you mean service?"),
        ("[service]\nprot = 1\n", "[service] prot", "did you mean port?"),
        ('[service]\nport = "1"\n', "[service] port", "correct the value"),
        ("[service]\nport = 70000\n", "[service] port", "choose a free port"),
        ("service = 3\n", "[service]", "did you mean service?"),
    ],
)
def test_a_mistake_is_explained_where_it_stands(tmp_path: Path, text: str, where: str, next_step: str):
    with pytest.raises(UsageError) as refusal:
        read_settings(write(tmp_path, text), {})
    (detail,) = refusal.value.details
    assert where in detail.where and detail.next_step == next_step


def test_a_password_is_never_shown(tmp_path: Path):
    settings = read_settings(tmp_path, {"DEALCAST_LEDGER_URL": f"postgresql://me:{SECRET}@db/dealcast"})
    assert SECRET not in repr(settings) + settings.ledger_shown and "me" in settings.ledger_shown


def test_a_password_of_the_wrong_type_is_not_repeated_in_the_error(tmp_path: Path):
    with pytest.raises(UsageError) as refusal:
        read_settings(write(tmp_path, f'[ledger]\nurl = ["{SECRET}"]\n'), {})
    assert SECRET not in str(refusal.value.details)
