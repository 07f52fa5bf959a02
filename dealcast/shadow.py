"""Shadow scoring: what the challenger would have said, kept beside what the champion said and published nowhere.

shadow/log.jsonl has a line per scoring; shadow/<challenger>/<as_of>.csv has both models' probabilities by deal. They
are written before anything is known of the outcome, so they can be judged later by whoever likes to.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from crm.errors import DataUnusable, NoModel
from crm.history import open_deals
from crm.plain import to_plain
from crm.tables import CrmTables
from dealcast.documents import write_table
from features.catalogue import feature_set_hash
from models.bundle import Bundle, read_bundle
from models.bundle_store import bundles_folder, find_challenger
from models.scorer import score_deals

PROBABILITIES = ("win_probability", "period_win_probability")
FAR_POINTS = 10
"""Deals whose win_probability differs by more points are counted."""


def shadow_score(
    workspace: Path, tables: CrmTables, scores: pd.DataFrame, *, champion: str, as_of: pd.Timestamp, now: pd.Timestamp
) -> dict[str, Any] | None:
    """Score the same deals with the challenger and keep the difference; None if there is none that can score here.

    Parameters
    ----------
    scores : the champion's score rows of the deals open at `as_of`.

    Returns
    -------
    challenger, deals, mean_difference (challenger less champion, in points of win_probability), mean_distance (its
    absolute value), far_apart (deals more than 10 points apart), period_wins (expected number of deals won in the
    period: champion, challenger).
    """
    bundle = _challenger(workspace)
    if bundle is None or scores.empty:
        return None
    seen, history = bundle.read_history(tables)
    theirs = score_deals(bundle, seen, history, open_deals(history, as_of), explain=False)
    # Deals that the challenger's field classes leave out of the pipeline have nothing to be compared with.
    both = scores[["deal_id", *PROBABILITIES]].merge(
        theirs[["deal_id", *PROBABILITIES]], on="deal_id", suffixes=("_champion", "_challenger")
    )
    points = 100 * (both["win_probability_challenger"] - both["win_probability_champion"])
    summary = {
        "challenger": bundle.model_version,
        "deals": len(both),
        "mean_difference": float(points.mean()),
        "mean_distance": float(points.abs().mean()),
        "far_apart": int((points.abs() > FAR_POINTS).sum()),
        "period_wins": {who: float(both[f"period_win_probability_{who}"].sum()) for who in ("champion", "challenger")},
    }
    folder = workspace / "shadow" / bundle.model_version
    folder.mkdir(parents=True, exist_ok=True)
    write_table(both, folder / f"{as_of:%Y%m%dT%H%M%SZ}.csv")
    with (workspace / "shadow" / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps({"at": to_plain(now), "as_of": to_plain(as_of), "champion": champion, **summary}) + "\n")
    return summary


def _challenger(workspace: Path) -> Bundle | None:
    """The challenger, if it can be read and means by its features what this installation means."""
    version = find_challenger(workspace)
    if version is None:
        return None
    try:
        bundle = read_bundle(bundles_folder(workspace) / version)
    except (DataUnusable, NoModel):
        # A shadow is no reason for a score to fail.
        return None
    return bundle if bundle.manifest["feature_set_hash"] == feature_set_hash() else None
