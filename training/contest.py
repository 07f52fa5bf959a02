"""Two models on the same snapshots, neither having known what became of them: for the gate and for `models compare`."""

from collections.abc import Mapping, Sequence
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
from training.gate import MODEL, Contest, find_objections
from training.labels import won_in_period
from training.metrics import log_losses, score_probabilities
from training.resampling import (
    SliceDifference,
    choose_slices,
    mean_difference,
    resample_sums,
    resampled_slope,
    slice_lower_bounds,
    slope_columns,
    week_of,
)
from training.splits import snapshot_moments

SLICED_BY = ("stage", "segment", "region", "deal_type", "pipeline")
SIZES = ("smallest quarter", "second quarter", "third quarter", "largest quarter")
UNKNOWN = "(unknown)"
SEED = 7


@dataclass(frozen=True)
class Comparison:
    """Two models' metrics on the same snapshots, and what the gate would make of the first if the second reigned."""

    a: str
    b: str
    metrics: dict[str, dict[str, float | None]]
    contest: Contest
    objections: tuple[str, ...]

    @property
    def snapshots(self) -> int:
        return self.contest.snapshots

    def to_dict(self) -> dict[str, Any]:
        facts = self.contest.to_dict()
        champion_slope = self.contest.champion_slope
        return {
            "a": self.a,
            "b": self.b,
            **{name: facts[name] for name in ("snapshots", "deals", "weeks", "margin")},
            "metrics": self.metrics,
            "difference": {"log_loss": facts["log_loss"]},
            "calibration_slope": {
                "a": facts["calibration_slope"],
                "b": None if champion_slope is None else champion_slope.to_dict(),
            },
            "slices": facts["slices"],
            "objections": list(self.objections),
        }


def compare_bundles(tables: CrmTables, a: Bundle, b: Bundle, *, seed: int = SEED) -> Comparison:
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
        both = spine.assign(won=won_in_period(history, spine, ends), **said).dropna(subset=["won"], ignore_index=True)
    else:
        both = _judged_by_both(a.judged, b.judged)
    won = both["won"].to_numpy()
    metrics = {name: score_probabilities(both[name].to_numpy(), won) for name in ("a", "b")}
    contest = _weigh(both, tables, a, champion_fallback=b.manifest["fallback"], seed=seed)
    objections = find_objections(_losses(a.manifest), contest)
    return Comparison(a.model_version, b.model_version, metrics, contest, tuple(objections))


def contest_champion(
    candidate: Bundle, champion: Bundle, tables: CrmTables, evaluation: Evaluation, fits: Sequence[PastFit]
) -> Contest | None:
    """How a candidate's past fits did beside the champion.

    On the snapshots of the fits made when the champion was trained or later, the champion scores them itself: neither
    knew what came, and the candidate's fit is not the older one. Where there are none, on the snapshots that the past
    fits of both were judged on: what each had said of them is kept with it. None if the champion never was judged and
    can judge nothing now.
    """
    served = candidate.manifest["fallback"] or MODEL
    starts = [fit.fitted_at for fit in fits if fit.fitted_at >= champion.trained_as_of]
    judged = evaluation.judged.rename(columns={served: "a"})
    later = judged[judged["as_of"] >= starts[0]] if starts else judged.iloc[:0]
    if len(later) and _has_our_features(champion):
        later = later.reset_index(drop=True)
        both = later.assign(b=score_period(champion, tables, later))
    else:
        both = _judged_by_both(judged.rename(columns={"a": "served"}), champion.judged)
        if both.empty and champion.judged.empty:
            return None
    return _weigh(both, tables, candidate, champion_fallback=champion.manifest["fallback"], seed=SEED)


def score_period(bundle: Bundle, tables: CrmTables, spine: pd.DataFrame) -> NDArray[np.float64]:
    """What a bundle says of each snapshot's chance to be won in its period."""
    seen, history = bundle.read_history(tables)
    spine = spine[["deal_id", "as_of"]].reset_index(drop=True)
    curves = deal_curves(bundle, build_features(seen, history, spine), tables.calendar)
    return curves.probability_by(days_to_period_end(spine["as_of"], tables.calendar)).won


def slices_of(bundle: Bundle, tables: CrmTables, spine: pd.DataFrame) -> pd.DataFrame:
    """Which slices each snapshot (deal_id, as_of) lies in, as known then: text by `SLICED_BY`, size and period.

    Sizes are quarters of the known amounts among these snapshots; the period is named by its first day.
    """
    seen, history = bundle.read_history(tables)
    spine = spine[["deal_id", "as_of"]].reset_index(drop=True)
    features = build_features(seen, history, spine, names=[*SLICED_BY, "log_amount"])
    slices = features[list(SLICED_BY)].astype(object).where(features[list(SLICED_BY)].notna(), UNKNOWN).astype("str")
    amount = features["log_amount"].to_numpy(dtype=float)
    known = np.isfinite(amount)
    edges = np.quantile(amount[known], [0.25, 0.5, 0.75]) if known.any() else np.zeros(3)
    size = np.where(known, np.array(SIZES, dtype=object)[np.searchsorted(edges, amount)], UNKNOWN)
    period = tables.calendar.period_frame(spine["as_of"])["start"].dt.strftime("%Y-%m-%d")
    return slices.assign(size=size, period=period)


def _weigh(
    both: pd.DataFrame, tables: CrmTables, reader: Bundle, *, champion_fallback: str | None, seed: int
) -> Contest:
    """The facts of a contest, from what a (the candidate) and b said of snapshots: deal_id, as_of, won, a, b."""
    if both.empty:
        return Contest(snapshots=0, champion_fallback=champion_fallback)
    return weigh(both, slices_of(reader, tables, both), champion_fallback=champion_fallback, seed=seed)


def weigh(
    both: pd.DataFrame, slices: pd.DataFrame, *, champion_fallback: str | None = None, seed: int = SEED
) -> Contest:
    """The facts of a contest between `a`, the candidate, and `b`.

    Parameters
    ----------
    both : deal_id, as_of, won (1 or 0), a, b (probabilities), one row per snapshot.
    slices : aligned, any columns of text.
    """
    won = both["won"].to_numpy()
    said = {name: both[name].to_numpy(dtype=float) for name in ("a", "b")}
    losses = {name: log_losses(probability, won) for name, probability in said.items()}
    less = losses["a"] - losses["b"]
    chosen = choose_slices(slices, both["deal_id"])
    inside = np.column_stack([np.ones(len(both)), *(each[2] for each in chosen)]).astype("float64")
    slopes = {name: slope_columns(probability, won) for name, probability in said.items()}
    columns = [inside, inside * less[:, None], *(each for each in slopes.values() if each is not None)]
    sums = resample_sums(np.hstack(columns), both["deal_id"].to_numpy(dtype=object), week_of(both["as_of"]), seed=seed)
    width = inside.shape[1]
    counts, differences, rest = sums[:, :width], sums[:, width : 2 * width], sums[:, 2 * width :]
    found = {}
    for name, each in slopes.items():
        found[name] = None if each is None else resampled_slope(said[name], won, rest[:, :5])
        rest = rest if each is None else rest[:, 5:]
    return Contest(
        snapshots=len(both),
        deals=int(both["deal_id"].nunique()),
        weeks=len(np.unique(week_of(both["as_of"]))),
        candidate=float(losses["a"].mean()),
        champion=float(losses["b"].mean()),
        difference=mean_difference(less, differences[:, 0], counts[:, 0]),
        slope=found["a"],
        champion_slope=found["b"],
        slices=_slice_differences(chosen, both["deal_id"], less, differences[:, 1:], counts[:, 1:]),
        champion_fallback=champion_fallback,
    )


def _slice_differences(
    chosen: Sequence[tuple[str, str, NDArray[np.bool_]]],
    deals: pd.Series,
    less: NDArray[np.float64],
    sums: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> tuple[SliceDifference, ...]:
    if not chosen:
        return ()
    means = np.array([less[inside].mean() for _, _, inside in chosen])
    at_least = slice_lower_bounds(means, sums, counts)
    return tuple(
        SliceDifference(by, value, int(deals[inside].nunique()), int(inside.sum()), float(mean), float(bound))
        for (by, value, inside), mean, bound in zip(chosen, means, at_least, strict=True)
    )


def _losses(manifest: Mapping[str, Any]) -> dict[str, float]:
    """Log loss of the model and its baselines, as its card has them; none if nothing was judged."""
    numbers = {MODEL: manifest["metrics"], **manifest["baselines"]}
    return {name: each["log_loss"] for name, each in numbers.items() if each["log_loss"] is not None}


def _has_our_features(bundle: Bundle) -> bool:
    """Whether a bundle means by its features what this installation means."""
    return bool(bundle.manifest["feature_set_hash"] == feature_set_hash())


def _judged_by_both(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """deal_id, as_of, won, a, b: snapshots that stand in both."""
    columns = ["deal_id", "as_of", "won", "served"]
    merged = a[columns].merge(b[["deal_id", "as_of", "served"]], on=["deal_id", "as_of"], suffixes=("_a", "_b"))
    return merged.rename(columns={"served_a": "a", "served_b": "b"})
