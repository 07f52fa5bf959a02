"""Commands on the data: import them, propose a mapping, check them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from dealcast.display import Document, money, show_rows_read, table, text
from dealcast.session import Session, progress_of

app = typer.Typer()
COLOURS = {"error": "red", "warning": "yellow", "info": "blue"}


@app.command(name="import")
def import_(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The folder of tables, CSV or Parquet.")],
    mapping: Annotated[
        str | None,
        typer.Option("--mapping", metavar="FILE", help="How the tables are made of a CRM's own files and columns."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Rows absent from the export are deleted now.")] = False,
) -> None:
    """Load CRM tables; rows that cannot be read go to quarantine, with the reason."""
    from dealcast import steps

    session: Session = context.obj
    with progress_of("import") as progress:
        document = steps.import_tables(session, path, full=full, mapping=mapping, progress=progress)
    session.hand_over(document, show_import)


@app.command(name="map")
def map_(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The folder of a CRM's own files, CSV or Parquet.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the mapping to FILE (TOML).")] = None,
) -> None:
    """Propose a mapping file for a CRM's own export, to be reviewed; `import --mapping` reads by it."""
    from dealcast import mapping

    session: Session = context.obj
    session.hand_over(mapping.propose(path, out), mapping.show_proposal)


@app.command()
def check(context: typer.Context) -> None:
    """Data-quality findings, with the rows and the money they touch."""
    from dealcast import steps

    session: Session = context.obj
    session.hand_over(steps.check_tables(session), show_check)


def show_import(console: Console, document: Document) -> None:
    """What was read, what was refused, and what to look at."""
    state = "a new data version" if document["changed"] else "nothing new"
    console.print(
        f"Import {document['import_id']}: {state}, {document['data_version']}, as of {text(document['as_of'])}"
    )
    show_rows_read(console, document)
    for missing in document["switched_off"]:
        console.print(f"Switched off: {escape(missing['what'])}, because {escape(missing['because'])}")
    for note in document["mapping"]:
        console.print(f"Mapping, {escape(note['what'])}: {escape(note['because'])}")
    show_findings(console, document["findings"])


def show_check(console: Console, document: Document) -> None:
    """The findings, and which fields have a past."""
    console.print(f"Data version {document['data_version']}, as of {text(document['as_of'])}")
    fields = document["fields"].items()
    tracked = [name for name, known in fields if known["class"] == "tracked"]
    console.print(f"Fields with a complete past: {', '.join(tracked) or 'none'}")
    show_findings(console, document["findings"])


def show_findings(console: Console, findings: Sequence[Any]) -> None:
    """Findings, the worst first."""
    if not findings:
        console.print("No findings: nothing in these data looks wrong.")
        return
    rows = [
        (
            f"[{COLOURS[each.severity]}]{each.code} {each.severity}[/]",
            escape(each.title),
            f"{each.rows:,}",
            money(each.amount_base),
            escape(", ".join(each.examples[:2])),
            escape(each.next_step),
        )
        for each in findings
    ]
    table(console, ("finding", "what", "rows>", "money>", "such as", "next step"), rows)
