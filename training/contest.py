"""Two models on the same snapshots, neither having known what became of them: for the gate and for `models compare`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crm.history import snapshot_spine
from crm.tables import CrmTables
from features.build import build_features
from features.catalogue import feature_set_hash
from models.bundle import Bundle
from models.scorer import days_to_period_end, deal_curves
from training.evaluate import Evaluation, PastFit
from training.gate import Contest
from training.labels import won_in_period
from training.metrics import Difference, log_losses, paired_difference, score_probabilities
from training.splits import snapshot_moments


@dataclass(frozen=True)
class Comparison:
    """Two models' metrics on the same snapshots, and the first's log loss minus the second's."""

    a: str
    b: str
    snapshots: int
    metrics: dict[str, dict[str, float | None]]
    log_loss: Difference | None

    def to_dict(self) -> dict[str, Any]:
        difference = {"log_loss": None if self.log_loss is None else self.log_loss.to_dict()}
        return {
            "a": self.a,
            "b": self.b,
            "snapshots": self.snapshots,
            "metrics": self.metrics,
            "difference": difference,
        }


def compare_bundles(tables: CrmTables, a: Bundle, b: Bundle, *, seed: int = 7) -> Comparison:
    """Compare two models on snapshots taken after both were trained, whose period has ended; each scores as it serves.

    Where there are none, or one of them was trained with other features and cannot score here, on those that the past
    fits of both were judged on; with none of these either, on nothing.
    """
    later = max(a.trained_as_of, b.trained_as_of)
    _, history = a.read_history(tables)
    moments = [at for at in snapshot_moments(history, tables.calendar, tables.as_of) if at >= later]
    moments = [at for at in moments if tables.calendar.period_of(at).end_at <= tables.as_of]
    spine = snapshot_spine(history, moments)
    if len(spine) and _has_our_features(a) and _has_our_features(b):
        ends = tables.calendar.period_frame(spine["as_of"])["end_at"]
        said = {name: score_period(bundle, tables, spine) for name, bundle in (("a", a), ("b", b))}
        both = spine.assign(won=won_in_period(history, spine, ends), **said).dropna(subset=["won"])
    else:
        both = _judged_by_both(a.judged, b.judged)
    won = both["won"].to_numpy()
    metrics = {name: score_probabilities(both[name].to_numpy(), won) for name in ("a", "b")}
    first, second = (log_losses(both[name].to_numpy(), won) for name in ("a", "b"))
    difference = paired_difference(first, second, both["deal_id"].to_numpy(), seed=seed) if len(both) else None
    return Comparison(a.model_version, b.model_version, len(both), metrics, difference)


def contest_champion(
    champion: Bundle, tables: CrmTables, evaluation: Evaluation, fits: Sequence[PastFit], served: str
) -> Contest | None:
    """How a candidate's past fits did beside the champion.

    On the snapshots of the fits made when the champion was trained or later, the champion scores them itself: neither
    knew what came, and the candidate's fit is not the older one. Where there are none, on the snapshots that the past
    fits of both were judged on. None if there are no common ones either.

    Parameters
    ----------
    served : the column of `evaluation.judged` that stands for the candidate: model, or the baseline that serves.
    """
    starts = [fit.fitted_at for fit in fits if fit.fitted_at >= champion.trained_as_of]
    judged = evaluation.judged.rename(columns={served: "candidate"})
    later = judged[judged["as_of"] >= starts[0]] if starts else judged.iloc[:0]
    if len(later) and _has_our_features(champion):
        both = later.assign(champion=score_period(champion, tables, later[["deal_id", "as_of"]]))
    else:
        both = _judged_by_both(judged.rename(columns={"candidate": "served"}), champion.judged)
        both = both.rename(columns={"a": "candidate", "b": "champion"})
    if both.empty:
        return None
    won = both["won"].to_numpy()
    losses = {name: float(log_losses(both[name].to_numpy(), won).mean()) for name in ("candidate", "champion")}
    return Contest(**losses, snapshots=len(both))


def score_period(bundle: Bundle, tables: CrmTables, spine: pd.DataFrame) -> NDArray[np.float64]:
    """What a bundle says of each snapshot's chance to be won in its period."""
    seen, history = bundle.read_history(tables)
    spine = spine[["deal_id", "as_of"]].reset_index(drop=True)
    curves = deal_curves(bundle, build_features(seen, history, spine), tables.calendar)
    return curves.probability_by(days_to_period_end(spine["as_of"], tables.calendar)).won


def _has_our_features(bundle: Bundle) -> bool:
    """Whether a bundle means by its features what this installation means."""
    return bool(bundle.manifest["feature_set_hash"] == feature_set_hash())


def _judged_by_both(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """deal_id, as_of, won, a, b: snapshots that stand in both."""
    columns = ["deal_id", "as_of", "won", "served"]
    merged = a[columns].merge(b[["deal_id", "as_of", "served"]], on=["deal_id", "as_of"], suffixes=("_a", "_b"))
    return merged.rename(columns={"served_a": "a", "served_b": "b"})
