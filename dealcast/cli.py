"""The command line, `dealcast [--workspace DIR] [--json] COMMAND …`: calls what does the work and shows the result."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from crm.errors import Detail, UsageError
from dealcast.commands import crms, data, features, forecasts, models, reviews, service
from dealcast.session import Session, run

# What a command needs beyond this is imported inside it: `dealcast --help` answers at once, serving needs no MLflow.

app = typer.Typer(
    name="dealcast",
    help="Win probabilities and quarter forecasts from CRM history, that can prove themselves.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def common(
    context: typer.Context,
    workspace: Annotated[
        Path, typer.Option("--workspace", envvar="DEALCAST_WORKSPACE", metavar="DIR", help="Where everything is kept.")
    ] = Path("workspace"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Win probabilities and quarter forecasts from CRM history, that can prove themselves."""
    if workspace.exists() and not workspace.is_dir():
        rule = "the workspace is a folder; it is made where there is none"
        raise UsageError(f"{workspace} is not a folder.", Detail("--workspace", str(workspace), rule, "Name a folder."))
    context.obj = Session(workspace, as_json)


@app.command()
def demo(
    context: typer.Context,
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Leave the service running at the end.")] = True,
) -> None:
    """A synthetic company from nothing to scores, a forecast and a running service."""
    from dealcast.demo import run_demo

    run_demo(context.obj, serve=serve)


for subject in (data, forecasts, reviews, crms, service):
    app.add_typer(subject.app)
app.add_typer(models.app, name="models")
app.add_typer(features.app, name="features")

RESERVED = ("kpis", "run", "backup", "restore")
"""Commands whose names are taken and whose work is not built yet."""


def reserve(name: str) -> None:
    """Take a command's name, whatever is written behind it."""

    @app.command(name=name, hidden=True, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
    def reserved(context: typer.Context) -> None:
        """Not built yet."""
        rule, step = "a later version brings it", "See `dealcast --help` for what there is."
        raise UsageError(f"{name} is not built yet.", Detail("command line", name, rule, step))


for each in RESERVED:
    reserve(each)


def answer(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    return run(lambda: app(args=list(arguments), prog_name="dealcast", standalone_mode=False), arguments)


def main() -> None:
    """The entry point."""
    sys.exit(answer(sys.argv[1:]))
