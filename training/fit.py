"""Train: from the CRM's dated facts to a bundle that is judged, registered and, through the gate, promoted."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from crm.errors import DataUnusable, Detail, NoModel, UsageError
from crm.history import DealHistory, build_history, snapshot_spine
from crm.store import read_tables
from crm.tables import CrmTables
from features.build import build_features
from models import bundle_store
from models.amount import fit_amount
from models.baselines import Baseline
from models.bins import CAUSES
from models.bundle import ONE_CHANCE, Bundle, read_bundle, write_bundle
from models.creation import fit_creation
from models.learners import HazardSettings
from models.reasons import fit_reference
from models.revenue import fit_revenue
from models.revenue_errors import find_past_errors
from models.typical import Typical
from models.uncertainty import fit_range
from training import tracking
from training.card import describe_model, instant_text
from training.contest import contest_champion
from training.drift import find_drift
from training.evaluate import (
    Evaluation,
    PastFit,
    Snapshots,
    evaluate,
    fit_at,
    fit_baselines_at,
    follow_at,
    look_back,
    share_won,
)
from training.gate import MODEL, Contest, Promote, Verdict, decide, find_objections
from training.picking import Picking, tell_apart
from training.splits import Fold, snapshot_moments, walk_forward_folds
from training.tune import Trial, Tuned, tune_settings

Progress = Callable[[str, float], None]
Tune = Callable[[Snapshots, Sequence[Fold]], Tuned]
"""Chooses settings from the training snapshots and the folds that the model will be judged on."""

SEED = 7


@dataclass(frozen=True)
class TrainReport:
    """What `dealcast train` says; `to_dict` is its JSON document."""

    bundle: Bundle
    run_id: str
    verdict: Verdict
    champion: str | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        card = self.bundle.manifest
        return {
            **{name: card[name] for name in ("model_version", "trained_as_of", "data_version", "snapshots")},
            "run_id": self.run_id,
            "deals": {state: card[f"deals_{state}"] for state in ("won", "lost", "open")},
            "metrics": card["metrics"],
            "baselines": card["baselines"],
            "fallback": card["fallback"],
            "limits": card["limits"],
            "gate": self.verdict.to_dict(),
            "champion": self.champion,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Fitted:
    """A bundle, not yet written, with the evidence behind it."""

    bundle: Bundle
    evaluation: Evaluation
    fits: tuple[PastFit, ...]
    tuned: Tuned | None = None


def train(
    workspace: Path,
    *,
    now: pd.Timestamp,
    as_of: pd.Timestamp | None = None,
    promote: Promote = "auto",
    trials: int = 0,
    minutes: float | None = None,
    workers: int | None = None,
    seed: int = SEED,
    by: str = "train",
    progress: Progress = lambda step, share: None,
) -> TrainReport:
    """Fit, judge, write, log and register a model of the workspace's data, and let the gate decide on the champion.

    Parameters
    ----------
    now : the wall clock, for the log alone: nothing that is fitted depends on it.
    as_of : the training moment; None is the data's moment.
    promote : auto (through the gate), never, or always.
    trials, minutes, workers : how many settings to try, for how long and in how many processes; see `tune_settings`.

    Raises
    ------
    UsageError
        If `as_of` is later than the data's moment.
    DataUnusable
        If no deal had closed by then.
    """
    started = perf_counter()
    progress("reading", 0.0)
    tables = read_tables(workspace)
    known_at = tables.as_of if as_of is None else as_of
    if known_at > tables.as_of:
        rule = f"not later than the data's moment, {instant_text(tables.as_of)}"
        detail = Detail("--as-of", instant_text(known_at), rule, "Choose an earlier moment, or import newer data.")
        raise UsageError("The data do not reach that far.", detail)

    def tune(snapshots: Snapshots, judged: Sequence[Fold]) -> Tuned:
        return tune_settings(
            workspace,
            snapshots,
            judged,
            known_at=known_at,
            trials=trials,
            minutes=minutes,
            workers=workers,
            seed=seed,
        )

    fitted = fit_bundle(tables, known_at, seed=seed, tune=tune if trials else None, progress=progress)
    progress("registering", 0.9)
    bundle = write_bundle(workspace, fitted.bundle)
    verdict = _judge(workspace, tables, replace(fitted, bundle=bundle), promote, is_past=known_at < tables.as_of)
    logged = _log(workspace, replace(fitted, bundle=bundle), verdict, now, perf_counter() - started)
    bundle_store.register(workspace, bundle.model_version, at=now, run_id=logged.run_id)
    if verdict.moves_champion:
        bundle_store.set_champion(workspace, bundle.model_version, by=by, reason="; ".join(verdict.reasons), at=now)
    tracking.set_alias(
        workspace, tracking.CHAMPION if verdict.moves_champion else tracking.CHALLENGER, bundle.model_version
    )
    progress("done", 1.0)
    seconds = round(perf_counter() - started, 2)
    return TrainReport(bundle, logged.run_id, verdict, bundle_store.read_champion(workspace), seconds)


def fit_bundle(
    tables: CrmTables,
    known_at: pd.Timestamp,
    *,
    seed: int = SEED,
    history: DealHistory | None = None,
    tune: Tune | None = None,
    progress: Progress = lambda step, share: None,
) -> Fitted:
    """Everything that is fitted and judged with what was known at a moment; pure: the same facts give the same bundle.

    Parameters
    ----------
    tune : chooses the learners' settings; None takes the defaults.

    Raises
    ------
    DataUnusable
        If no deal that a snapshot saw open had closed by then.
    """
    # Sums of floats depend on how many threads share them: with one each, the same facts give the same bytes on any
    # number of cores. Causes are fitted side by side, so nothing is lost.
    with threadpool_limits(limits=1, user_api="blas"):
        seen = build_history(tables) if history is None else history
        return _fit_bundle(tables, known_at, seed, seen, tune, progress)


def _fit_bundle(
    tables: CrmTables,
    known_at: pd.Timestamp,
    seed: int,
    history: DealHistory,
    tune: Tune | None,
    progress: Progress,
) -> Fitted:
    progress("features", 0.05)
    snapshots = take_snapshots(tables, history, known_at)
    outcomes = snapshots.outcomes(known_at)
    if snapshots.deals_closed(known_at).empty:
        rule = "at least one deal was open at a snapshot and had closed by the training moment"
        next_step = "Train at a later moment, or import closed deals with created_at, closed_at and their stage."
        raise DataUnusable(
            "There is nothing to learn from yet.", Detail("deals", instant_text(known_at), rule, next_step)
        )
    folds = walk_forward_folds(tables.calendar, sorted(snapshots.features["as_of"].unique()), known_at)
    if tune is not None:
        progress("tuning", 0.15)
    tuned = None if tune is None else tune(snapshots, folds)
    settings = HazardSettings() if tuned is None else tuned.settings
    progress("past fits", 0.25)
    fits = tuple(look_back(snapshots, folds, seed=seed, settings=settings))
    evaluation = evaluate(fits, known_at)
    progress("fitting", 0.7)
    correction = evaluation.correction
    hazards = fit_at(snapshots, known_at, seed=seed, weight_linear=correction.weight_linear, settings=settings)
    following = follow_at(hazards, snapshots, known_at)
    baselines = fit_baselines_at(snapshots, known_at, seed=seed)
    picking = tell_apart(evaluation, share_won(history, known_at), seed=seed)
    fallback = choose_fallback(evaluation, baselines, picking)
    served = fallback or MODEL
    said = evaluation.judged.rename(columns={served: "win_probability"})
    revenue = fit_revenue(find_past_errors(tables, history, said, known_at))
    card = describe_model(
        snapshots,
        known_at,
        hazards,
        evaluation,
        drift=find_drift(fits, correction, known_at),
        following=following,
        baselines=baselines,
        fallback=fallback,
        picking=picking,
        revenue=revenue,
        seed=seed,
        settings=settings,
        tuning=tuned,
    )
    bundle = Bundle(
        manifest=card,
        hazards=hazards,
        calibration=correction.calibration.after(following.shift),
        win_range=fit_range(hazards, snapshots.features, outcomes, tables.calendar, seed=seed),
        reference=fit_reference(hazards, snapshots.features, tables.calendar, seed=seed),
        typical=Typical.fit(snapshots.features, outcomes, hazards.encoder.numbers),
        amount=fit_amount(tables, history, known_at),
        creation=fit_creation(tables, history, known_at, wins_now=following.pace.speed),
        revenue=revenue,
        baselines=baselines,
        judged=evaluation.judged.rename(columns={served: "served"})[["deal_id", "as_of", "won", "served"]],
    )
    return Fitted(bundle, evaluation, fits, tuned)


def take_snapshots(tables: CrmTables, history: DealHistory, known_at: pd.Timestamp) -> Snapshots:
    """The training snapshots before a moment, with their features."""
    spine = snapshot_spine(history, snapshot_moments(history, tables.calendar, known_at))
    ends = tables.calendar.period_frame(spine["as_of"])["end_at"]
    return Snapshots(build_features(tables, history, spine), ends, history, tables)


def choose_fallback(
    evaluation: Evaluation, baselines: Mapping[str, Baseline], picking: Picking | None = None
) -> str | None:
    """What serves in the model's place: one chance for all where skill in picking is shown to be absent, or a baseline.

    Of the baselines the one with the lowest log loss, if that of the model (or of one chance for all) is not lower.
    None if the model's is lowest, or if nothing was judged.
    """
    if evaluation.judged.empty:
        return None
    model = ONE_CHANCE if picking is not None and picking.is_absent else MODEL
    # Of equals the first is taken: a baseline that was not beaten.
    losses = {name: evaluation.log_loss_of(name) for name in (*baselines, model)}
    best = min(losses, key=lambda name: losses[name])
    return None if best == MODEL else best


def losses_to_compare(evaluation: Evaluation, baselines: Iterable[str], fallback: str | None) -> dict[str, float]:
    """Log loss of "model" and of the baselines as the gate asks for it: where one chance serves, the model is that."""
    losses = {name: evaluation.log_loss_of(name) for name in (MODEL, *baselines)}
    return losses | ({MODEL: evaluation.log_loss_of(ONE_CHANCE)} if fallback == ONE_CHANCE else {})


def _judge(workspace: Path, tables: CrmTables, fitted: Fitted, promote: Promote, *, is_past: bool) -> Verdict:
    """The gate's verdict on a written candidate."""
    card = fitted.bundle.manifest
    champion = bundle_store.read_champion(workspace)
    contest = None
    if champion is not None and len(fitted.evaluation.judged):
        contest = _contest(workspace, champion, tables, fitted)
    losses = losses_to_compare(fitted.evaluation, card["baselines"], card["fallback"])
    objections = find_objections(losses, contest)
    has_champion = champion is not None
    return decide(
        objections, promote=promote, has_champion=has_champion, is_past=is_past, losses=losses, contest=contest
    )


def _contest(workspace: Path, champion: str, tables: CrmTables, fitted: Fitted) -> Contest | None:
    try:
        reigning = read_bundle(bundle_store.bundles_folder(workspace) / champion)
    except (DataUnusable, NoModel):
        # A champion that cannot be read cannot defend its place.
        return None
    return contest_champion(fitted.bundle, reigning, tables, fitted.evaluation, fitted.fits)


def _log(workspace: Path, fitted: Fitted, verdict: Verdict, now: pd.Timestamp, seconds: float) -> tracking.LoggedRun:
    # Matplotlib takes half a second to import: only where something is drawn.
    from training.plots import importance_plot, reliability_plot

    bundle, card = fitted.bundle, fitted.bundle.manifest
    differences = fitted.evaluation.differences(seed=card["seed"])
    metrics = {f"model/{name}": value for name, value in card["metrics"].items() if isinstance(value, float)}
    for name, numbers in card["baselines"].items():
        metrics |= {f"{name}/{metric}": value for metric, value in numbers.items() if value is not None}
    metrics |= {f"{kind}/{cause}": card[kind][cause]["ratio"] for kind in ("drift", "following") for cause in CAUSES}
    metrics |= {f"model_minus_{name}/log_loss": each.value for name, each in differences.items()}
    report = {
        "gate": verdict.to_dict(),
        "log_loss_differences": {name: each.to_dict() for name, each in differences.items()},
        "calibration": bundle.calibration.to_dict(),
        "drift": card["drift"],
        "following": card["following"],
        "weight_linear": bundle.hazards.weight_linear,
        "past_fits": [instant_text(fit.fitted_at) for fit in fitted.fits],
    }
    names = ("data_version", "trained_as_of", "feature_set_hash", "seed", "snapshots", "bins", "fallback")
    return tracking.log_training(
        workspace,
        bundle_store.bundles_folder(workspace) / bundle.model_version,
        params={
            **{name: card[name] for name in names},
            **{f"settings/{name}": value for name, value in card["settings"].items()},
            "weight_linear": bundle.hazards.weight_linear,
        },
        metrics={**metrics, "seconds": seconds},
        artifacts={
            "report.json": json.dumps(report, indent=1),
            "reliability.png": reliability_plot(fitted.evaluation.judged),
            "importance.png": importance_plot(bundle.hazards),
        },
        at=now,
        children=[] if fitted.tuned is None else [_child_run(trial) for trial in fitted.tuned.trials],
    )


def _child_run(trial: Trial) -> tracking.ChildRun:
    losses = {} if trial.log_loss is None else {"log_loss": trial.log_loss}
    return tracking.ChildRun(f"trial {trial.number}", {**asdict(trial.settings), "state": trial.state}, losses)
