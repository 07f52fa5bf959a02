"""The command line in an empty workspace: what works there, and mistakes that are explained."""

import json

import pytest
from command_line_here import done, refused

from dealcast.session import run

pytestmark = pytest.mark.slow


def test_a_key_is_shown_once_and_ends_when_revoked(tmp_path):
    made = done(tmp_path, "keys", "create", "reporting", "--scope", "read,what_if")
    assert made["key"] and made["scopes"] == ["read", "what_if"] and made["user"] is None
    (listed,) = done(tmp_path, "keys", "list")["keys"]
    assert listed["key_id"] == made["key_id"] and made["key"] not in json.dumps(listed)
    assert done(tmp_path, "keys", "revoke", "reporting")["revoked_at"] is not None
    assert refused(tmp_path, "keys", "revoke", "nobody")[0] == 2
    assert refused(tmp_path, "keys", "create", "x", "--scope", "everything")[0] == 2


def test_the_catalogue_tells_every_feature(tmp_path):
    features = done(tmp_path, "features", "list")["features"]
    assert {"name", "unit", "higher_is"} <= features[0].keys()
    assert done(tmp_path, "features", "show", "close_date_pushes") in features
    code, error = refused(tmp_path, "features", "show", "close_date_push")
    assert code == 2 and error["code"] == "not_found" and "close_date_pushes" in error["details"][0]["next_step"]


@pytest.mark.parametrize(
    ("exit_code", "arguments"),
    [
        (2, []),
        (2, ["nonsense"]),
        (2, ["import"]),
        (2, ["import", "no/such/folder"]),
        (2, ["import", ".", "--mapping", "mapping.toml"]),
        (2, ["train", "--minutes", "5"]),
        (2, ["train", "--promote", "perhaps"]),
        (2, ["score", "--out", "scores.xlsx"]),
        (2, ["score", "--out", "no/such/folder/scores.csv"]),
        (2, ["score", "--json"]),
        (2, ["forecast", "--by", "colour"]),
        (2, ["serve", "--host", "203.0.113.5"]),
        (2, ["review", "--out", "rows.xlsx"]),
        (3, ["review"]),
        (3, ["backtest"]),
        (2, ["backtest", "--periods", "0"]),
        (2, ["models", "compare", "a", "b"]),
        (3, ["features", "drift"]),
        (3, ["check"]),
        (3, ["train"]),
        (3, ["score"]),
        (3, ["forecast"]),
        (4, ["models", "show"]),
        (4, ["models", "rollback"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_mistake_in_an_empty_workspace_is_explained(tmp_path, exit_code, arguments):
    code, error = refused(tmp_path / "workspace", *arguments)
    assert code == exit_code and error["message"] and error["details"] and error["code"] != "internal"


def test_a_bug_ends_with_one_and_keeps_its_traceback_in_a_file(tmp_path, capsys):
    def broken() -> None:
        raise RuntimeError("the reason")

    assert run(broken, ["--workspace", str(tmp_path), "--json", "score"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    (log,) = tmp_path.glob("logs/*.log")
    assert error["code"] == "internal" and str(log) in error["message"]
    assert "RuntimeError: the reason" in log.read_text("utf-8")
