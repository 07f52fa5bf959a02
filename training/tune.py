"""Tuning the learners' settings: searched on periods before those the model is judged on, kept only if they hold up.

Time is cut in three, the oldest first. On the search stretch trials are fitted and compared as of past moments; the
best of them meets the defaults on the confirmation stretch, which no trial has seen; the judged stretch, on which the
model is reported, is read by neither.
"""

import hashlib
import json
import os
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from threadpoolctl import threadpool_limits

from crm.calendar import Calendar
from features.catalogue import feature_set_hash
from models.learners import HazardSettings
from models.scorer import days_to_period_end
from training.evaluate import PastFit, Snapshots, fit_at, follow_at, learn_correction
from training.metrics import Difference, log_losses
from training.resampling import mean_difference, resample_sums, week_of
from training.splits import Fold, walk_forward_folds

DATES_PER_FOLD = 6
"""A trial is judged on so many as-of dates of a fold: those between them hardly tell more."""
TRIALS_BEFORE_PRUNING = 5
SPACE = "1"
"""Part of the study's key: trials of another search space are not resumed."""

DEFAULTS = HazardSettings()

Report = Callable[[int, float], None]


@dataclass(frozen=True)
class TuningPlan:
    """The folds that trials are compared on, with what is known by `search_until`, and those that confirm the best."""

    search: tuple[Fold, ...]
    search_until: pd.Timestamp
    confirm: tuple[Fold, ...]
    judged_from: pd.Timestamp


@dataclass(frozen=True)
class Trial:
    """One trial: its settings, its mean log loss (of the folds it came to), and how it ended (complete, pruned)."""

    number: int
    state: str
    log_loss: float | None
    settings: HazardSettings


@dataclass(frozen=True)
class Tuned:
    """The settings to use, and how they were come by.

    Attributes
    ----------
    settings : the best trial's if they beat the defaults on the confirmation stretch, else the defaults.
    trials : all of the study, earlier runs' included.
    difference : log loss of the best trial's settings less the defaults' on the confirmation stretch, with a 95 %
        interval over deals and weeks; None if no trial was better than the defaults where they were searched.
    note : what came of it, in words.
    """

    settings: HazardSettings
    trials: tuple[Trial, ...]
    difference: Difference | None
    note: str

    @property
    def is_tuned(self) -> bool:
        """Whether other settings than the defaults are used."""
        return self.settings != HazardSettings()

    def to_dict(self) -> dict[str, Any]:
        return {
            "trials": len(self.trials),
            "is_tuned": self.is_tuned,
            "difference": None if self.difference is None else self.difference.to_dict(),
            "note": self.note,
        }


@dataclass(frozen=True)
class Search:
    """What a trial needs: nothing in `snapshots` lies after the search stretch."""

    snapshots: Snapshots
    plan: TuningPlan
    seed: int

    def loss(self, settings: HazardSettings, report: Report = lambda step, loss: None) -> float:
        """Mean log loss of settings over the search folds; `report` hears the mean so far after each fold."""
        losses: list[np.ndarray] = []
        for step, said in enumerate(
            walk(self.snapshots, self.plan.search, self.plan.search_until, settings, self.seed)
        ):
            losses.append(said["loss"].to_numpy())
            report(step, float(np.concatenate(losses).mean()))
        return float(np.concatenate(losses).mean()) if losses else float("nan")


def plan_tuning(calendar: Calendar, moments: Sequence[pd.Timestamp], judged: Sequence[Fold]) -> TuningPlan | None:
    """Where to search and where to confirm; None if fewer than three periods had ended before the judged folds.

    The last third of the ended periods (at least one) confirms, those before are walked through like any others.
    """
    if not judged or not moments:
        return None
    judged_from = judged[0].fitted_at
    before = [at for at in moments if at < judged_from]
    if not before:
        return None
    ended = [each for each in calendar.periods_between(before[0], judged_from) if each.end_at <= judged_from]
    if len(ended) < 3:
        return None
    starts = [period.start_at for period in ended[-max(1, len(ended) // 3) :]]
    confirm = tuple(Fold(start, end) for start, end in zip(starts, [*starts[1:], judged_from], strict=True))
    search = walk_forward_folds(calendar, [at for at in before if at < starts[0]], starts[0])
    return TuningPlan(tuple(search), starts[0], confirm, judged_from) if search else None


def walk(
    snapshots: Snapshots, folds: Sequence[Fold], known_at: pd.Timestamp, settings: HazardSettings, seed: int
) -> Iterator[pd.DataFrame]:
    """Fit at each fold, correct by what the folds before it taught, and judge on a few dates with what is known.

    Yields
    ------
    For each fold with snapshots to judge: deal_id, as_of, loss (in nats) of those whose period had ended at `known_at`.
    """
    fits: list[PastFit] = []
    as_of = snapshots.features["as_of"]
    for fold in folds:
        known = snapshots.take((as_of < fold.fitted_at).to_numpy())
        inside = (as_of >= fold.fitted_at) & (as_of < min(fold.judged_until, known_at))
        chosen = as_of.isin(choose_dates(as_of[inside]))
        judged = snapshots.take((inside & chosen).to_numpy())
        if not len(judged) or known.deals_closed(fold.fitted_at).empty:
            continue
        hazards = fit_at(known, fold.fitted_at, seed=seed, settings=settings, num_threads=1)
        margins = hazards.margins(judged.features, judged.calendar)
        following = follow_at(hazards, known, fold.fitted_at)
        curves = learn_correction(fits, fold.fitted_at).apply(margins, following)
        # Fewer dates repeat a deal's fate less often.
        repeats = max(1.0, hazards.snapshots_per_deal * len(judged) / int(inside.sum()))
        fits.append(PastFit(fold.fitted_at, judged, margins, {}, repeats, following))
        said = judged.features[["deal_id", "as_of"]]
        won = judged.won()
        loss = log_losses(curves.probability_by(days_to_period_end(said["as_of"], judged.calendar)).won, won)
        ended = (judged.period_end_at <= known_at).to_numpy() & ~np.isnan(won)
        if ended.any():
            yield said.assign(loss=loss)[ended]


def choose_dates(as_of: pd.Series, most: int = DATES_PER_FOLD) -> list[pd.Timestamp]:
    """At most so many of the moments, evenly spaced, the first and the last among them."""
    dates = sorted(as_of.unique())
    places = np.unique(np.linspace(0, len(dates) - 1, min(most, len(dates))).round().astype(int))
    return [dates[place] for place in places]


def suggest(trial: optuna.Trial) -> HazardSettings:
    """The settings of a trial; amounts of evidence in closed deals, as `HazardSettings` has them."""
    return HazardSettings(
        rounds=trial.suggest_int("rounds", 40, 320, step=20),
        learning_rate=trial.suggest_float("learning_rate", 0.02, 0.1, log=True),
        leaves=trial.suggest_int("leaves", 4, 24),
        feature_share=trial.suggest_float("feature_share", 0.25, 1.0),
        deals_per_leaf=trial.suggest_float("deals_per_leaf", 1.0, 20.0, log=True),
        shrinkage_deals=trial.suggest_float("shrinkage_deals", 2.0, 100.0, log=True),
        linear_deals=trial.suggest_float("linear_deals", 10.0, 400.0, log=True),
    )


def tune_settings(
    workspace: Path,
    snapshots: Snapshots,
    judged: Sequence[Fold],
    *,
    known_at: pd.Timestamp,
    trials: int,
    minutes: float | None = None,
    workers: int | None = None,
    seed: int,
) -> Tuned:
    """Search `trials` settings, those of an earlier, interrupted run on the same data included, and confirm the best.

    Parameters
    ----------
    judged : the folds that the model will be judged on: nothing from the first of them on is read.
    minutes : no trial starts later than so many minutes from now; None is no limit.
    workers : processes; None is one per core. One worker and one seed always give the same trials.
    """
    moments = sorted(snapshots.features["as_of"].unique())
    plan = plan_tuning(snapshots.calendar, moments, judged)
    if plan is None:
        note = (
            "Not tuned: fewer than three periods had ended before those the model is judged on. The defaults are used."
        )
        return Tuned(HazardSettings(), (), None, note)
    before = snapshots.take((snapshots.features["as_of"] < plan.search_until).to_numpy())
    journal = _journal(workspace, snapshots, known_at, seed)
    _run(Search(before, plan, seed), journal, trials, _deadline(minutes), workers or os.cpu_count() or 1)
    done = read_trials(journal)
    rows = snapshots.take((snapshots.features["as_of"] < plan.judged_from).to_numpy())
    with threadpool_limits(limits=1, user_api="blas"):
        return confirm_best(done, rows, plan, seed=seed)


def read_trials(journal: Path) -> tuple[Trial, ...]:
    """The trials of a journal that came to an end."""
    found = []
    for each in _study(journal, seed=0).get_trials(deepcopy=False):
        state = each.state.name.lower()
        if state in ("complete", "pruned"):
            loss = each.value if state == "complete" else next(reversed(each.intermediate_values.values()), None)
            found.append(Trial(each.number, state, loss, HazardSettings(**each.params)))
    return tuple(found)


def confirm_best(
    trials: tuple[Trial, ...],
    snapshots: Snapshots,
    plan: TuningPlan,
    *,
    seed: int,
    default: HazardSettings = DEFAULTS,
) -> Tuned:
    """The best trial's settings, if they beat the defaults where no trial has looked."""
    complete = [each for each in trials if each.state == "complete" and each.log_loss is not None]
    best = min(complete, key=lambda each: (each.log_loss, each.number), default=None)
    counted = f"{len(trials)} trial{'s' * (len(trials) != 1)}"
    if best is None or best.settings == default:
        return Tuned(default, trials, None, f"Tuning: none of {counted} was better than the defaults, which are used.")
    difference = compare_settings(snapshots, plan, best.settings, default, seed=seed)
    told = (
        f"log loss {difference.value:+.5f} against the defaults', 95 % interval {difference.low:+.5f} to "
        f"{difference.high:+.5f}, on periods that no trial had seen"
    )
    if difference.high < 0:
        return Tuned(best.settings, trials, difference, f"Tuning: the best of {counted} is used: {told}.")
    note = f"Tuning: the best of {counted} did not beat the defaults, which are used: {told}."
    return Tuned(default, trials, difference, note)


def compare_settings(
    snapshots: Snapshots, plan: TuningPlan, first: HazardSettings, second: HazardSettings, *, seed: int
) -> Difference:
    """Log loss of the first settings less the second's on the confirmation folds, over deals and weeks."""
    first_fold = plan.confirm[0].fitted_at
    losses = []
    for settings in (first, second):
        # The search folds are walked through again: what they teach is part of how settings would have done.
        parts = list(walk(snapshots, [*plan.search, *plan.confirm], plan.judged_from, settings, seed))
        rows = pd.concat(parts, ignore_index=True)
        losses.append(rows[rows["as_of"] >= first_fold].reset_index(drop=True))
    less = (losses[0]["loss"] - losses[1]["loss"]).to_numpy()
    columns = np.column_stack([less, np.ones(len(less))])
    deals = losses[0]["deal_id"].to_numpy(dtype=object)
    sums = resample_sums(columns, deals, week_of(losses[0]["as_of"]), seed=seed)
    return mean_difference(less, sums[:, 0], sums[:, 1])


def _run(search: Search, journal: Path, trials: int, deadline: float | None, workers: int) -> None:
    """Add trials to a journal until it has so many: here, or in processes that share it."""
    study = _study(journal, seed=search.seed)
    if not study.get_trials(deepcopy=False):
        defaults = asdict(HazardSettings())
        study.enqueue_trial({name: defaults[name] for name in defaults if name != "fewest_deals"})
    missing = trials - len(read_trials(journal))
    workers = max(1, min(workers, missing))
    if workers == 1:
        _run_trials(search, journal, missing, deadline)
        return
    shares = [missing // workers + (place < missing % workers) for place in range(workers)]
    with TemporaryDirectory() as folder:
        # Written once and read by every worker: a pipe would carry it once for each.
        packed = Path(folder) / "search.pickle"
        packed.write_bytes(pickle.dumps(search))
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            futures = [pool.submit(_run_packed, packed, journal, share, deadline) for share in shares]
            for future in futures:
                future.result()


def _run_packed(packed: Path, journal: Path, trials: int, deadline: float | None) -> None:
    _run_trials(pickle.loads(packed.read_bytes()), journal, trials, deadline)


def _run_trials(search: Search, journal: Path, trials: int, deadline: float | None) -> None:
    def objective(trial: optuna.Trial) -> float:
        def report(step: int, loss: float) -> None:
            trial.report(loss, step)
            if trial.should_prune():
                raise optuna.TrialPruned

        return search.loss(suggest(trial), report)

    with threadpool_limits(limits=1, user_api="blas"):
        for _ in range(trials):
            if deadline is not None and time.time() > deadline:
                return
            _study(journal, seed=search.seed).optimize(objective, n_trials=1)


def _study(journal: Path, *, seed: int) -> optuna.Study:
    """The study of a journal. Its sampler starts anew with every trial, so a resumed study goes on as it would have."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    study = optuna.create_study(storage=storage, study_name="hazards", load_if_exists=True)
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.get_trials(deepcopy=False)))
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=TRIALS_BEFORE_PRUNING)
    return study


def _journal(workspace: Path, snapshots: Snapshots, known_at: pd.Timestamp, seed: int) -> Path:
    """Where the trials on these data, features, moment and seed are kept."""
    key = [snapshots.tables.data_version, feature_set_hash(), known_at.isoformat(), seed, SPACE]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    folder = workspace / "tuning"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.journal"


def _deadline(minutes: float | None) -> float | None:
    # Seconds since 1970: the one clock that processes share. It only bounds the work; no trial depends on it.
    return None if minutes is None else time.time() + 60 * minutes
