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
        ("[service]\nport = true\n", "[service] port", "correct the value"),
        ("[service]\nworkers = 0\n", "[service] workers", "one for each processor is enough"),
        ('[service]\npublic_url = "dealcast.example.com"\n', "[service] public_url", "correct the address"),
        ('[service]\npublic_url = "https://a.example/path"\n', "[service] public_url", "correct the address"),
        ('[authority]\nexecutives = "ann@example.com"\n', "[authority] executives", "correct the value"),
        ("[authority]\nadmins = [7]\n", "[authority] admins", "correct the value"),
        ("[authority]\nexecutive = []\n", "[authority] executive", "did you mean executives?"),
        ('[oidc]\nissuer = "https://id.example.com"\n', "[oidc] client_id", "add it, or remove [oidc]"),
        ('[oidc]\nissuer = "http://id.example.com"\nclient_id = "a"\n', "[oidc] issuer", "correct the address"),
        ('[panel]\nframe_ancestors = ["*"]\n', "[panel] frame_ancestors", "correct the address"),
        (
            '[panel]\nframe_ancestors = ["https://a.example\'; script-src *"]\n',
            "frame_ancestors",
            "correct the address",
        ),
        ("[limits]\nrequests_per_minute = -1\n", "[limits] requests_per_minute", "choose a number"),
        ("[limits]\nfailures_per_minute = 0\n", "[limits] failures_per_minute", "choose a number"),
        ("[holdout]\nshare = 1.0\n", "[holdout] share", "correct the value"),
        ('[calls]\nblind_calls = "yes"\n', "[calls] blind_calls", "correct the value"),
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


def test_every_mistake_of_a_file_is_told_at_once(tmp_path: Path):
    write(tmp_path, '[servce]\nport = 1\n[limits]\nfailures_per_minute = 0\n[service]\nport = "x"\n')
    with pytest.raises(UsageError) as refusal:
        read_settings(tmp_path, {})
    assert len(refusal.value.details) == 3


def test_a_password_of_the_wrong_type_is_not_repeated_in_the_error(tmp_path: Path):
    with pytest.raises(UsageError) as refusal:
        read_settings(write(tmp_path, f'[ledger]\nurl = ["{SECRET}"]\n'), {})
    assert SECRET not in str(refusal.value.details)
