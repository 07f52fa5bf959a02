"""The workspace's settings: `settings.toml` and the environment, read once, with every mistake explained."""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from crm.errors import Detail, UsageError
from ledger.database import parse_url
from models.holdout import Holdout
from serving.access import LISTED, Access, Oidc, is_safe

FILE = "settings.toml"
ADDRESS = re.compile(r"https?://[A-Za-z0-9*.\[\]:-]+")
KNOWN: dict[str, dict[str, type]] = {
    "ledger": {"url": str},
    "service": {"host": str, "port": int, "workers": int, "public_url": str},
    "authority": dict.fromkeys(LISTED, list),
    "holdout": {"share": float, "key": str, "since": str},
    "oidc": {
        "issuer": str,
        "client_id": str,
        "audience": str,
        "groups_claim": str,
        **dict.fromkeys(("admin_groups", "revops_groups", "executive_groups"), list),
    },
    "panel": {"frame_ancestors": list},
    "limits": {"requests_per_minute": int, "failures_per_minute": int},
    "calls": {"blind_calls": bool},
}
KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number with a point, such as 0.2",
    str: "a text",
    list: "a list of texts",
}
TEMPLATE = """\
# Settings of this dealcast workspace. Everything is optional; what stands here is the default.

[ledger]
# Scores, forecasts and keys. PostgreSQL: "postgresql+psycopg://user:password@host/database",
# better given as the environment variable DEALCAST_LEDGER_URL, which wins over this file.
# url = "sqlite:///WORKSPACE/dealcast.db"

[service]
# host = "127.0.0.1"
# port = 3000
# workers = 1    # processes that answer; each keeps all scores in memory
# Where browsers reach it, if not there: "https://dealcast.example.com".
# public_url = ""

[authority]
# Who sees the whole company: the e-mail with which somebody signs in, or the user_id that a key is made for.
# executives = []
# revops = []
# admins = []

[holdout]
# A share of teams, drawn at random, whose deals' scores nobody sees, so that what scores do can be measured
# (docs/holdout.md). Another key draws other teams.
# share = 0.0
# key = ""
# since = "YYYY-MM-DD"

# [oidc]
# People sign in with the company's identity provider. Its secret, if it has one: DEALCAST_OIDC_CLIENT_SECRET.
# issuer = "https://login.example.com"
# client_id = "dealcast"
# audience = "dealcast"
# groups_claim = "groups"
# admin_groups = []
# revops_groups = []
# executive_groups = []

[panel]
# The CRM's addresses, which may show a deal's panel in a frame: "https://crm.example.com".
# frame_ancestors = []

[limits]
# Of one key, by each process that serves (0: any number), and of one address with wrong keys.
# requests_per_minute = 60000
# failures_per_minute = 30

[calls]
# blind_calls = false    # true: who may call sees the model's number only after calling for the period
"""


@dataclass(frozen=True)
class Settings:
    """Where things are and where the service listens. `ledger_url` may hold a password and is never shown."""

    workspace: Path
    ledger_url: str = field(repr=False)
    host: str = "127.0.0.1"
    port: int = 3000
    workers: int = 1
    access: Access = field(default_factory=Access)

    @property
    def ledger_shown(self) -> str:
        """The ledger's address without its password."""
        return parse_url(self.ledger_url).render_as_string(hide_password=True)


def read_settings(workspace: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read `settings.toml` of a workspace (absent: all defaults) under the environment.

    Raises
    ------
    UsageError : not TOML, an unknown section or key, or a value of the wrong type.
    """
    stored = _parse(workspace / FILE)
    wrong = list(_wrong_keys(stored, workspace / FILE))
    if wrong:
        raise UsageError(f"{workspace / FILE} has settings that are not understood.", *wrong)
    url = environ.get("DEALCAST_LEDGER_URL") or stored.get("ledger", {}).get("url")
    url = url or f"sqlite:///{(workspace / 'dealcast.db').resolve()}"
    listening = {
        name: value for name, value in stored.get("service", {}).items() if name in ("host", "port", "workers")
    }
    return Settings(workspace, url, **listening, access=_access(stored))


def _access(stored: Mapping[str, Any]) -> Access:
    given = {
        name: value
        for section in ("authority", "calls", "panel", "limits")
        for name, value in stored.get(section, {}).items()
    }
    oidc = Oidc(**_frozen(stored["oidc"])) if "oidc" in stored else None
    public_url = stored.get("service", {}).get("public_url", "").rstrip("/")
    return Access(**_frozen(given), oidc=oidc, public_url=public_url, holdout=_holdout(stored))


def _frozen(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _holdout(stored: Mapping[str, Any]) -> Holdout:
    holdout = Holdout(**stored.get("holdout", {}))
    wrong = []
    if not 0 <= holdout.share < 1:
        wrong.append(Detail("[holdout] share", str(holdout.share), "0 or more, below 1", "correct the value"))
    try:
        date.fromisoformat(holdout.since or "2026-01-01")
    except ValueError:
        wrong.append(Detail("[holdout] since", holdout.since, "a day, YYYY-MM-DD", "correct the value"))
    if wrong:
        raise UsageError("The holdout cannot be used.", *wrong)
    return holdout


def _parse(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as wrong:
        detail = Detail(str(path), None, f"valid TOML ({wrong})", "correct that line")
        raise UsageError(f"{path} cannot be read.", detail) from None


def _wrong_keys(stored: Mapping[str, Any], path: Path) -> Iterator[Detail]:
    for section, entries in stored.items():
        if section not in KNOWN or not isinstance(entries, dict):
            yield _unknown(f"{path}, [{section}]", section, KNOWN)
            continue
        for key, value in entries.items():
            where, kind = f"{path}, [{section}] {key}", KNOWN[section].get(key)
            if kind is None:
                yield _unknown(where, key, KNOWN[section])
            elif type(value) is not kind or (
                isinstance(value, list) and not all(isinstance(each, str) for each in value)
            ):
                yield Detail(where, None if key == "url" else str(value), KINDS[kind], "correct the value")
            elif trouble := _trouble(key, value):
                yield Detail(where, str(value), *trouble)
    if isinstance(stored.get("oidc"), dict):
        for key in ("issuer", "client_id"):
            if not stored["oidc"].get(key):
                yield Detail(
                    f"{path}, [oidc] {key}", None, "a text: the identity provider's", "add it, or remove [oidc]"
                )


def _trouble(key: str, value: Any) -> tuple[str, str] | None:
    """The rule that a value breaks, and the next step."""
    if key == "port" and value not in range(1, 65536):
        return "a port from 1 to 65535", "choose a free port"
    if key == "workers" and value not in range(1, 257):
        return "1 to 256 processes", "one for each processor is enough"
    if key == "issuer" and not is_safe(value):
        return "https://HOST…, as its tokens name it (http on this machine alone)", "correct the address"
    if key == "public_url" and value and not ADDRESS.fullmatch(value.rstrip("/")):
        return "http://HOST or https://HOST, with a port if need be", "correct the address"
    if key == "frame_ancestors" and not all(ADDRESS.fullmatch(each) for each in value):
        return "addresses such as https://crm.example.com, without a path", "correct the address"
    if key == "requests_per_minute" and value < 0:
        return "0 (any number) or more", "choose a number"
    if key == "failures_per_minute" and value < 1:
        return "1 or more", "choose a number"
    return None


def _unknown(where: str, name: str, known: Mapping[str, object]) -> Detail:
    near = difflib.get_close_matches(name, known, 1)
    step = f"did you mean {near[0]}?" if near else "remove it"
    return Detail(where, name, f"one of {', '.join(known)}", step)
