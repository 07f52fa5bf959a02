"""The documentation says what the code does: generated pages are up to date, and nothing is left out or dangling."""

import re
import runpy
from pathlib import Path

import pytest
import typer.main

from crm.calendar import Calendar
from crm.checks import CHECKS
from crm.contract import TABLES
from crm.errors import DealcastError
from dealcast.cli import RESERVED, app
from dealcast.settings import KNOWN
from features.catalogue import CATALOGUE
from models.forecaster import FORECAST_COLUMNS
from models.review import REVIEW_COLUMNS
from serving.schema import SCORE_COLUMNS
from training.scoreboard import SCORES

PROJECT = Path(__file__).resolve().parents[2]
DOCS = PROJECT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *PROJECT.glob("*.md")])
CODE = [path for package in PROJECT.glob("*/__init__.py") for path in package.parent.rglob("*.py")]


def read(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def commands(group, path: str = "") -> dict[str, object]:
    """Every command that works, by the words that call it."""
    found = {}
    for name, command in group.commands.items():
        below = commands(command, f"{path}{name} ") if hasattr(command, "commands") else {f"{path}{name}": command}
        found |= {words: one for words, one in below.items() if not one.hidden}
    return found


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_generated_pages_are_up_to_date():
    for name, text in runpy.run_path(str(DOCS / "generate.py"))["pages"]().items():
        assert read(f"reference/{name}") == text, f"docs/reference/{name} is old: run `make docs`"


def test_every_command_and_option_is_documented():
    page = read("reference/commands.md")
    found = commands(typer.main.get_command(app))
    assert {"import", "train", "keys create", "models rollback"} <= found.keys()
    for words, command in found.items():
        section = page.split(f"\n## {words}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            assert parameter.name == "help" or (parameter.metavar or parameter.opts[0]) in section


def test_every_reserved_command_is_said_not_to_be_there_yet():
    missing = read("reference/commands.md").split("## Not built yet")[1]
    assert all(f"- `{name}`" in missing for name in RESERVED)


@pytest.mark.parametrize("table", TABLES)
def test_every_table_and_field_is_documented(table: str):
    section = read("reference/tables.md").split(f"\n## {table}\n")[1].split("\n## ")[0]
    for column, spec in TABLES[table].columns.items():
        assert f"| `{column}` | {spec.kind} |" in section and spec.doc


def test_every_feature_and_check_is_documented():
    features, checks = read("reference/features.md"), read("reference/checks.md")
    assert all(f"| `{feature.name}` |" in features for feature in CATALOGUE)
    assert all(f"\n## {code} " in checks for code in CHECKS)


def test_every_field_of_score_forecast_and_review_rows_is_documented():
    scores, forecasts = read("documents.md").split("\n## A score\n")[1].split("\n## A forecast\n")
    forecasts, reviews = forecasts.split("\n## A review\n")
    reviews, backtests = reviews.split("\n## A backtest\n")
    assert all(f"`{name}`" in scores for name in SCORE_COLUMNS)
    assert all(f"`{name}`" in forecasts for name in FORECAST_COLUMNS)
    assert all(f"`{name}`" in reviews for name in REVIEW_COLUMNS)
    assert all(f"`{name}`" in backtests for name in SCORES)


def test_every_exit_code_of_an_error_is_documented():
    codes = {kind.exit_code for kind in DealcastError.__subclasses__()} | {0, 1}
    assert all(f"\n| {code} |" in read("documents.md") for code in codes)


def test_every_key_of_the_calendar_and_the_settings_is_documented():
    keys = set(Calendar.__dataclass_fields__) - {"listed_periods"} | {"as_of"}
    assert all(f"| `{key}` |" in read("importing.md") for key in keys)
    settings = read("settings.md")
    assert all(f"[{section}]" in settings and f"\n{key} = " in settings for section in KNOWN for key in KNOWN[section])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_no_link_leads_nowhere(page: Path):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text("utf-8")):
        place, _, anchor = target.partition("#")
        linked = (page.parent / place).resolve() if place else page
        assert linked.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(linked), f"{page.name} links to {target}"


def test_every_page_can_be_found_from_the_index():
    linked = {(DOCS / target.partition("#")[0]).resolve() for target in re.findall(r"\]\(([^)]+)\)", read("index.md"))}
    decisions = {page for page in PAGES if page.parent.name == "decisions"}
    assert {page for page in PAGES if page.is_relative_to(DOCS)} - decisions - {DOCS / "index.md"} <= linked


def test_pages_named_in_the_code_exist():
    for path in CODE:
        for named in re.findall(r"docs/[\w/-]+\.md", path.read_text("utf-8")):
            assert (PROJECT / named).exists(), f"{path.relative_to(PROJECT)} names {named}"


def test_make_targets_named_in_the_pages_exist():
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text("utf-8"), flags=re.M))
    for page in PAGES:
        assert set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text("utf-8"), flags=re.M)) <= targets


def test_every_metric_of_the_service_is_documented_with_its_kind_and_no_other():
    from prometheus_client import REGISTRY

    from serving import metrics

    assert metrics.requests_total is not None
    ours = {(each.name, each.type) for each in REGISTRY.collect() if each.name.startswith("dealcast_")}
    told = set(re.findall(r"^\| `(dealcast_\w+)` \| (\w+) \|", read("service.md"), re.MULTILINE))
    assert told == ours
