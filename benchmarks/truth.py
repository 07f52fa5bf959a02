"""What is true of a simulated company's open deals, and how far forecasts are from it, without the bias of counting."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pandas as pd
from scipy.special import digamma

from crm.history import DealHistory, build_history, open_deals
from crm.synthetic import CompanyState, TrueOutcomes, export, true_outcomes
from crm.tables import CrmTables, FieldClass

CLIP = 1e-6
BINS = 10


@dataclass(frozen=True)
class Day:
    """One day of a company: what its CRM shows, its open deals (deal_id, as_of), and what may become of them."""

    state: CompanyState
    tables: CrmTables
    history: DealHistory
    spine: pd.DataFrame
    truth: TrueOutcomes

    def won(self, horizon: str) -> np.ndarray:
        """(n,) futures in which each deal of the spine is won in the "period", or within "win_365" days."""
        counts = self.truth.won_365 if horizon == "win_365" else self.truth.period_won
        return counts[pd.Index(self.truth.deal_id).get_indexer(self.spine["deal_id"])].astype(float)


def live_days(
    state: CompanyState, days: Iterable[date], classes: Mapping[str, FieldClass], *, futures: int
) -> Iterator[Day]:
    """The company's days, in order, with its CRM read by the field classes of the data a model was trained on."""
    for day in days:
        state = state.advance(day)
        tables = replace(export(state), field_classes=classes)
        history = build_history(tables)
        truth = true_outcomes(state, futures, seed=99)
        spine = open_deals(history, tables.as_of)
        spine = spine[spine["deal_id"].isin(truth.deal_id)].reset_index(drop=True)
        yield Day(state, tables, history, spine, truth)


def cross_entropies(probability: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(n,) of each forecast to the share of futures (or deals) that were won: linear in it, so without bias."""
    said = np.clip(probability, CLIP, 1 - CLIP)
    return -(share * np.log(said) + (1 - share) * np.log1p(-said))


def skill(probability: np.ndarray, won: np.ndarray, k: int) -> float:
    """Share of the way from the base frequency to the all-knowing answer, unbiased for `won` (n,) of `k` futures.

    The cross-entropy of a forecast is linear in the counts, so an average of it has no bias. The entropy of the truth
    itself has one when read off counts; Grassberger's estimator takes it away (arXiv:physics/0307138).
    """
    base = won.mean() / k
    cross = cross_entropies(probability, won / k).mean()
    nothing = -(base * np.log(base) + (1 - base) * np.log(1 - base))
    perfect = float(np.mean(np.log(k) - (won * _log_count(won) + (k - won) * _log_count(k - won)) / k))
    return (nothing - cross) / (nothing - perfect)


def bin_error(probability: np.ndarray, won: np.ndarray, k: int) -> float:
    """How far what is said is from the truth in ten bins of equal width: root of the mean square over snapshots.

    From each bin's squared difference its sampling variance over `k` futures is taken away, so that counting alone
    gives zero on average; below zero is told as zero.
    """
    which = np.minimum((probability * BINS).astype(int), BINS - 1)
    share = won / k
    rows = np.bincount(which, minlength=BINS)
    difference = np.bincount(which, probability - share, BINS)
    # The variance of a share of k futures, without bias; what becomes of two deals is nearly independent.
    variance = np.bincount(which, share * (1 - share) / (k - 1), BINS)
    seen = rows > 0
    square = (difference[seen] ** 2 - variance[seen]) / rows[seen]
    return float(np.sqrt(max(square.sum() / rows.sum(), 0.0)))


def _log_count(number: np.ndarray) -> np.ndarray:
    """Grassberger's stand-in for the logarithm of a count: right on average where the plain logarithm is not."""
    at = np.maximum(number, 1.0)
    sign = np.where(at % 2 == 0, 1.0, -1.0)
    return np.where(number > 0, digamma(at) + sign / 2 * (digamma((at + 1) / 2) - digamma(at / 2)), 0.0)
