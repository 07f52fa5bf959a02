"""Write the reference pages from the code: tables, commands, features, checks. Run by `make docs`; a test compares."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from crm.checks import CHECKS
from crm.contract import TABLES
from dealcast.cli import RESERVED, app
from features.catalogue import CATALOGUE

REFERENCE = Path(__file__).parent / "reference"
NOTICE = "<!-- Written by docs/generate.py from the code: change the code, then run `make docs`. -->"


TABLES_INTRODUCTION = """\
# The tables of an import

One folder with one CSV (UTF-8, with a header) or Parquet file a table, named like the table. Only `deals` is
needed, with a way to know what is closed: `stages`, or `is_closed` and `is_won` in deals. Columns not listed
are custom fields: kept, typed by what they hold, usable as features. Empty means unknown. How each kind of
value is written stands in [Importing](../importing.md#how-values-are-written)."""

COMMANDS_INTRODUCTION = """\
# Commands

`dealcast [--workspace DIR] [--json] COMMAND …`. Options that hold for every command stand before it. What
`--json` prints, and the exit codes, stand in [Documents](../documents.md)."""

NOT_BUILT_INTRODUCTION = """
## Not built yet

These names are taken; they end with exit code 2 and say so.
"""

FEATURES_INTRODUCTION = """\
# Features

{count} features, each declared once in `features/`. A feature's value at a moment is read from facts dated at
or before it and from nothing else. *Audience* is who may read it as a reason for a score: `everyone`, `chain`
(the management chain), or `none`."""

CHECKS_INTRODUCTION = """\
# Checks

What `dealcast check` and every import look for. *error*: rows that cannot be used; *warning*: rows that
mislead; *info*: worth knowing. A check whose tables or columns were never delivered does not run."""


def pages() -> dict[str, str]:
    """The text of every generated page, by file name."""
    parts = {"tables": tables_page, "commands": commands_page, "features": features_page, "checks": checks_page}
    return {f"{name}.md": "\n".join([NOTICE, *page()]) + "\n" for name, page in parts.items()}


def row(*cells: object) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def heading(*names: str) -> list[str]:
    """The head of a Markdown table."""
    return ["", row(*names), row(*("---" for _ in names))]


def tables_page() -> Iterator[str]:
    """The tables an import reads."""
    yield TABLES_INTRODUCTION
    for table in TABLES.values():
        key = ", ".join(f"`{name}`" for name in table.key) or "the whole row, in file order"
        yield from ("", f"## {table.name}", "", table.doc, "", f"Key: {key}.")
        yield from heading("column", "kind", "required", "meaning", "unit")
        for column in table.columns.values():
            required = "yes" if column.required else ""
            yield row(f"`{column.name}`", column.kind, required, column.doc, column.unit or "")


def commands_page() -> Iterator[str]:
    """What the command line understands, in its own words."""
    group = typer.main.get_command(app)
    yield COMMANDS_INTRODUCTION
    yield from help_of(group, "dealcast")
    for path, command in sorted(commands_below(group, "")):
        yield from ("", f"## {path}")
        yield from help_of(command, f"dealcast {path}")
    yield NOT_BUILT_INTRODUCTION
    yield from (f"- `{name}`" for name in RESERVED)


def commands_below(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command that works, by the words that call it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_below(command, f"{path}{name} ")
        elif not command.hidden:
            yield f"{path}{name}", command


def help_of(command: Any, called: str) -> Iterator[str]:
    """What `--help` prints, as a block."""
    context = command.make_context(called, [], resilient_parsing=True, terminal_width=110, max_content_width=110)
    yield from ("", "```text", command.get_help(context).rstrip(), "```")


def features_page() -> Iterator[str]:
    """The catalogue."""
    yield FEATURES_INTRODUCTION.format(count=len(CATALOGUE))
    for family in dict.fromkeys(feature.family for feature in CATALOGUE):
        yield from ("", f"## {family}")
        yield from heading("feature", "meaning", "unit", "higher is", "controlled by", "audience", "unknown means")
        for one in CATALOGUE:
            if one.family == family:
                cells = (one.description, one.unit, one.higher_is, one.controlled_by, one.audience, one.missing)
                yield row(f"`{one.name}`", *cells)


def checks_page() -> Iterator[str]:
    """The coded checks."""
    yield CHECKS_INTRODUCTION
    for one in CHECKS.values():
        needs = ", ".join(f"`{need}`" for need in one.needs) or "nothing but `deals`"
        yield from ("", f"## {one.code} {one.title}", "", f"*{one.severity}*, counts rows of {one.of}. {one.why}", "")
        yield from (f"Needs {needs}. Next step: {one.next_step}",)


if __name__ == "__main__":
    REFERENCE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, "utf-8")
        print(f"docs/reference/{name}")
