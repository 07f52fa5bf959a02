"""What each family of features adds: the win model with and without it, against the truth and on a real pipeline.

    python -m benchmarks.bench_ablation [--seeds 1 2] [--only NAME ...] [--without FEATURE ...] [--bank]

A company is simulated in every way its CRM may be kept; the model is fitted at one moment, without calibration, and
says of the deals open then and later how likely they are to be won in the period and in 365 days. What is left out is
judged by the loss it costs: cross-entropy to the true probability (the company's state of each day is run forward many
times), or on the bank's pipeline the log loss of the month after; in thousandths, with a 95 % interval of a bootstrap
over deals paired with the whole catalogue. Above zero: without it the model is worse.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.bench_bank import JUDGED_UNTIL
from benchmarks.bench_bank import TRAINED_ON as BANK_TRAINED_ON
from benchmarks.public_data import BANK, bank_tables, is_here, snapshots_after
from benchmarks.truth import cross_entropies, live_days, skill
from crm.history import build_history, classify_fields
from crm.synthetic import CompanyConfig, export, simulate
from crm.truncation import truncate_export
from features.build import build_features
from features.catalogue import BY_NAME
from models.scorer import HORIZON_DAYS, days_to_period_end
from training.evaluate import Snapshots, fit_at
from training.fit import take_snapshots
from training.metrics import paired_difference

TRAINED_ON = date(2025, 7, 7)
LOOKS, DAYS_BETWEEN, FUTURES = 4, 21, 200
SEED = 7

SWITCHES: Mapping[str, dict[str, object]] = {
    "plain": {},
    "closings silent, no first values": {"log_closings": "silent", "initial_rows": False},
    "everything logged": {"log_closings": "all", "late_logging": False, "missing_amounts": 0.0},
    "tracked from late on": {"tracked_from": date(2024, 3, 1)},
    "migrated": {"migration_on": date(2024, 3, 4)},
    "regime shift": {"regime_shift_on": TRAINED_ON - timedelta(weeks=26)},
    "many kinds": {"currencies": ("USD", "EUR"), "team_moves": True, "renewals": True, "reopened_wins": True},
    "amounts missing": {"missing_amounts": 0.4},
}


@dataclass(frozen=True)
class Judged:
    """Snapshots after the training moment: their features, and how often each was won (of `futures`) by horizon."""

    features: pd.DataFrame
    won: Mapping[str, np.ndarray]
    futures: int


@dataclass(frozen=True)
class Case:
    """One company: what the model learns from, and what it is judged on."""

    name: str
    snapshots: Snapshots
    known_at: pd.Timestamp
    judged: Judged


def main() -> int:
    """Print the table; a family is named after its module."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", type=int, nargs="*", default=[1])
    arguments.add_argument("--only", nargs="*", help="switches of the company, by the beginning of their name")
    arguments.add_argument("--without", nargs="*", default=[], help="features left out one by one, beside the families")
    arguments.add_argument("--before", type=Path, help="file of feature names, one a line: the catalogue as it was")
    arguments.add_argument("--bank", action="store_true", help="the bank's pipeline too (needs ../shared/data)")
    chosen = arguments.parse_args()
    cases = [
        partial(company_case, name, seed)
        for name in SWITCHES
        for seed in chosen.seeds
        if chosen.only is None or any(name.startswith(start) for start in chosen.only)
    ]
    if chosen.bank and is_here(BANK):
        cases.append(bank_case)
    before = chosen.before.read_text().split() if chosen.before else None
    for make in cases:
        report(make(), [*chosen.without], before)
    return 0


def company_case(name: str, seed: int) -> Case:
    """A synthetic company with one switch thrown, with the truth of a few days after the training moment."""
    state = simulate(CompanyConfig(seed=seed, **SWITCHES[name]), TRAINED_ON)
    tables = export(state)
    snapshots = take_snapshots(tables, build_history(tables), tables.as_of)
    looks = [TRAINED_ON + timedelta(days=DAYS_BETWEEN * look) for look in range(LOOKS)]
    days = list(live_days(state, looks, tables.field_classes, futures=FUTURES))
    frames = [build_features(day.tables, day.history, day.spine) for day in days]
    counted = {horizon: np.concatenate([day.won(horizon) for day in days]) for horizon in ("period", "win_365")}
    return Case(
        f"{name}, seed {seed}", snapshots, tables.as_of, Judged(pd.concat(frames, ignore_index=True), counted, FUTURES)
    )


def bank_case() -> Case:
    """The bank's pipeline: fitted on December 1st, judged on the month."""
    tables = bank_tables()
    known_at, until = (tables.calendar.parse_moment(text) for text in (BANK_TRAINED_ON, JUDGED_UNTIL))
    truncated = truncate_export(tables, known_at)
    seen = replace(tables, field_classes=classify_fields(truncated))
    history = build_history(seen)
    judged = snapshots_after(history, tables.calendar, known_at, until, days=2)
    snapshots = take_snapshots(truncated, build_history(truncated), known_at)
    won = {"period": judged.won}
    return Case("bank", snapshots, known_at, Judged(build_features(seen, history, judged.spine), won, 1))


def report(case: Case, alone: Iterable[str], before: list[str] | None) -> None:
    """One case: skill of the whole catalogue, and what each part left out costs."""
    every = [name for name in case.snapshots.features if name in BY_NAME]
    whole = said(case, every)
    print(f"\n{case.name}: {len(case.snapshots):,} snapshots, judged on {len(case.judged.features):,}", flush=True)
    for horizon, won in case.judged.won.items():
        loss = cross_entropies(whole[horizon], won / case.judged.futures).mean()
        known = f", skill {skill(whole[horizon], won, FUTURES):.4f}" if case.judged.futures > 1 else ""
        print(f"  {horizon:8} {len(every)} features: log loss {loss:.4f}{known}", flush=True)
    deals = case.judged.features["deal_id"].to_numpy()
    for label, kept in parts(every, alone, before):
        other = said(case, kept)
        told = []
        for horizon, won in case.judged.won.items():
            share = won / case.judged.futures
            cost = paired_difference(
                cross_entropies(other[horizon], share), cross_entropies(whole[horizon], share), deals, seed=1
            )
            told.append(f"{horizon} {cost.value * 1e3:+6.2f} [{cost.low * 1e3:+.2f}, {cost.high * 1e3:+.2f}]")
        print(f"  {label:34}{'   '.join(told)}", flush=True)


def parts(every: list[str], alone: Iterable[str], before: list[str] | None) -> Iterator[tuple[str, list[str]]]:
    """What is left out, and what is kept then."""
    if before is not None:
        yield f"the {len(before)} of before", [name for name in every if name in before]
    for family in dict.fromkeys(BY_NAME[name].family for name in every):
        its = [name for name in every if BY_NAME[name].family == family]
        yield f"without {family} ({len(its)})", [name for name in every if name not in its]
    for name in alone:
        yield f"without {name}", [kept for kept in every if kept not in name.split("+")]


def said(case: Case, names: list[str]) -> dict[str, np.ndarray]:
    """The probabilities that a model of these features gives."""
    columns = ["deal_id", "as_of", *names]
    snapshots = replace(case.snapshots, features=case.snapshots.features[columns])
    model = fit_at(snapshots, case.known_at, seed=SEED)
    features, calendar = case.judged.features[columns], case.snapshots.calendar
    curves = model.curves(features, calendar)
    found = {"period": curves.probability_by(days_to_period_end(features["as_of"], calendar)).won}
    return found | {"win_365": curves.probability_by(HORIZON_DAYS).won}


if __name__ == "__main__":
    sys.exit(main())
