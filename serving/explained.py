"""Why a deal's score is not what it was: against the last one published a week before, or more."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from crm.errors import DealcastError
from crm.history import DealHistory
from crm.tables import CrmTables
from features.sources import FeatureSources
from ledger.ledger import Ledger
from models.bundle import Bundle, read_bundle
from models.bundle_store import bundles_folder
from models.changes import Change, EarlierScore, explain_change
from serving.state import CHANGE_DAYS


@dataclass(frozen=True)
class ChangeTold:
    """What is compared with, and what changed since, the strongest first; effects sum to the difference in points."""

    since: EarlierScore
    changes: list[Change]


def change_since_published(
    ledger: Ledger,
    workspace: Path,
    bundle: Bundle,
    tables: CrmTables,
    history: DealHistory,
    *,
    deal_id: str,
    as_of: pd.Timestamp,
    sources: FeatureSources | None = None,
    audiences: Sequence[str] = ("everyone", "chain"),
) -> ChangeTold | None:
    """What changed a score since it was last published for a moment `CHANGE_DAYS` before or more; None if it never was.

    Parameters are those of `explain_change`.
    """
    said = ledger.scores_published_before(as_of - pd.Timedelta(days=CHANGE_DAYS), [deal_id])
    if said.empty:
        return None
    version = str(said["model_version"].iloc[0])
    old = bundle if version == bundle.model_version else bundle_if_readable(workspace, version)
    earlier = EarlierScore(said["as_of"].iloc[0], float(said["win_probability"].iloc[0]), version, old)
    changes = explain_change(
        bundle, tables, history, earlier, deal_id=deal_id, as_of=as_of, sources=sources, audiences=audiences
    )
    return ChangeTold(earlier, changes)


def bundle_if_readable(workspace: Path, model_version: str) -> Bundle | None:
    """A model that once served, if it is still there and undamaged."""
    try:
        return read_bundle(bundles_folder(workspace) / model_version)
    except DealcastError:
        return None
