"""Every rule of docs/as-of.md names the test that holds it, and that test is there."""

import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def test_the_tests_named_for_the_rules_exist():
    page = (PROJECT / "docs" / "as-of.md").read_text("utf-8")
    rules = page.split("## Unknown is not zero")[1].split("\n## ")[0]
    named = set(re.findall(r"`(test_\w+)`", rules))
    code = "\n".join(path.read_text("utf-8") for path in (PROJECT / "tests").rglob("test_*.py"))
    assert len(named) > 15
    assert named <= set(re.findall(r"^def (test_\w+)", code, flags=re.M))
