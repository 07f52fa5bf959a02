"""Skill on a real pipeline: trained on October and November, judged on December of a Dutch bank's loan applications.

    python -m benchmarks.bench_bank

Every setting was chosen on October and November; December is only looked at here. Each snapshot asks: won by 1 January
or not; still open counts as not won. Others measured on the same question: hazards .536, logistic regression .543.
"""

import sys

import numpy as np

from benchmarks.public_data import BANK, bank_tables, is_here, snapshots_after
from features.build import build_features
from models.scorer import days_to_period_end, deal_curves
from training.fit import fit_bundle
from training.metrics import METRICS, log_losses, paired_difference, score_probabilities

TRAINED_ON, JUDGED_UNTIL = "2011-12-01", "2012-01-01"


def main() -> int:
    """Print a table of metrics; exit 1 if a baseline is not beaten in log loss."""
    if not is_here(BANK):
        return 0
    tables = bank_tables()
    known_at, until = (tables.calendar.parse_moment(text) for text in (TRAINED_ON, JUDGED_UNTIL))
    fitted = fit_bundle(tables, known_at)
    bundle = fitted.bundle
    print(
        f"trained as of {TRAINED_ON}: {bundle.manifest['snapshots']:,} snapshots, weight of the linear partner "
        f"{bundle.hazards.weight_linear}, walk-forward log loss {bundle.manifest['metrics']['log_loss']:.4f}"
    )

    seen, history = bundle.read_history(tables)
    spine, won = snapshots_after(history, tables.calendar, known_at, until, days=2)
    features = build_features(seen, history, spine)
    model = deal_curves(bundle, features, tables.calendar)
    said = {"model": model.probability_by(days_to_period_end(spine["as_of"], tables.calendar)).won}
    said |= {name: baseline.predict(features) for name, baseline in bundle.baselines.items()}
    return report(said, won, spine["deal_id"].to_numpy())


def report(said: dict[str, np.ndarray], won: np.ndarray, deals: np.ndarray) -> int:
    """Print each one's metrics and the paired difference from the model."""
    print(f"{len(won):,} snapshots of {len(np.unique(deals)):,} deals, {won.mean():.3f} won in the period")
    print(f"{'':24}" + "".join(f"{name:>19}" for name in METRICS) + "   model minus it (95 %)")
    beaten = True
    model = log_losses(said["model"], won)
    for name, probability in said.items():
        metrics = score_probabilities(probability, won)
        row = "".join(f"{'-' if value is None else format(value, '.4f'):>19}" for value in metrics.values())
        if name == "model":
            print(f"{name:24}{row}")
            continue
        difference = paired_difference(model, log_losses(probability, won), deals, seed=1)
        print(f"{name:24}{row}   {difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]")
        beaten = beaten and difference.value < 0
    print("every baseline is beaten in log loss" if beaten else "NOT every baseline is beaten in log loss")
    return 0 if beaten else 1


if __name__ == "__main__":
    sys.exit(main())
