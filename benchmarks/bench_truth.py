"""Skill against the truth: how much of what can be known of deals the model and the baselines know.

    python -m benchmarks.bench_truth [--seed 1] [--futures 300] [--moments 6] [--regime-shift WEEKS]

A model is trained at a moment and scores the open deals then and on later days; the company's state of each day is run
forward many times, so the true probability of every outcome is known up to counting. Skill is the share of the way
from the base frequency to the all-knowing answer, in cross-entropy to the true probability; 0 = the base frequency,
1 = perfect. Bias is what is said less the truth, on average. With --regime-shift buyers have decided more slowly and
said no more often since so many weeks before the training moment.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
from scipy.special import betainc

from benchmarks.truth import Day, live_days, skill
from crm.synthetic import CompanyConfig, CompanyState, export, simulate
from features.build import build_features
from models.bundle import Bundle
from models.curves import Curves
from models.forecaster import forecast_nodes
from models.scorer import HORIZON_DAYS, days_to_period_end, score_deals, tilt_curves
from training.fit import fit_bundle

TRAINED_ON = date(2026, 1, 5)
DAYS_BETWEEN = 14


@dataclass(frozen=True)
class Look:
    """One day: what was said of its open deals, and the truth."""

    scores: pd.DataFrame
    said: dict[str, dict[str, np.ndarray]]
    day: Day
    company: pd.Series


def main() -> int:
    """Print skill by horizon, coverage of the ranges, and coverage of the company's revenue range."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--futures", type=int, default=300)
    arguments.add_argument("--moments", type=int, default=6)
    arguments.add_argument("--regime-shift", type=int, metavar="WEEKS")
    chosen = arguments.parse_args()
    shift = None if chosen.regime_shift is None else TRAINED_ON - timedelta(weeks=chosen.regime_shift)
    state = simulate(CompanyConfig(seed=chosen.seed, regime_shift_on=shift), TRAINED_ON)
    tables = export(state)
    bundle = fit_bundle(tables, tables.as_of).bundle
    bundle = replace(bundle, manifest={**bundle.manifest, "model_version": "benchmark"})
    print(f"drift: {bundle.manifest['drift']}")
    looks = list(look_at_days(bundle, state, moments=chosen.moments, futures=chosen.futures))
    counted = sum(len(look.scores) for look in looks)
    print(f"seed {chosen.seed}: {len(looks)} moments, {counted:,} open deals, {chosen.futures} futures of each")
    for horizon in ("win_365", "period"):
        print(f"skill, {horizon} (bias):")
        for name in looks[0].said[horizon]:
            said = np.concatenate([look.said[horizon][name] for look in looks])
            won = np.concatenate([look.day.won(horizon) for look in looks])
            bias = np.mean(said - won / chosen.futures)
            print(f"  {name:24}{skill(said, won, chosen.futures):8.3f} ({bias:+.3f})")
    covered = np.mean([range_coverage(look) for look in looks])
    print(f"90 % range of win_probability covers the truth: {covered:.3f}")
    for low, high, wanted in (("p25", "p75", 0.5), ("p10", "p90", 0.8), ("p05", "p95", 0.9)):
        inside = np.mean([bookings_coverage(look, low, high) for look in looks])
        print(f"{wanted:.0%} range of the company's bookings covers {inside:.3f} of the futures")
    errors = [look.company["mean"] / look.day.truth.company_bookings.mean() - 1 for look in looks]
    each = ", ".join(f"{error:+.3f}" for error in errors)
    print(f"mean of the company's bookings against the truth: {np.mean(errors):+.3f} (each: {each})")
    return 0


def look_at_days(bundle: Bundle, state: CompanyState, *, moments: int, futures: int) -> Iterator[Look]:
    """The training day and later ones: what the bundle says then, and the truth."""
    days = [TRAINED_ON + timedelta(days=DAYS_BETWEEN * number) for number in range(moments)]
    for day in live_days(state, days, bundle.field_classes, futures=futures):
        tables, history, spine = day.tables, day.history, day.spine
        scores = score_deals(bundle, tables, history, spine, explain=False)
        features = build_features(tables, history, spine)
        until = days_to_period_end(spine["as_of"], tables.calendar)
        said = {"period": {"model": scores["period_win_probability"].to_numpy()}}
        said["win_365"] = {"model": scores["win_probability"].to_numpy()}
        pooled = bundle.hazards.pooled_curves(features, tables.calendar)
        for name, baseline in bundle.baselines.items():
            said["period"][name] = baseline.predict(features)
            tilted: Curves = tilt_curves(pooled, said["period"][name], until)
            said["win_365"][name] = tilted.probability_by(HORIZON_DAYS).won
        period = tables.calendar.period_of(tables.as_of)
        nodes = forecast_nodes(bundle, tables, history, scores, as_of=tables.as_of, period=period)
        company = nodes[(nodes["scope"] == "all") & (nodes["node_type"] == "company")].iloc[0]
        yield Look(scores, said, day, company)


def bookings_coverage(look: Look, low: str, high: str) -> float:
    """Share of the futures in which the company's bookings lie within two quantiles of the forecast."""
    booked = look.day.truth.company_bookings
    return float(np.mean((booked >= look.company[low]) & (booked <= look.company[high])))


def range_coverage(look: Look) -> float:
    """How probable it is, given the counts, that each deal's true probability lies in its range; mean over deals."""
    won, k = look.day.won("win_365"), look.day.truth.k
    low, high = (look.scores[name].to_numpy() for name in ("win_probability_low", "win_probability_high"))
    return float(np.mean(betainc(won + 0.5, k - won + 0.5, high) - betainc(won + 0.5, k - won + 0.5, low)))


if __name__ == "__main__":
    sys.exit(main())
