"""The models of a workspace: which there are, what each is worth, and which one serves."""

import difflib
from pathlib import Path
from typing import Any

import pandas as pd

from crm.errors import Detail, NoModel, NotFound, UsageError
from crm.store import read_tables
from dealcast.session import Session
from models.bundle import model_card, read_bundle
from models.bundle_store import (
    ROLLBACK,
    bundles_folder,
    list_bundles,
    previous_champion,
    read_champion,
    read_manifest,
    set_champion,
)
from models.holdout import Holdout, with_limit

CHAMPION = "champion"


def list_models(workspace: Path) -> dict[str, Any]:
    """The `models list` document, the latest training moment last."""
    aliases = _aliases(workspace)
    fields = ("model_version", "trained_as_of", "data_version", "metrics", "fallback")
    models = [
        {name: manifest[name] for name in fields}
        | {"aliases": [alias for alias, version in aliases.items() if version == manifest["model_version"]]}
        for manifest in list_bundles(workspace)
    ]
    return {"models": models}


def show_model(workspace: Path, version: str | None, holdout: Holdout | None = None) -> dict[str, Any]:
    """The card of a model, by default the champion's; a holdout is among its limits.

    Raises
    ------
    NoModel : there is no such model, or no champion.
    """
    version = version or read_champion(workspace)
    if version is None:
        step = "Train one: `dealcast train`, or name a model of `dealcast models list`."
        raise NoModel("There is no champion.", Detail("bundles/CHAMPION", None, "a champion serves", step))
    card = model_card(workspace, read_manifest(bundles_folder(workspace) / version))
    if holdout is not None and holdout.share:
        card = with_limit(card, holdout.announced(read_tables(workspace).get("users")))
    return {**card, "promoted_at": card["promoted_at"] and pd.Timestamp(card["promoted_at"])}


def compare(workspace: Path, a: str, b: str) -> dict[str, Any]:
    """The `models compare` document: both on snapshots that neither was trained on, and a's log loss less b's.

    Raises
    ------
    NotFound : there is no model of that name.
    UsageError : this installation cannot train, and so has nothing to judge with.
    """
    for version in (a, b):
        must_exist(workspace, version)
    try:
        from training.contest import compare_bundles
    except ModuleNotFoundError as missing:
        detail = Detail(
            "installation", missing.name, "judging needs the extra `train`", "pip install 'dealcast[train]'"
        )
        raise UsageError("This installation can score and serve, but not judge models.", detail) from None
    first, second = (read_bundle(bundles_folder(workspace) / version) for version in (a, b))
    return compare_bundles(read_tables(workspace), first, second).to_dict()


def must_exist(workspace: Path, version: str) -> None:
    """Refuse the name of a model that is not there, with the names it may have been meant for.

    Raises
    ------
    NotFound : there is no such model.
    """
    versions = [manifest["model_version"] for manifest in list_bundles(workspace)]
    if version not in versions:
        near = difflib.get_close_matches(version, versions, 3)
        step = f"Did you mean {' or '.join(near)}?" if near else "See `dealcast models list`."
        raise NotFound(f"There is no model {version}.", Detail("VERSION", version, "a model of this workspace", step))


def promote(session: Session, version: str, reason: str) -> dict[str, Any]:
    """Make a model the champion, here and in the registry."""
    ledger = session.ledger  # opened first: what is done is written down
    promotion = set_champion(session.workspace, version, by=session.user, reason=reason, at=session.now)
    ledger.record(session.user, "promoted", version, at=session.now, reason=reason)
    tracking = _tracking()
    if tracking:
        tracking.set_alias(session.workspace, CHAMPION, version)
    return {**promotion.to_dict(), "at": session.now}


def rollback(session: Session) -> dict[str, Any]:
    """Make the champion before this one the champion again."""
    return promote(session, previous_champion(session.workspace), ROLLBACK)


def _aliases(workspace: Path) -> dict[str, str]:
    """Model version by alias. What serves is decided in the bundles folder; the registry knows the challenger."""
    tracking = _tracking() if (workspace / "mlflow.db").exists() else None
    aliases = dict(tracking.read_aliases(workspace)) if tracking else {}
    champion = read_champion(workspace)
    return {**aliases, **({CHAMPION: champion} if champion else {})}


def _tracking() -> Any:
    """The registry; None in an installation that only serves."""
    try:
        from training import tracking
    except ModuleNotFoundError:
        return None
    return tracking
