"""One run of the command line: its workspace, how it speaks, and how it ends when something goes wrong."""

import contextlib
import errno
import getpass
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import typer
from rich import progress as bars
from rich.console import Console

from crm.errors import DealcastError, Detail
from dealcast.connections import find_secret
from dealcast.documents import error_document, render_document
from dealcast.settings import Settings, read_settings
from ledger.errors import LedgerError, Trouble
from ledger.ledger import Ledger, open_ledger

BUG, USAGE = 1, 2
STDOUT, STDERR = 1, 2
INTERRUPTED = 130
Progress = Callable[[str, float], None]
"""Called with the name of the step at hand and how much of the whole is done, 0..1."""


@dataclass
class Session:
    """Where this run works, when it runs, and how it speaks: documents or words on stdout, progress on stderr."""

    workspace: Path
    as_json: bool
    now: pd.Timestamp = field(default_factory=lambda: pd.Timestamp.now("UTC").as_unit("us"))

    @cached_property
    def settings(self) -> Settings:
        """The workspace's settings."""
        return read_settings(self.workspace)

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger, opened (and brought up to date) the first time it is asked for."""
        return open_ledger(self.settings.ledger_url)

    @property
    def user(self) -> str:
        """Who runs this, for the record of promotions."""
        try:
            return getpass.getuser()
        except (KeyError, OSError):
            return "unknown"

    def serve(self, host: str | None = None, port: int | None = None, *, workers: int | None = None) -> None:
        """Serve the workspace until interrupted; what servers like to say goes to standard error."""
        from serving.service import run_service

        at, on = host or self.settings.host, port or self.settings.port
        with output_to_stderr():
            run_service(
                self.workspace,
                host=at,
                port=on,
                workers=workers or self.settings.workers,
                ledger_url=self.settings.ledger_url,
                access=self.settings.access,
                client_secret=find_secret(self.workspace, "oidc", "client_secret"),
                hubspot_secret=find_secret(self.workspace, "hubspot", "client_secret"),
            )

    def hand_over(self, document: Any, show: Callable[[Console, Any], None]) -> None:
        """Print the result: the document under `--json`, else what `show` makes of it."""
        if self.as_json:
            sys.stdout.write(render_document(document))
            sys.stdout.flush()
        else:
            show(human_console(), document)


@contextlib.contextmanager
def output_to_stderr() -> Iterator[None]:
    """Whatever this process and those it starts print on standard output goes to standard error meanwhile."""
    sys.stdout.flush()
    kept = os.dup(STDOUT)
    os.dup2(STDERR, STDOUT)
    try:
        yield
    finally:
        os.dup2(kept, STDOUT)
        os.close(kept)


def human_console() -> Console:
    """Where results are shown; wide enough for tables when nobody's terminal says otherwise."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=140)


@contextlib.contextmanager
def progress_of(what: str) -> Iterator[Progress]:
    """Progress of one piece of work on standard error: a bar on a terminal, else a line for each new step."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        said: list[str] = []

        def tell(step: str, _fraction: float) -> None:
            if said[-1:] != [step]:
                said.append(step)
                sys.stderr.write(f"{what}: {step}\n")

        yield tell
        return
    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.TimeElapsedColumn())
    with bars.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda step, fraction: bar.update(task, description=f"{what}: {step}", completed=fraction)


def run(command: Callable[[], object], arguments: Sequence[str]) -> int:
    """Run a command and return its exit code; what goes wrong is told once, a bug's traceback goes to a file.

    Parameters
    ----------
    arguments : as typed; `--json` among them asks for failures as documents on standard output.
    """
    as_json = "--json" in arguments
    try:
        returned = command()
        return returned if isinstance(returned, int) else 0
    except typer.Exit as ended:
        return ended.exit_code
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("Interrupted; nothing half-done was kept.\n")
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # whoever read us has left: nothing more to say
        return 0
    except (DealcastError, LedgerError) as failure:
        return _tell(as_json, failure.exit_code, failure.code, failure.message, failure.details)
    except typer.TyperException as misuse:
        return _tell(as_json, USAGE, "invalid", *_explained(misuse, arguments))
    except Exception as failure:
        if isinstance(failure, OSError) and failure.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC):
            detail = Detail(
                str(failure.filename), None, str(failure.strerror), "Make room, or allow it, and run this again."
            )
            return _tell(
                as_json, USAGE, "invalid", f"{failure.filename} cannot be used: {failure.strerror}.", (detail,)
            )
        message = (
            f"This is a bug in dealcast: {type(failure).__name__}. The traceback is in {_keep_traceback(arguments)}"
        )
        return _tell(as_json, BUG, "internal", message, ())


def _explained(misuse: typer.TyperException, arguments: Sequence[str]) -> tuple[str, tuple[Detail, ...]]:
    """What was typed wrongly, in our shape."""
    message = misuse.format_message().strip()
    late = [option for option in ("--json", "--workspace") if f"No such option: {option}" in message]
    if late:
        rule = "options that hold for every command stand before the command"
        return message, (Detail("command line", late[0], rule, f"dealcast {late[0]} … COMMAND …"),)
    context = getattr(misuse, "ctx", None)
    path = context.command_path if context else "dealcast"
    if not message or message.startswith("Usage:"):
        message = "A command is missing."
    return message, (
        Detail("command line", " ".join(arguments), f"{path} --help tells what is understood", "See --help."),
    )


def _tell(as_json: bool, exit_code: int, code: str, message: str, details: tuple[Detail | Trouble, ...]) -> int:
    if as_json:
        sys.stdout.write(render_document(error_document(code, message, details)))
        return exit_code
    lines = [f"Error: {message}"]
    for detail in details:
        value = "" if detail.value is None else f" {detail.value!r}"
        lines.append(f"  {detail.where}:{value} — the rule: {detail.rule}\n    next: {detail.next_step}")
    sys.stderr.write("\n".join(lines) + "\n")
    return exit_code


def _keep_traceback(arguments: Sequence[str]) -> Path:
    """Write the traceback into the workspace, or beside other temporary files if that is impossible."""
    named = [after for before, after in pairwise(arguments) if before == "--workspace"]
    workspace = Path((named or [os.environ.get("DEALCAST_WORKSPACE", "workspace")])[0])
    name = f"bug-{pd.Timestamp.now('UTC'):%Y%m%dT%H%M%S}.log"
    for folder in (workspace / "logs", Path(tempfile.gettempdir()) / "dealcast"):
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(traceback.format_exc(), "utf-8")
            return folder / name
    return Path("(nowhere: no folder can be written)")
