"""Following drift: what it gives a company whose buyers changed some weeks ago, and what it costs one whose did not.

    python -m benchmarks.bench_shift [--seeds 1 2 3 4 5] [--weeks 17] [--futures 200]

Every company lives twice: steady, and with buyers who have decided more slowly and said no more often for so many weeks
before the training moment. The open deals of that day and of four weeks later are scored twice, by the model and by the
same fits without following; the truth is known from many futures. Skill is the share of the way from the base frequency
to the all-knowing answer; bias is the mean of what is said less the truth; the pipeline's error is that of the sum of
probability times amount over the open deals.
"""

import argparse
import sys
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd

from benchmarks.truth import live_days, skill
from crm.bookings import shown_deals
from crm.synthetic import CompanyConfig, export, simulate
from features.build import build_features
from models.bundle import Bundle
from models.scorer import HORIZON_DAYS, days_to_period_end, deal_curves
from training.evaluate import learn_correction
from training.fit import Fitted, fit_bundle
from training.following import NOT_FOLLOWING

TRAINED_ON = date(2026, 1, 5)
LATER = timedelta(days=28)
LARGEST_BIAS, LARGEST_ERROR = 0.02, 0.08
MEASURES = ("skill, 365 days", "skill, period", "bias, 365 days", "pipeline's error")


def main() -> int:
    """Print a row per company, and the means; exit 1 if those of companies that changed are not what is promised."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    arguments.add_argument("--weeks", type=int, default=17)
    arguments.add_argument("--futures", type=int, default=200)
    chosen = arguments.parse_args()
    print(
        f"{'':12}{'won, lost x':>14}" + "".join(f"{each:>20}" for each in MEASURES) + "   (without -> with following)"
    )
    means = np.zeros(len(MEASURES))
    for name, weeks in (("steady", None), (f"{chosen.weeks} weeks", chosen.weeks)):
        rows = []
        for seed in chosen.seeds:
            ratios, measured = judge_company(seed, weeks, futures=chosen.futures)
            rows.append(measured)
            print(f"{name:9}{seed:3}{ratios:>14}" + told(measured), flush=True)
        means = np.mean(rows, axis=0)[1]
        print(f"{'mean':26}" + told(np.mean(rows, axis=0)))
        print(f"{'mean distance from 0':66}" + told(np.abs(rows).mean(axis=0)[:, 2:]))
    kept = bool(abs(means[2]) < LARGEST_BIAS and abs(means[3]) < LARGEST_ERROR)
    print(f"bias under {LARGEST_BIAS} and error under {LARGEST_ERROR:.0%} after a change, on average: {kept}")
    return 0 if kept else 1


def told(measured: np.ndarray) -> str:
    """Without and with following, by measure."""
    return "".join(f"{without:+12.3f} ->{with_:+.3f}" for without, with_ in measured.T)


def judge_company(seed: int, weeks: int | None, *, futures: int) -> tuple[str, np.ndarray]:
    """How fast deals close beside what the fit says, and (2, measures) without and with following."""
    shift = None if weeks is None else TRAINED_ON - timedelta(weeks=weeks)
    state = simulate(CompanyConfig(seed=seed, regime_shift_on=shift), TRAINED_ON)
    tables = export(state)
    fitted = fit_bundle(tables, tables.as_of)
    followed = fitted.bundle.manifest["following"]
    bundles = (unfollowed(fitted, tables.as_of), fitted.bundle)
    said: list[dict[str, list[np.ndarray]]] = [{"win_365": [], "period": []} for _ in bundles]
    won: dict[str, list[np.ndarray]] = {"win_365": [], "period": []}
    amounts = []
    days = [TRAINED_ON, TRAINED_ON + LATER]
    for day in live_days(state, days, fitted.bundle.field_classes, futures=futures):
        features = build_features(day.tables, day.history, day.spine)
        until = days_to_period_end(day.spine["as_of"], day.tables.calendar)
        for place, bundle in enumerate(bundles):
            curves = deal_curves(bundle, features, day.tables.calendar)
            said[place]["win_365"].append(curves.probability_by(HORIZON_DAYS).won)
            said[place]["period"].append(curves.probability_by(until).won)
        for horizon in won:
            won[horizon].append(day.won(horizon))
        amounts.append(shown_deals(day.tables, day.history, day.spine)["amount_base"].fillna(0.0).to_numpy())
    measured = [measure(each, won, amounts, futures) for each in said]
    return f"{followed['won']['ratio']:.2f}, {followed['lost']['ratio']:.2f}", np.array(measured)


def unfollowed(fitted: Fitted, known_at: pd.Timestamp) -> Bundle:
    """The same fits, corrected by past fits alone."""
    correction = learn_correction([replace(fit, following=NOT_FOLLOWING) for fit in fitted.fits], known_at)
    hazards = fitted.bundle.hazards.with_weight(correction.weight_linear)
    return replace(fitted.bundle, hazards=hazards, calibration=correction.calibration)


def measure(
    said: dict[str, list[np.ndarray]], won: dict[str, list[np.ndarray]], amounts: list[np.ndarray], futures: int
) -> list[float]:
    """The `MEASURES`: skill over both days together, bias and the pipeline's error as the mean of each day's."""
    skills = [skill(np.concatenate(said[each]), np.concatenate(won[each]), futures) for each in ("win_365", "period")]
    each_day = list(zip(said["win_365"], won["win_365"], amounts, strict=True))
    biases = [np.mean(p - count / futures) for p, count, _ in each_day]
    errors = [(p @ amount) / (count / futures @ amount) - 1 for p, count, amount in each_day]
    return [*skills, float(np.mean(biases)), float(np.mean(errors))]


if __name__ == "__main__":
    sys.exit(main())
