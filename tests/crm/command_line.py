"""`dealcast --json`, run in this process, its documents as Python has them."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from dealcast.cli import answer


class CommandLine:
    """`dealcast --json` on a workspace of the test's own."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace

    def __call__(self, *words: str, exits: int = 0) -> dict[str, Any]:
        """Run a command that ends with this exit code; its document."""
        with redirect_stdout(io.StringIO()) as said:
            code = answer(["--workspace", str(self.workspace), "--json", *words])
        assert code == exits, said.getvalue()
        return json.loads(said.getvalue())

    def connect(self, url: str, *settings: str) -> dict[str, Any]:
        """Connect to a Tryton, impatiently; as the administrator, unless the settings name another user."""
        where = ("user=admin", f"url={url}", "database=crm", "pause_seconds=0.01")
        return self("connect", "tryton", *where, *settings)
