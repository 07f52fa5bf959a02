"""Commands on the service: its keys, who did what, serve, and what is wrong with all of it."""

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from dealcast.display import Document, show_pairs, table, text
from dealcast.session import Session

app = typer.Typer()
keys = typer.Typer(help="API keys of the service.", no_args_is_help=True)
app.add_typer(keys, name="keys")


@keys.command(name="create")
def keys_create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who or what will use it.")],
    scope: Annotated[str, typer.Option("--scope", metavar="SCOPES", help="Of read,what_if,events,calls,panel,admin.")],
    user: Annotated[
        str | None, typer.Option("--user", metavar="USER_ID", help="It sees what this user may see; none: everything.")
    ] = None,
) -> None:
    """Make an API key; it is shown this once."""
    from dealcast import keys as api_keys

    session: Session = context.obj
    session.hand_over(api_keys.create(session, name, scope.split(","), user), show_new_key)


@keys.command(name="list")
def keys_list(context: typer.Context) -> None:
    """Every key, without its secret."""
    from dealcast import keys as api_keys

    session: Session = context.obj
    session.hand_over(api_keys.list_all(session), show_keys)


@keys.command(name="revoke")
def keys_revoke(context: typer.Context, key: Annotated[str, typer.Argument(metavar="KEY_ID|NAME")]) -> None:
    """End a key at once."""
    from dealcast import keys as api_keys

    session: Session = context.obj
    session.hand_over(api_keys.revoke(session, key), show_pairs)


@app.command()
def audit(
    context: typer.Context,
    last: Annotated[int, typer.Option("--last", metavar="N", min=1, help="So many of the newest entries.")] = 100,
) -> None:
    """Who did what when: keys, sign-ins, refusals, promotions, exports."""
    session: Session = context.obj
    session.hand_over({"entries": session.ledger.recorded(last)}, show_audit)


@app.command()
def serve(
    context: typer.Context,
    host: Annotated[
        str | None, typer.Option("--host", metavar="HOST", help="By default 127.0.0.1, or settings.toml's.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", metavar="PORT", min=1, max=65535, help="By default 3000.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", min=1, help="Processes that answer, by default 1.")
    ] = None,
) -> None:
    """Serve scores and forecasts over HTTP."""
    session: Session = context.obj
    session.serve(host, port, workers=workers)


@app.command()
def doctor(context: typer.Context) -> None:
    """What is installed, configured and reachable, and what is wrong."""
    from dealcast.doctor import examine

    session: Session = context.obj
    diagnosis = examine(session)
    session.hand_over(diagnosis.document, show_diagnosis)
    raise typer.Exit(diagnosis.exit_code)


def show_new_key(console: Console, document: Document) -> None:
    """A new key: the one time its secret is shown."""
    console.print(f"[bold]{document['key']}[/]\nKeep it: it is not shown again.", soft_wrap=True)
    show_pairs(console, {name: document[name] for name in ("key_id", "name", "scopes", "user", "expires_at")})


def show_keys(console: Console, document: Document) -> None:
    """Keys without secrets."""
    columns = ("key_id", "name", "scopes", "user", "created_at", "expires_at", "revoked_at")
    rows = [
        [", ".join(key["scopes"]) if column == "scopes" else text(key[column]) for column in columns]
        for key in document["keys"]
    ]
    table(console, columns, rows)


def show_audit(console: Console, document: Document) -> None:
    """Who did what when."""
    columns = ("at", "who", "action", "about", "details")
    rows = [
        [
            ", ".join(f"{name} {text(value)}" for name, value in entry[column].items())
            if column == "details"
            else text(entry[column])
            for column in columns
        ]
        for entry in document["entries"]
    ]
    table(console, columns, rows)


def show_diagnosis(console: Console, document: Document) -> None:
    """What is well and what is not, with the next step."""
    rows = [
        (
            "[green]ok[/]" if each["ok"] else "[red]wrong[/]",
            each["name"],
            escape(each["detail"]),
            each["next_step"] or "",
        )
        for each in document["checks"]
    ]
    table(console, ("", "what", "found", "next step"), rows)
