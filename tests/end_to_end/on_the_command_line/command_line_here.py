"""Commands run in this process, as a script would read them."""

import contextlib
import io
import json
from pathlib import Path

import pytest

from dealcast.cli import answer

LONG_AGO, EARLIER, PAST = "2023-12-01", "2024-03-04", "2024-04-08"


def dealcast(workspace: Path, *arguments: object) -> tuple[int, dict]:
    """Run a command with `--json`: its exit code and its one document."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = answer(["--workspace", str(workspace), "--json", *map(str, arguments)])
    return code, json.loads(printed.getvalue(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def done(workspace: Path, *arguments: object) -> dict:
    """Run a command that succeeds."""
    code, document = dealcast(workspace, *arguments)
    assert code == 0, document
    return document


def refused(workspace: Path, *arguments: object) -> tuple[int, dict]:
    """Run a command that fails, and check the shape of what it says."""
    code, document = dealcast(workspace, *arguments)
    assert document.keys() == {"error"} and document["error"].keys() == {"code", "message", "details"}
    for detail in document["error"]["details"]:
        assert detail.keys() == {"where", "value", "rule", "next_step"}
    return code, document["error"]
