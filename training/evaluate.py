"""How good the model would have been: fits at past moments, each judged on the snapshots that came after it.

Nothing a fit, its blend weight, its calibration or its baselines read was known later than the moment it stands for.
What the past fits said is kept: the final model's blend and calibration are learned from it, too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crm.calendar import Calendar
from crm.facts import microseconds
from crm.history import DealHistory
from crm.tables import CrmTables
from features.catalogue import BY_NAME
from models.baselines import BASELINES, Baseline, fit_baselines
from models.bins import CAUSES, bin_outcomes, choose_bins
from models.bundle import ONE_CHANCE
from models.calibration import HazardCalibration
from models.curves import Curves
from models.hazard import HazardMargins, HazardModel, fit_hazards
from models.learners import HazardSettings
from models.scorer import HORIZON_DAYS, days_to_period_end
from training.following import NOT_FOLLOWING, Following, count_closings, days_between, looks_to_follow
from training.labels import label_outcomes, won_in_period, won_within
from training.metrics import Difference, log_losses, paired_difference, score_probabilities
from training.pace import Moves, watch_moves
from training.splits import Fold

Array = NDArray[np.float64]

BLEND_WEIGHTS = (0.5, 0.25, 0.75, 0.0, 1.0)
"""Shares of the linear partner that are tried; of equally good ones the first."""


@dataclass(frozen=True)
class Snapshots:
    """The training snapshots with their features: everything a fit at any past moment may use, cut by as_of.

    Attributes
    ----------
    features : deal_id, as_of and features, by as_of.
    period_end_at : end of each snapshot's period.
    """

    features: pd.DataFrame
    period_end_at: pd.Series
    history: DealHistory
    tables: CrmTables

    @property
    def calendar(self) -> Calendar:
        return self.tables.calendar

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: NDArray[Any]) -> "Snapshots":
        """Those of the snapshots that a mask chooses."""
        features, ends = self.features[rows], self.period_end_at[rows]
        return replace(self, features=features.reset_index(drop=True), period_end_at=ends.reset_index(drop=True))

    def outcomes(self, known_at: pd.Timestamp) -> pd.DataFrame:
        """How long each was watched by a moment, and how it ended: see `label_outcomes`."""
        return label_outcomes(self.history, self.features, known_at)

    def deals_closed(self, known_at: pd.Timestamp) -> pd.Series:
        """How many of their deals had been won and lost by a moment, by outcome; empty if none."""
        outcomes = self.outcomes(known_at)
        return self.features["deal_id"].groupby(outcomes["outcome"]).nunique()

    def moves(self, known_at: pd.Timestamp) -> Moves:
        """How their deals moved on by a moment, for a step after each."""
        step = days_between(self.features["as_of"])
        return watch_moves(self.history, self.features, known_at, step_days=step)

    def won(self) -> Array:
        """Won in its period, 1 or 0, NaN if merged away; for periods that have ended."""
        return won_in_period(self.history, self.features, self.period_end_at).to_numpy()


@dataclass(frozen=True)
class Correction:
    """What past fits teach about a later one: the share of the linear partner, and the calibration."""

    weight_linear: float = BLEND_WEIGHTS[0]
    calibration: HazardCalibration = HazardCalibration()

    def apply(self, margins: HazardMargins, following: Following = NOT_FOLLOWING) -> Curves:
        return self.calibration.apply(following.apply(margins.blend(self.weight_linear)))


@dataclass(frozen=True)
class PastFit:
    """What one past fit said of the snapshots after it, up to the next fit, and the weeks before it that it follows."""

    fitted_at: pd.Timestamp
    judged: Snapshots
    margins: HazardMargins
    baselines: Mapping[str, Array]
    snapshots_per_deal: float
    following: Following = NOT_FOLLOWING


@dataclass(frozen=True)
class Evaluation:
    """What was said of each judged snapshot, beside what became of it.

    Attributes
    ----------
    judged : deal_id, as_of, won (1 or 0 in its period), model, one_chance (the model's closings, with one chance of
        winning for all) and one column per baseline (probabilities to be won in the period): snapshots whose period
        had ended.
    year : deal_id, as_of, won, model: within 365 days, snapshots at least so old.
    correction : learned from all past fits, for the final model.
    """

    judged: pd.DataFrame
    year: pd.DataFrame
    correction: Correction

    @property
    def baseline_names(self) -> list[str]:
        return [name for name in self.judged.columns if name in BASELINES]

    def log_loss_of(self, name: str) -> float:
        """Mean log loss of the model or a baseline; NaN if nothing was judged."""
        if self.judged.empty:
            return float("nan")
        return float(log_losses(self.judged[name].to_numpy(), self.judged["won"].to_numpy()).mean())

    def metrics_of(self, name: str) -> dict[str, float | None]:
        """The model card's numbers of the model or a baseline, on the same snapshots."""
        return score_probabilities(self.judged[name].to_numpy(), self.judged["won"].to_numpy())

    def metrics(self) -> dict[str, Any]:
        """The model's numbers, those over 365 days (None without such snapshots), and on how many rows they rest."""
        year = (
            score_probabilities(self.year["model"].to_numpy(), self.year["won"].to_numpy()) if len(self.year) else None
        )
        size = {"snapshots": len(self.judged), "deals": int(self.judged["deal_id"].nunique())}
        return {**self.metrics_of("model"), "win_365": year, **size}

    def differences(self, *, seed: int) -> dict[str, Difference]:
        """Log loss of the model minus each baseline's, with an interval over deals; below zero the model is better."""
        if self.judged.empty:
            return {}
        won, deals = self.judged["won"].to_numpy(), self.judged["deal_id"].to_numpy()
        model = log_losses(self.judged["model"].to_numpy(), won)
        return {
            name: paired_difference(model, log_losses(self.judged[name].to_numpy(), won), deals, seed=seed)
            for name in self.baseline_names
        }


def fit_at(
    snapshots: Snapshots,
    known_at: pd.Timestamp,
    *,
    seed: int,
    weight_linear: float = BLEND_WEIGHTS[0],
    settings: HazardSettings | None = None,
    num_threads: int = 2,
) -> HazardModel:
    """The hazards as they would have been fitted at a moment, on snapshots before it."""
    outcomes = snapshots.outcomes(known_at)
    bins = choose_bins(outcomes["days_observed"].where(outcomes["outcome"].notna()).to_numpy())
    moves = snapshots.moves(known_at)
    season = moves.season()
    return fit_hazards(
        snapshots.features,
        outcomes,
        snapshots.calendar,
        bins,
        catalogue=BY_NAME,
        seed=seed,
        weight_linear=weight_linear,
        settings=settings,
        season=season,
        pace=moves.pace(season).speed,
        num_threads=num_threads,
    )


def follow_at(hazards: HazardModel, snapshots: Snapshots, known_at: pd.Timestamp) -> Following:
    """What a fit made at a moment leaves unexplained of the weeks before it.

    Its learners are blended evenly: the share they will have was not known when past fits were made.
    """
    as_of = snapshots.features["as_of"]
    step = days_between(as_of)
    looks = snapshots.take(looks_to_follow(as_of, known_at))
    curves = hazards.with_weight(BLEND_WEIGHTS[0]).curves(looks.features, looks.calendar)
    closings = count_closings(curves, looks.features, looks.outcomes(known_at), known_at, step_days=step)
    return replace(closings, pace=snapshots.moves(known_at).pace(hazards.season))


def fit_baselines_at(snapshots: Snapshots, known_at: pd.Timestamp, *, seed: int) -> dict[str, Baseline]:
    """All baselines as they would have been at a moment, on snapshots whose period had ended then; none without any."""
    ended = snapshots.take((snapshots.period_end_at <= known_at).to_numpy())
    won = ended.won()
    known = ~np.isnan(won)
    stages = snapshots.tables.get("stages")
    return fit_baselines(ended.take(known).features, won[known], catalogue=BY_NAME, stages=stages, seed=seed)


def look_back(
    snapshots: Snapshots, folds: Sequence[Fold], *, seed: int, settings: HazardSettings | None = None
) -> list[PastFit]:
    """Fit at each fold's moment and keep what the fit and the baselines said of the fold's snapshots.

    A baseline that could not be fitted then says what the base rate said. Folds before any period had ended are left
    out.
    """
    fits = []
    as_of = snapshots.features["as_of"]
    for fold in folds:
        known = snapshots.take((as_of < fold.fitted_at).to_numpy())
        judged = snapshots.take(((as_of >= fold.fitted_at) & (as_of < fold.judged_until)).to_numpy())
        baselines = fit_baselines_at(known, fold.fitted_at, seed=seed)
        if not len(judged) or not baselines:
            continue
        hazards = fit_at(known, fold.fitted_at, seed=seed, settings=settings)
        said = {name: baselines.get(name, baselines["base_rate"]).predict(judged.features) for name in BASELINES}
        margins = hazards.margins(judged.features, judged.calendar)
        following = follow_at(hazards, known, fold.fitted_at)
        fits.append(PastFit(fold.fitted_at, judged, margins, said, hazards.snapshots_per_deal, following))
    return fits


def learn_correction(fits: Sequence[PastFit], known_at: pd.Timestamp) -> Correction:
    """Blend weight and calibration from what past fits said and what was known of it by a moment.

    The weight is the one under which the closings seen were likeliest; the calibration is learned on that blend.
    """
    seen = [bin_outcomes(fit.margins.edges, fit.judged.outcomes(known_at)) for fit in fits]
    if not seen:
        return Correction()
    exposure = np.concatenate([each.exposure.ravel() for each in seen])
    events = {cause: np.concatenate([each.events[cause].ravel() for each in seen]) for cause in CAUSES}
    at_risk = exposure > 0
    # A snapshot's luck is that of the period it stands in.
    pairs = zip(fits, seen, strict=True)
    periods = np.concatenate([np.repeat(microseconds(f.judged.period_end_at), s.exposure.shape[1]) for f, s in pairs])

    def margins(weight: float) -> dict[str, Array]:
        curves = [fit.following.apply(fit.margins.blend(weight)) for fit in fits]
        return {
            "won": np.concatenate([each.won.ravel() for each in curves])[at_risk],
            "lost": np.concatenate([each.lost.ravel() for each in curves])[at_risk],
        }

    exposure, events = exposure[at_risk], {cause: happened[at_risk] for cause, happened in events.items()}
    weight = max(BLEND_WEIGHTS, key=lambda each: _log_likelihood(margins(each), exposure, events))
    repeats = float(np.mean([fit.snapshots_per_deal for fit in fits]))
    calibration = HazardCalibration.fit(
        margins(weight), exposure, events, periods=periods[at_risk], snapshots_per_deal=repeats
    )
    return Correction(weight, calibration)


def evaluate(fits: Sequence[PastFit], known_at: pd.Timestamp) -> Evaluation:
    """Judge each past fit, corrected by what the fits before it taught until then."""
    judged, year = [], []
    for place, fit in enumerate(fits):
        curves = learn_correction(fits[:place], fit.fitted_at).apply(fit.margins, fit.following)
        rows = fit.judged.features[["deal_id", "as_of"]]
        days = days_to_period_end(rows["as_of"], fit.judged.calendar)
        share = share_won(fit.judged.history, fit.fitted_at)
        even = curves if share is None else curves.with_one_chance(share)
        said = {"model": curves.probability_by(days).won, ONE_CHANCE: even.probability_by(days).won, **fit.baselines}
        ended = (fit.judged.period_end_at <= known_at).to_numpy()
        judged.append(rows.assign(won=fit.judged.won(), **said)[ended])
        old = (rows["as_of"] + pd.Timedelta(days=HORIZON_DAYS) <= known_at).to_numpy()
        within = won_within(fit.judged.history, rows, HORIZON_DAYS)
        year.append(rows.assign(won=within, model=curves.probability_by(HORIZON_DAYS).won)[old])
    return Evaluation(
        judged=_together(judged, ["model", ONE_CHANCE, *BASELINES]),
        year=_together(year, ["model"]),
        correction=learn_correction(fits, known_at),
    )


def share_won(history: DealHistory, known_at: pd.Timestamp) -> float | None:
    """How many of the closings known by a moment were won, 0..1; None if deals had closed in one way only."""
    ended = history.endings.loc[history.endings["at"] <= known_at, "outcome"]
    won, lost = int((ended == "won").sum()), int(ended.isin(["lost", "deleted"]).sum())
    return won / (won + lost) if won and lost else None


def _together(parts: Sequence[pd.DataFrame], said: Sequence[str]) -> pd.DataFrame:
    """The parts' rows that can be judged, with the right columns also where there are none."""
    columns = {"deal_id": "str", "as_of": "datetime64[us, UTC]", "won": "float64", **dict.fromkeys(said, "float64")}
    empty = pd.DataFrame({name: [] for name in columns})
    return pd.concat(parts or [empty], ignore_index=True).astype(columns).dropna(subset=["won"], ignore_index=True)


def _log_likelihood(margins: Mapping[str, Array], exposure: Array, events: Mapping[str, Array]) -> float:
    """Of the closings seen, given log-intensities per day: the Poisson likelihood of both causes."""
    return sum(float((events[cause] * margins[cause] - exposure * np.exp(margins[cause])).sum()) for cause in CAUSES)
