"""What tests of the service share: where things are, waiting for them, another model, one request."""

import json
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pandas as pd

from models.bundle import read_bundle, write_bundle
from models.bundle_store import bundles_folder, read_champion

NOW = pd.Timestamp("2026-01-05 09:00", tz="UTC")


def url_of(workspace: Path) -> str:
    return f"sqlite:///{workspace}/dealcast.db"


def until(condition, seconds=60.0):
    """The first true value of a condition, asked again and again."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return value


def another_model(workspace: Path, **card: object) -> str:
    """A second bundle, told from the champion by its card alone."""
    bundle = read_bundle(bundles_folder(workspace) / read_champion(workspace))
    kept = {key: value for key, value in bundle.manifest.items() if key not in ("model_version", "files")}
    return write_bundle(workspace, replace(bundle, manifest={**kept, **card})).model_version


def fetch(url: str, *, body: object = None, key: str | None = None):
    """Status and JSON (or text) of one request; None where nobody listens yet."""
    headers = {"content-type": "application/json"} | ({"x-api-key": key} if key else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
            status, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as failure:
        status, text = failure.code, failure.read().decode()
    except OSError:
        return None
    return status, json.loads(text) if text.startswith("{") else text
