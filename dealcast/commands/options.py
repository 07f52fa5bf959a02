"""What commands share: options of the same meaning, and rows that go into a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from dealcast.documents import write_table
from dealcast.session import Session

AsOf = Annotated[
    str | None,
    typer.Option("--as-of", metavar="D", help="A past day (its 00:00 in the company's time zone) or a full timestamp."),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the rows to FILE (.parquet or .csv).")]


def hand_over_rows(
    session: Session, document: dict[str, Any], rows: str, out: Path | None, show: Callable[[Console, Any], None]
) -> None:
    """Write the rows to the file asked for; without one they are part of the document."""
    document["out"] = out
    if out is not None:
        export(session, document[rows], out, rows)
        if session.as_json:
            del document[rows]
    session.hand_over(document, show)


def export(session: Session, rows: Any, out: Path, what: str) -> None:
    """Write rows to a file, and down that they were."""
    write_table(rows, out)
    session.ledger.record(session.user, "exported", what, at=session.now, rows=len(rows), file=out.name)
