"""What the command line says of features: their declarations, what they are worth to the champion, and their drift."""

import difflib
from pathlib import Path
from typing import Any

from crm.errors import Detail, NotFound
from crm.history import open_deals
from crm.store import read_tables
from crm.versions import current_version
from dealcast.steps import view_at
from features.build import build_features
from features.catalogue import BY_NAME, CATALOGUE, catalogue_of
from features.spec import Feature
from models.bundle_store import bundles_folder, read_champion, read_manifest
from models.profile import Profile, find_feature_drift

SHOWN = (
    *("name", "family", "description", "unit", "kind", "higher_is", "controlled_by"),
    *("audience", "reason", "missing"),
)


def list_features(workspace: Path) -> dict[str, Any]:
    """The `features list` document: the catalogue, then the workspace's custom fields."""
    data = current_version(workspace)
    declared = CATALOGUE if data is None else catalogue_of(read_tables(workspace))
    worth = _worth(workspace)
    return {"features": [_document(feature, worth) for feature in declared]}


def show_feature(workspace: Path, name: str) -> dict[str, Any]:
    """The `features show` document.

    Raises
    ------
    NotFound : there is no feature of that name.
    """
    if name not in BY_NAME:
        near = difflib.get_close_matches(name, BY_NAME, 3)
        step = f"Did you mean {' or '.join(near)}?" if near else "See `dealcast features list`."
        raise NotFound(f"There is no feature {name}.", Detail("NAME", name, "a feature of the catalogue", step))
    return _document(BY_NAME[name], _worth(workspace))


def feature_drift(workspace: Path, as_of: str | None) -> dict[str, Any]:
    """The `features drift` document: how far the open deals' features are from those the model was trained on.

    Raises
    ------
    NoModel : there is no model for the moment.
    """
    view = view_at(workspace, as_of)
    spine = open_deals(view.history, view.moment.at)
    profiles = {name: Profile.from_dict(stored) for name, stored in view.bundle.manifest["profiles"].items()}
    features = build_features(view.tables, view.history, spine, names=list(profiles))
    drifts = find_feature_drift(profiles, features)
    return {
        "as_of": view.moment.at,
        "model_version": view.bundle.model_version,
        "data_version": view.tables.data_version,
        "deals": len(spine),
        "features": [drift.to_dict() for drift in drifts],
    }


def _worth(workspace: Path) -> dict[str, dict[str, Any]]:
    """The champion's word on its features; empty without a champion."""
    champion = read_champion(workspace)
    if champion is None:
        return {}
    return {each["name"]: each for each in read_manifest(bundles_folder(workspace) / champion)["features"]}


def _document(feature: Feature, worth: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A feature as declared, without its SQL; what the champion does not use has neither coverage nor importance."""
    its = worth.get(feature.name, {})
    declared = {name: getattr(feature, name) for name in SHOWN}
    return declared | {name: its.get(name) for name in ("known_share", "importance")}
