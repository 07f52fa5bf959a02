"""Connections to CRMs: one file each in the workspace, checked on every reading; secrets are kept apart from them."""

import difflib
import json
import math
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from crm.connectors.base import Connector, ConnectorSettings
from crm.connectors.catalogue import CONNECTORS
from crm.connectors.landing import FOLDER
from crm.errors import Detail, UsageError

SECRETS = "secrets.toml"
SECRET_WORDS = {"password", "secret", "token", "key", *(settings.secret for settings in CONNECTORS.values())}
LEAST_CHANGE = "least_change_points"
NEXT_CONNECT = "dealcast connect NAME KEY=VALUE …; docs/crm.md has examples"


@dataclass(frozen=True)
class Connection:
    """A CRM this workspace is connected to.

    Attributes
    ----------
    settings : the connector's own.
    least_change_points : a score is written again when it differs by so many points (0..100) from the one written last.
    """

    name: str
    settings: ConnectorSettings
    least_change_points: float = 1.0

    def to_toml(self) -> str:
        """The connection as its file holds it."""
        written = {**asdict(self.settings), LEAST_CHANGE: self.least_change_points}
        lines = (f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in written.items())
        return "\n".join([f"# Written by `dealcast connect {self.name}`. Secrets do not belong here.", *lines, ""])


@contextmanager
def opened(workspace: Path, connection: Connection) -> Iterator[Connector]:
    """The connection, open, with its secret; closed afterwards."""
    connector = connection.settings.open(read_secret(workspace, connection.name))
    try:
        yield connector
    finally:
        connector.close()


def path_of(workspace: Path, name: str) -> Path:
    """The file of a connection."""
    return workspace / FOLDER / f"{name}.toml"


def made_in(workspace: Path) -> list[str]:
    """The names of the connections of a workspace."""
    return [known for known in CONNECTORS if path_of(workspace, known).exists()]


def read_connection(workspace: Path, name: str | None) -> Connection:
    """The connection of this name; None: the only one there is.

    Raises
    ------
    UsageError
        If there is none, or several and no name, or its file holds what is not understood.
    """
    made = made_in(workspace)
    if name is None and len(made) == 1:
        name = made[0]
    if name is None or (name in CONNECTORS and name not in made):
        rule = f"one of the connections made: {', '.join(made) or 'none'}"
        raise UsageError("Which CRM?", Detail("NAME", name, rule, "Name it." if made else NEXT_CONNECT))
    path = path_of(workspace, _known(name))
    return make_connection(name, _read_toml(path, "Correct the line, or remove the file and connect again."), str(path))


def write_connection(workspace: Path, connection: Connection) -> Path:
    """Keep a connection, replacing the one of this name; returns its file."""
    path = path_of(workspace, connection.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(connection.to_toml(), "utf-8")
    os.replace(draft, path)
    return path


def asked_connection(workspace: Path, name: str, given: Sequence[str]) -> Connection:
    """A connection from KEY=VALUE words, over what its file holds already.

    Raises
    ------
    UsageError
        If the connector does not exist, a word is not understood, or a secret is among them.
    """
    path = path_of(workspace, _known(name))
    before = _read_toml(path, "Correct the line, or remove the file and connect again.") if path.exists() else {}
    words: dict[str, Any] = {}
    for word in given:
        key, equals, value = word.partition("=")
        if not equals:
            detail = Detail(
                "command line", word, "KEY=VALUE, without spaces", "For example url=https://crm.example.com"
            )
            raise UsageError(f"{word!r} is no setting.", detail)
        words[key] = value
    return make_connection(name, {**before, **words}, "command line")


def make_connection(name: str, stored: Mapping[str, Any], where: str) -> Connection:
    """A connection from keys and values; texts stand for numbers too.

    Raises
    ------
    UsageError
        If a key is missing or unknown, a value of the wrong kind, or a secret is among them.
    """
    settings = CONNECTORS[_known(name)]
    kinds: dict[str, Any] = {each.name: each.type for each in fields(settings)} | {LEAST_CHANGE: float}
    needed = [each.name for each in fields(settings) if each.default is MISSING]
    details = [
        Detail(where, key, "the connector cannot do without it", f"Say {key}=…") for key in needed if key not in stored
    ]
    values = {}
    for key, value in stored.items():
        if key not in kinds:
            details.append(_unknown(where, key, kinds))
            continue
        try:
            values[key] = kinds[key](value)
            if isinstance(values[key], float) and not math.isfinite(values[key]):
                raise ValueError(value)
        except ValueError:
            details.append(Detail(f"{where}, {key}", str(value), "a number", "Correct the value."))
    if not details and "url" in values and (trouble := _url_trouble(where, values["url"])):
        details.append(trouble)
    if not details and values.get(LEAST_CHANGE, 0.0) < 0:
        details.append(Detail(f"{where}, {LEAST_CHANGE}", str(values[LEAST_CHANGE]), "0 or more", "Correct the value."))
    if details:
        raise UsageError(f"The connection {name} is not complete.", *details)
    least = values.pop(LEAST_CHANGE, 1.0)
    return Connection(name, settings(**values), least)


def read_secret(workspace: Path, name: str, environ: Mapping[str, str] = os.environ) -> str:
    """The secret of a connection: from the environment, else from `secrets.toml`, which only its owner may read.

    Raises
    ------
    UsageError
        If there is none and there must be, or others may read the file.
    """
    word = CONNECTORS[name].secret
    secret = find_secret(workspace, name, word, environ)
    if secret or not CONNECTORS[name].needs_secret:
        return secret
    said = word.replace("_", " ")
    rule = f"the {said} stands in {_variable(name, word)} or, as `{word}` under [{name}], in {workspace / SECRETS}"
    raise UsageError(f"No {said} for {name}.", Detail("secret", None, rule, f"Set {_variable(name, word)}."))


def find_secret(workspace: Path, name: str, word: str, environ: Mapping[str, str] = os.environ) -> str:
    """A secret from the environment, else from `secrets.toml`; empty where neither has it.

    Raises
    ------
    UsageError
        If others may read the file.
    """
    if given := environ.get(_variable(name, word)):
        return given
    path = workspace / SECRETS
    if not path.exists():
        return ""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        detail = Detail(str(path), f"{mode:04o}", "only its owner may read it (0600)", f"chmod 600 {path}")
        raise UsageError("Others can read the secrets.", detail)
    section = _read_toml(path, f'Two lines: [{name}] and {word} = "…"').get(name)
    secret = section.get(word) if isinstance(section, dict) else None
    return secret if isinstance(secret, str) else ""


def _variable(name: str, word: str) -> str:
    return f"DEALCAST_{name}_{word}".upper()


def _read_toml(path: Path, next_step: str) -> dict[str, Any]:
    """A file's entries; what is wrong with it is told by its place alone, for it may hold a secret."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as wrong:
        raise UsageError(
            f"{path} cannot be read.", Detail(str(path), None, f"valid TOML ({wrong})", next_step)
        ) from None


def _known(name: str) -> str:
    if name in CONNECTORS:
        return name
    near = difflib.get_close_matches(name, CONNECTORS, 1)
    step = f"Did you mean {near[0]}?" if near else "Name one of them, or import an export (docs/importing.md)."
    raise UsageError(f"There is no connector {name}.", Detail("NAME", name, f"one of {', '.join(CONNECTORS)}", step))


def _unknown(where: str, key: str, kinds: Mapping[str, object]) -> Detail:
    if key in SECRET_WORDS:
        step = "Leave it out; docs/crm.md tells where it goes."
        return Detail(f"{where}, {key}", None, "secrets are kept apart from the connection", step)
    near = difflib.get_close_matches(key, kinds, 1)
    return Detail(where, key, f"one of {', '.join(kinds)}", f"Did you mean {near[0]}?" if near else "Leave it out.")


def _url_trouble(where: str, url: str) -> Detail | None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return Detail(f"{where}, url", url, "http://HOST or https://HOST", "Correct the address.")
    if parts.password or parts.username:
        return Detail(
            f"{where}, url", None, "no user or password in it", "Leave them out: user=…, and the secret apart."
        )
    return None
