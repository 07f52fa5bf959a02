"""The frames that the model and its rivals learn from and are judged on: simulated companies and public sets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from benchmarks.bench_shift import MEASURES, measure
from benchmarks.public_data import (
    BANK,
    MAVEN,
    OLIST,
    SALVIRT,
    bank_tables,
    is_here,
    maven_tables,
    olist_tables,
    salvirt_rows,
    snapshots_after,
)
from benchmarks.truth import Day, live_days
from crm.bookings import shown_deals
from crm.history import build_history
from crm.synthetic import CompanyConfig, export, simulate
from crm.tables import CrmTables
from crm.truncation import truncate_export
from features.build import build_features
from models.baselines import fit_baselines
from models.bundle import Bundle
from models.scorer import HORIZON_DAYS, days_to_period_end, deal_curves
from training.fit import fit_bundle, take_snapshots
from training.labels import won_in_period
from training.resampling import week_of
from training.win_model import ColumnKind, WinModel

TRAINED_ON = date(2026, 1, 5)
ENDED_ON = date(2026, 4, 6)
LOOKS, DAYS_BETWEEN, FUTURES = 3, 28, 50
COMPANIES = {"company": CompanyConfig(), "small": CompanyConfig(n_reps=6, n_teams=2, deals_per_week=6)}
WEEKS_SINCE_SHIFT = 17
FOLDS = 10


@dataclass(frozen=True)
class Split:
    """What is known at one training moment, and what is asked after it.

    Attributes
    ----------
    part : names the company, or the fold.
    learn, test : deal_id, features; of learn also won (1 or 0 in the period), rows whose period had ended.
    judged : deal_id, week, won, and the probabilities of the model and its baselines by name; won_of (of `FUTURES`)
        where the truth is known.
    seconds : of fitting, by name.
    told : what the tool says of itself.
    """

    part: str
    learn: pd.DataFrame
    test: pd.DataFrame
    judged: pd.DataFrame
    seconds: Mapping[str, float]
    told: tuple[str, ...] = ()


Splits = Mapping[str, Callable[[], Split]]


def splits_of(case: str, *, seeds: int) -> Splits:
    """How to make each split of a case, by the name of its part; none where its data are absent."""
    company, _, shifted = case.partition("_")
    if company in COMPANIES:
        lives = {f"seed {seed}": replace(COMPANIES[company], seed=seed) for seed in range(1, seeds + 1)}
        return {part: partial(company_split, part, config, shifted=bool(shifted)) for part, config in lives.items()}
    folder, make = PUBLIC[case]
    return make() if is_here(folder) else {}


def company_split(part: str, config: CompanyConfig, *, shifted: bool) -> Split:
    """A simulated company, asked on three days of the quarter after training; the truth from futures of each day."""
    shift = TRAINED_ON - timedelta(weeks=WEEKS_SINCE_SHIFT) if shifted else None
    state = simulate(replace(config, regime_shift_on=shift), TRAINED_ON)
    tables = export(state)
    fitted = _timed_fit(tables, tables.as_of)
    looks = [TRAINED_ON + timedelta(days=DAYS_BETWEEN * look) for look in range(LOOKS)]
    days = list(live_days(state, looks, tables.field_classes, futures=FUTURES))
    _, known_later = fitted.bundle.read_history(export(days[-1].state.advance(ENDED_ON)))
    features = pd.concat([build_features(day.tables, day.history, day.spine) for day in days], ignore_index=True)
    ends = tables.calendar.period_frame(features["as_of"])["end_at"]
    won = won_in_period(known_later, features, ends).to_numpy()
    split = _split(part, fitted, tables, features, won)
    judged = split.judged.assign(won_of=np.concatenate([day.won("period") for day in days]))
    return replace(split, judged=judged, told=(*split.told, _against_truth(fitted.bundle, days, features)))


def _against_truth(bundle: Bundle, days: list[Day], features: pd.DataFrame) -> str:
    """The model's skill, bias and error of the open pipeline, as `bench_shift` measures them on these days."""
    calendar = days[0].tables.calendar
    curves = deal_curves(bundle, features, calendar)
    at = np.cumsum([len(day.spine) for day in days])[:-1]
    until: dict[str, float | np.ndarray] = {
        "win_365": HORIZON_DAYS,
        "period": days_to_period_end(features["as_of"], calendar),
    }
    said = {horizon: np.split(curves.probability_by(day).won, at) for horizon, day in until.items()}
    won = {horizon: [day.won(horizon) for day in days] for horizon in until}
    amounts = [shown_deals(day.tables, day.history, day.spine)["amount_base"].fillna(0.0).to_numpy() for day in days]
    measured = zip(MEASURES, measure(said, won, amounts, FUTURES), strict=True)
    return "; ".join(f"{name} {value:+.3f}" for name, value in measured)


def public_split(read: Callable[[], CrmTables], trained_on: str, judged_until: str, *, days: int) -> Split:
    """A public set: the export cut off at the training moment is learned from, the snapshots after it are asked."""
    tables = read()
    known_at, until = (tables.calendar.parse_moment(text) for text in (trained_on, judged_until))
    truncated = truncate_export(tables, known_at)
    fitted = _timed_fit(truncated, known_at)
    seen, history = fitted.bundle.read_history(tables)
    later = snapshots_after(history, tables.calendar, known_at, until, days=days)
    return _split("all", fitted, truncated, build_features(seen, history, later.spine), later.won)


def salvirt_splits() -> Splits:
    """Rows without time: ten folds, rows that are alike together."""
    rows, won = salvirt_rows()
    alike = rows.fillna("").agg("|".join, axis=1)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=7).split(rows, won, alike)
    rows.insert(0, "deal_id", alike)
    return {
        f"fold {number}": partial(_fold, f"fold {number}", rows, won, known, asked)
        for number, (known, asked) in enumerate(folds, 1)
    }


def _fold(part: str, rows: pd.DataFrame, won: pd.Series, known: np.ndarray, asked: np.ndarray) -> Split:
    """One fold; the win model is that of notebooks, uncalibrated, and every row a deal of its own."""
    learn, test = (rows.iloc[places].reset_index(drop=True) for places in (known, asked))
    outcome, categories = won.iloc[known].to_numpy(), learn.columns.drop("deal_id")
    begun = perf_counter()
    model = WinModel().fit(learn[categories], outcome)
    seconds = {"model": perf_counter() - begun}
    baselines = fit_baselines(learn, outcome, catalogue=dict.fromkeys(categories, ColumnKind("category")), seed=7)
    said = {"model": model.predict_proba(test[categories])[:, 1]}
    said |= {name: baseline.predict(test) for name, baseline in baselines.items()}
    judged = pd.DataFrame({"deal_id": test["deal_id"], "week": 0, "won": won.iloc[asked].to_numpy(), **said})
    return Split(part, learn.assign(won=outcome), test, judged, seconds)


def _alone(read: Callable[[], CrmTables], trained_on: str, judged_until: str, days: int) -> Callable[[], Splits]:
    return lambda: {"all": partial(public_split, read, trained_on, judged_until, days=days)}


PUBLIC: Mapping[str, tuple[Path, Callable[[], Splits]]] = {
    "bank": (BANK, _alone(bank_tables, "2011-12-01", "2012-01-01", 2)),
    "salvirt": (SALVIRT, salvirt_splits),
    "olist": (OLIST, _alone(olist_tables, "2018-04-01", "2018-07-01", 7)),
    "maven": (MAVEN, _alone(maven_tables, "2017-10-01", "2018-01-01", 7)),
}
CASES = (*(f"{company}{kind}" for company in COMPANIES for kind in ("", "_shifted")), *PUBLIC)


@dataclass(frozen=True)
class _Fit:
    bundle: Bundle
    seconds: float
    known_at: pd.Timestamp


def _timed_fit(tables: CrmTables, known_at: pd.Timestamp) -> _Fit:
    """A bundle as `dealcast train` fits it, with everything that takes."""
    begun = perf_counter()
    return _Fit(fit_bundle(tables, known_at).bundle, perf_counter() - begun, known_at)


def _split(part: str, fitted: _Fit, tables: CrmTables, features: pd.DataFrame, won: np.ndarray) -> Split:
    bundle, manifest = fitted.bundle, fitted.bundle.manifest
    snapshots = take_snapshots(tables, build_history(tables), fitted.known_at)
    ended = snapshots.take((snapshots.period_end_at <= fitted.known_at).to_numpy())
    known = ended.won()
    learn = ended.features.assign(won=known)[~np.isnan(known)]
    until = days_to_period_end(features["as_of"], tables.calendar)
    said = {"model": deal_curves(bundle, features, tables.calendar).probability_by(until).won}
    if manifest["fallback"] is not None:
        unserved = replace(bundle, manifest={**manifest, "fallback": None})
        said["win model, not served"] = deal_curves(unserved, features, tables.calendar).probability_by(until).won
    said |= {name: baseline.predict(features) for name, baseline in bundle.baselines.items()}
    identity = {"deal_id": features["deal_id"], "week": week_of(features["as_of"]), "won": won}
    told = (f"fallback: {manifest['fallback']}; picking: {manifest['picking']}", *manifest["limits"])
    return Split(
        part,
        learn.drop(columns="as_of"),
        features.drop(columns="as_of"),
        pd.DataFrame({**identity, **said}),
        {"model": fitted.seconds},
        told,
    )
