"""Where bundles lie and which one is the champion: text files with their sha256, replaced atomically, never edited.

bundles/<model_version>/manifest.json ...   bundles/CHAMPION   bundles/registered.jsonl   bundles/promotions.jsonl
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pandas as pd

from crm.errors import DataUnusable, Detail, NoModel

MANIFEST = "manifest.json"
ROLLBACK = "rollback"
"""The reason of a promotion that goes one step back; any other one goes forward, also to a model that served before."""
LONG_TEXT = 2000
"""Texts longer than this (boosters) get a file of their own beside the part they belong to."""
_BEFORE_ALL = pd.Timestamp(0, tz="UTC")


@dataclass(frozen=True)
class Promotion:
    """One move of the champion: from which model version to which, by whom, when and why."""

    champion: str
    previous: str | None
    by: str
    at: str
    reason: str

    def to_dict(self) -> dict[str, str | None]:
        return asdict(self)


def bundles_folder(workspace: Path) -> Path:
    """The folder of all bundles of a workspace."""
    return workspace / "bundles"


# -- one bundle on disk ----------------------------------------------------------------------------------------------


def part_files(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The text of every file of a bundle but the manifest: `<part>.json`, and long texts as `<part>.<path>.txt`."""
    files: dict[str, str] = {}
    for part, content in parts.items():
        shortened = _take_out_texts(content, part, files)
        files[f"{part}.json"] = json.dumps(shortened, indent=1, sort_keys=True) + "\n"
    return files


def write_bundle_files(
    workspace: Path, files: Mapping[str, str], manifest: Mapping[str, Any], *, trained_on: str
) -> tuple[Path, dict[str, Any]]:
    """Write a bundle's folder, all or nothing, under a name that follows from its content.

    Parameters
    ----------
    manifest : everything but model_version and files, which are added here.
    trained_on : the day of the training moment, YYYYMMDD, the readable half of the name.

    Returns
    -------
    The folder and the complete manifest. The same content is written to the same folder.
    """
    digests = {name: _sha256(text.encode()) for name, text in sorted(files.items())}
    model_version = f"{trained_on}-{_content_hash(manifest, digests)}"
    complete = {**manifest, "model_version": model_version, "files": digests}
    folder = bundles_folder(workspace) / model_version
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(mkdtemp(prefix=".unfinished-", dir=folder.parent))
    for name, text in files.items():
        (unfinished / name).write_bytes(text.encode())
    text = json.dumps(complete, indent=1, sort_keys=True, allow_nan=False) + "\n"
    (unfinished / MANIFEST).write_bytes(text.encode())
    unfinished.chmod(0o755)
    if _is_intact(folder):
        shutil.rmtree(unfinished)
        return folder, complete
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(unfinished, folder)
    return folder, complete


def read_manifest(folder: Path) -> dict[str, Any]:
    """A bundle's manifest.

    Raises
    ------
    NoModel
        If there is no such bundle.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
    except FileNotFoundError:
        rule = "a model version is a folder under bundles/ with a manifest.json"
        detail = Detail("bundles", folder.name, rule, "See `dealcast models list`, or train: `dealcast train`.")
        raise NoModel(f"There is no model {folder.name}.", detail) from None
    except ValueError:
        raise _tampered(folder, MANIFEST) from None
    return manifest


def read_parts(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Manifest and parts of a bundle, every file checked against its sha256.

    Raises
    ------
    NoModel
        If there is no such bundle.
    DataUnusable
        If a file is missing or is not the one that was written.
    """
    manifest = read_manifest(folder)
    texts: dict[str, str] = {}
    for name, digest in manifest["files"].items():
        path = folder / name
        content = path.read_bytes() if path.is_file() else b""
        if _sha256(content) != digest:
            raise _tampered(folder, name)
        texts[name] = content.decode()
    described = {key: value for key, value in manifest.items() if key not in ("model_version", "files")}
    if manifest["model_version"].rpartition("-")[2] != _content_hash(described, manifest["files"]):
        raise _tampered(folder, MANIFEST)
    parts = {name.removesuffix(".json"): json.loads(text) for name, text in texts.items() if name.endswith(".json")}
    return manifest, {part: _put_back_texts(content, texts) for part, content in parts.items()}


# -- which bundles there are, and which one serves ------------------------------------------------------------------


def register(workspace: Path, model_version: str, *, at: pd.Timestamp, run_id: str) -> None:
    """Note that a bundle was trained: later notes win ties between equal training moments."""
    _append(workspace, "registered.jsonl", {"model_version": model_version, "at": at.isoformat(), "run_id": run_id})


def list_bundles(workspace: Path) -> list[dict[str, Any]]:
    """The manifests of all bundles, by training moment, then by when they were last registered."""
    noted = [line["model_version"] for line in _lines(workspace, "registered.jsonl")]
    last_noted = {version: place for place, version in enumerate(noted)}
    folders = sorted(bundles_folder(workspace).glob(f"*/{MANIFEST}"))
    manifests = [read_manifest(path.parent) for path in folders if not path.parent.name.startswith(".")]
    return sorted(
        manifests,
        key=lambda each: (pd.Timestamp(each["trained_as_of"]), last_noted.get(each["model_version"], -1)),
    )


def read_champion(workspace: Path) -> str | None:
    """The model version that serves, or None."""
    path = bundles_folder(workspace) / "CHAMPION"
    return path.read_text("utf-8").strip() or None if path.is_file() else None


def set_champion(workspace: Path, model_version: str, *, by: str, reason: str, at: pd.Timestamp) -> Promotion:
    """Make a bundle the champion, in one atomic step, and note it.

    Raises
    ------
    NoModel
        If there is no such bundle.
    """
    read_manifest(bundles_folder(workspace) / model_version)
    promotion = Promotion(model_version, read_champion(workspace), by, at.isoformat(), reason)
    _append(workspace, "promotions.jsonl", promotion.to_dict())
    path = bundles_folder(workspace) / "CHAMPION"
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_text(model_version + "\n", "utf-8")
    os.replace(unfinished, path)
    return promotion


def list_promotions(workspace: Path) -> list[Promotion]:
    """Every move of the champion, oldest first."""
    return [Promotion(**line) for line in _lines(workspace, "promotions.jsonl")]


def find_challenger(workspace: Path) -> str | None:
    """The model that waits for the champion's place: the last one trained since the champion was promoted.

    None without a champion, and where no model was registered later or none is of a moment as late as the champion's.
    """
    champion = read_champion(workspace)
    if champion is None:
        return None
    promoted_at = max((pd.Timestamp(each.at) for each in list_promotions(workspace)), default=_BEFORE_ALL)
    registered = _lines(workspace, "registered.jsonl")
    since = {line["model_version"] for line in registered if pd.Timestamp(line["at"]) > promoted_at}
    bundles = list_bundles(workspace)
    reigning = next((each for each in bundles if each["model_version"] == champion), None)
    if reigning is None:
        return None
    waiting = [
        each["model_version"]
        for each in bundles
        if each["model_version"] in since - {champion}
        and pd.Timestamp(each["trained_as_of"]) >= pd.Timestamp(reigning["trained_as_of"])
    ]
    return waiting[-1] if waiting else None


def previous_champion(workspace: Path) -> str:
    """The champion before the present one, to roll back to; rolling back twice goes back two steps.

    Raises
    ------
    NoModel
        If there was none.
    """
    before: list[str] = []
    for promotion in list_promotions(workspace):
        if promotion.reason == ROLLBACK and before and before[-1] == promotion.champion:
            before.pop()
        elif promotion.previous not in (None, promotion.champion):
            before.append(promotion.previous)
    if not before:
        rule = "a rollback goes to the champion before this one"
        raise NoModel(
            "There is no earlier champion.",
            Detail(
                "bundles/promotions.jsonl", None, rule, "Promote a model by name: `dealcast models promote VERSION`."
            ),
        )
    return before[-1]


# -- inside ----------------------------------------------------------------------------------------------------------


def _take_out_texts(content: Any, path: str, files: dict[str, str]) -> Any:
    if isinstance(content, str) and len(content) > LONG_TEXT:
        files[f"{path}.txt"] = content
        return {"text_file": f"{path}.txt"}
    if isinstance(content, Mapping):
        return {str(key): _take_out_texts(value, f"{path}.{key}", files) for key, value in content.items()}
    if isinstance(content, list):
        return [_take_out_texts(value, f"{path}.{place}", files) for place, value in enumerate(content)]
    return content


def _put_back_texts(content: Any, texts: Mapping[str, str]) -> Any:
    if isinstance(content, dict):
        if set(content) == {"text_file"}:
            return texts[content["text_file"]]
        return {key: _put_back_texts(value, texts) for key, value in content.items()}
    if isinstance(content, list):
        return [_put_back_texts(value, texts) for value in content]
    return content


def _is_intact(folder: Path) -> bool:
    try:
        read_parts(folder)
    except (NoModel, DataUnusable):
        return False
    return True


def _content_hash(manifest: Mapping[str, Any], digests: Mapping[str, str]) -> str:
    described = json.dumps({"manifest": manifest, "files": digests}, sort_keys=True)
    return _sha256(described.encode())[:8]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _tampered(folder: Path, name: str) -> DataUnusable:
    rule = "every file of a bundle is exactly as it was written (sha256 in the manifest)"
    next_step = "Restore the folder from a backup, choose another model (`dealcast models list`), or train again."
    return DataUnusable(
        f"The model {folder.name} is damaged.", Detail(f"bundles/{folder.name}/{name}", None, rule, next_step)
    )


def _append(workspace: Path, name: str, line: Mapping[str, Any]) -> None:
    folder = bundles_folder(workspace)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("a", encoding="utf-8") as notes:
        notes.write(json.dumps(line) + "\n")


def _lines(workspace: Path, name: str) -> list[dict[str, Any]]:
    path = bundles_folder(workspace) / name
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []
