"""Commands on the CRM: connect it, pull what changed, write scores back."""

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from dealcast.display import Document, show_pairs, show_rows_read, table, text
from dealcast.session import Session, progress_of

app = typer.Typer()


@app.command()
def connect(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="tryton, creme, salesforce, hubspot, dynamics or warehouse.")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Its settings; those given before stay.")
    ] = None,
) -> None:
    """Connect a CRM: its settings are kept in the workspace once it has answered; the secret is kept apart."""
    from dealcast import exchange

    session: Session = context.obj
    with progress_of("connect") as progress:
        document = exchange.connect(session, name, settings or [], progress=progress)
    session.hand_over(document, show_pairs)


@app.command()
def sync(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The connection, if there are several.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Fetch everything again, whatever was fetched before.")] = False,
) -> None:
    """Pull what changed in the CRM since the last time, and import it."""
    from dealcast import exchange

    session: Session = context.obj
    with progress_of("sync") as progress:
        document = exchange.sync(session, name, full=full, progress=progress)
    session.hand_over(document, show_sync)


@app.command()
def push(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The connection, if there are several.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on, and push whenever scores are published, until interrupted.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Also try what was refused so often that it is parked.")
    ] = False,
) -> None:
    """Write the published scores that changed back into the CRM."""
    from dealcast import exchange

    session: Session = context.obj
    with progress_of("push") as progress:
        documents = exchange.follow if follow else lambda *asked, **known: [exchange.push(*asked, **known)]
        for document in documents(session, name, again=again, progress=progress):
            session.hand_over(document, show_push)


def show_sync(console: Console, document: Document) -> None:
    """What a sync brought."""
    version, moment = document["data_version"], text(document["as_of"])
    console.print(f"Synced {document['connection']} in {document['api_calls']:,} calls: {version}, as of {moment}")
    show_rows_read(console, document)
    for note in document["notes"]:
        console.print(f"{escape(note['what'])}: {escape(note['because'])}")


def show_push(console: Console, document: Document) -> None:
    """What was written into the CRM, and what it refused."""
    withdrawn = f", withdrawn {document['withdrawn']:,}" if document["withdrawn"] else ""
    console.print(f"Written {document['written']:,}, unchanged {document['unchanged']:,}{withdrawn}")
    refused = [(each["deal_id"], escape(each["reason"])) for each in document["failed"]]
    if refused:
        table(console, ("deal", "refused, tried again by the next push"), refused)
    parked = [(each["deal_id"], escape(each["reason"])) for each in document["parked"]]
    if parked:
        table(console, ("deal", "parked, tried again only with --again"), parked)
