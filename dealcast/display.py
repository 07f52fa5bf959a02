"""How results look to people: numbers as text, and tables on standard output."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crm.plain import to_plain

Document = Mapping[str, Any]


def percent(share: float | None) -> str:
    """A probability, 0..1, as whole per cent; a dash if unknown."""
    return "–" if pd.isna(share) else f"{share:.0%}"


def money(amount: float | None) -> str:
    """An amount in base currency, rounded, with thousands separated; a dash if unknown."""
    return "–" if pd.isna(amount) else f"{amount:,.0f}"


def number(value: float | None) -> str:
    """A metric with four decimals; a dash if unknown."""
    return "–" if value is None or pd.isna(value) else f"{value:.4f}"


def text(value: Any) -> str:
    """Any value as it stands in the JSON document; a dash if unknown."""
    plain = to_plain(value)
    return "–" if plain is None else escape(str(plain))


def table(console: Console, columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
    """Print a table; a column whose name ends in `>` stands to the right."""
    grid = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        right = column.endswith(">")
        grid.add_column(column.removesuffix(">"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*row)
    console.print(grid)


def show_rows_read(console: Console, document: Document) -> None:
    """How many rows of each table an import or a sync read, and where those are that it refused."""
    counts = ("read", "new", "changed", "unchanged", "refused")
    rows = [(name, *(f"{seen[count]:,}" for count in counts)) for name, seen in document["tables"].items()]
    table(console, ("table", *(f"{count}>" for count in counts)), rows)
    if document["quarantine"]:
        console.print(f"[yellow]Refused rows, each with its reason:[/] {escape(str(document['quarantine']))}")


def show_pairs(console: Console, document: Document) -> None:
    """Names and values, one a line."""
    for name, value in document.items():
        console.print(f"[bold]{name}[/]: {text(value)}")
