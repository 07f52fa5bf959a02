"""`dealcast map`: a proposed mapping file, shown or written for review."""

from pathlib import Path
from typing import Any

from rich.console import Console

from crm.errors import Detail, UsageError
from crm.mapping_proposal import propose_mapping


def propose(folder: Path, out: Path | None) -> dict[str, Any]:
    """Propose a mapping for a folder and write it where asked: the `map` document.

    Raises
    ------
    UsageError : not a folder, or `out` is there already (it may have been edited) or cannot be written.
    DataUnusable : the folder holds no table that can be read.
    """
    if out is not None and out.exists():
        detail = Detail("--out", str(out), "a file that is there is not written over", "Choose another name.")
        raise UsageError(f"{out} is there already.", detail)
    proposal = propose_mapping(folder)
    if out is not None:
        try:
            out.write_text(proposal.text, "utf-8")
        except OSError as failure:
            detail = Detail("--out", str(out), f"the file can be written ({failure.strerror})", "Choose another place.")
            raise UsageError(f"{out} cannot be written.", detail) from None
    return {"shape": proposal.shape, "to_do": proposal.to_do, "out": out, "mapping": proposal.text}


def show_proposal(console: Console, document: dict[str, Any]) -> None:
    """The proposal itself, or where it was written and what is left to do."""
    if document["out"] is None:
        console.out(document["mapping"], end="", highlight=False)
        return
    known = f"recognised as {document['shape']}" if document["shape"] else "guessed from names and values"
    console.print(f"{document['out']}: {known}; {document['to_do']} places to fill in. Review it, then import with it.")
