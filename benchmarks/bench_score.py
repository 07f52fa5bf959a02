"""Scoring many open deals with reasons, beside bare LightGBM on the very same rows.

    python -m benchmarks.bench_score [--deals 100000]

The open deals of a synthetic company are repeated, their numbers moved a little, until there are so many. What scoring
adds to `Booster.predict` (pooled rates, the linear partner, calibration, cumulation, the range of the probability), and
reasons add to `pred_contrib` (the straight path from the reference deal, sentences), is told as a ratio: of both
boosters, on one row per deal and bin of days ahead, one thread each, in seconds of the processor. `pred_contrib` takes
many times longer than our reasons, so the bare calls are timed on the first 2,000 deals only, and the ratios are those
of that piece.
"""

import argparse
import sys
from collections.abc import Iterator
from time import process_time

import numpy as np
import pandas as pd

from crm.calendar import Calendar
from crm.history import open_deals
from crm.synthetic import CompanyConfig, export, simulate
from features.build import build_features
from features.catalogue import BY_NAME
from models.bins import bin_rows, build_grid, read_clocks
from models.bundle import Bundle
from models.reasons import explain_deals, tell_reasons
from models.scorer import HORIZON_DAYS, days_to_period_end, deal_curves
from training.fit import fit_bundle

AT_ONCE = 2_000
MOVED_BY = 0.02


def main() -> int:
    """Print seconds of scoring and of reasons, of the bare calls, and the ratios."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--deals", type=int, default=100_000)
    chosen = arguments.parse_args()
    # Trees are as many and as large whatever the company's size.
    tables = export(simulate(CompanyConfig(deals_per_week=12)))
    bundle = fit_bundle(tables, tables.as_of).bundle
    seen, history = bundle.read_history(tables)
    few = build_features(seen, history, open_deals(history, tables.as_of))
    pieces = many_deals(few, chosen.deals)
    first = next(pieces)
    bare = bare_seconds(bundle, first, tables.calendar)
    ours = of_first = our_seconds(bundle, first, tables.calendar)
    for piece in pieces:
        ours = ours + our_seconds(bundle, piece, tables.calendar)
    bins = len(bundle.hazards.bins) + 1
    print(f"{chosen.deals:,} open deals (from {len(few):,}), {bins} bins of days ahead, one thread")
    print(", ".join(f"{name} {spent:.1f} s" for name, spent in ours.items()))
    print(f"of the first {len(first):,}, beside bare LightGBM:")
    for name, beside in (("scores", ["predict"]), ("reasons", ["pred_contrib"]), ("both", list(bare.index))):
        spent, least = of_first.sum() if name == "both" else of_first[name], bare[beside].sum()
        print(f"{name}: {spent:.1f} s; bare {' + '.join(beside)} {least:.1f} s; ratio {spent / least:.2f}")
    return 0


def many_deals(few: pd.DataFrame, count: int) -> Iterator[pd.DataFrame]:
    """So many deals in pieces: those there are, over and over, numbers moved by about two in a hundred."""
    random = np.random.default_rng(7)
    numbers = few.select_dtypes("number").columns
    for start in range(0, count, AT_ONCE):
        ids = np.arange(start, min(start + AT_ONCE, count))
        part = few.iloc[ids % len(few)].reset_index(drop=True)
        moved = part[numbers] * random.normal(1.0, MOVED_BY, (len(part), len(numbers)))
        yield part.assign(**moved, deal_id=pd.Series(ids).astype("str"))


def our_seconds(bundle: Bundle, features: pd.DataFrame, calendar: Calendar) -> pd.Series:
    """Seconds of scores and of reasons."""
    hazards, marks = bundle.hazards, [process_time()]
    curves = deal_curves(bundle, features, calendar)
    chance = curves.probability_by(HORIZON_DAYS).won
    curves.probability_by(days_to_period_end(features["as_of"], calendar))
    bundle.win_range.low_high(hazards, bundle.calibration, features, calendar, win_probability=chance)
    marks.append(process_time())
    explanation = explain_deals(hazards, bundle.calibration, bundle.reference, features, calendar)
    tell_reasons(explanation, features, BY_NAME, typical=bundle.typical)
    marks.append(process_time())
    return pd.Series(np.diff(marks), index=["scores", "reasons"])


def bare_seconds(bundle: Bundle, features: pd.DataFrame, calendar: Calendar) -> pd.Series:
    """Seconds of the bare calls on the rows that scoring makes of these deals."""
    hazards = bundle.hazards
    grid = build_grid(features["as_of"], calendar, hazards.bins)
    rows = bin_rows(hazards.encoder.transform(features), read_clocks(features), grid)
    boosters = [intensity.trees for intensity in hazards.intensities.values() if intensity.trees is not None]
    marks = [process_time()]
    for contributions in (False, True):
        for booster in boosters:
            booster.predict(rows, pred_contrib=contributions, num_threads=1)
        marks.append(process_time())
    return pd.Series(np.diff(marks), index=["predict", "pred_contrib"])


if __name__ == "__main__":
    sys.exit(main())
