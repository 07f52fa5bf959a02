"""What the win model keeps to: odd rows, few rows, rows in any order or told twice, closings of one kind."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import models.hazard
from crm.history import build_history
from models.hazard import HazardModel, fit_hazards
from models.learners import HazardSettings
from tests.invariants.kept_companies import taken
from tests.unit.simulated_deals import CALENDAR, CATALOGUE, SimulatedDeals, simulate_deals
from training.fit import take_snapshots

BINS = np.array([0.0, 14.0, 30.0, 60.0, 120.0, 365.0])
QUICK = HazardSettings(rounds=60)
HORIZONS = (1.0, 30.0, 92.0, 365.0)
PAST, LATER = simulate_deals(500, seed=1), simulate_deals(60, seed=2)


def fitted(features: pd.DataFrame, outcomes: pd.DataFrame) -> HazardModel:
    outcomes = outcomes.reset_index(drop=True)
    return fit_hazards(
        features.reset_index(drop=True), outcomes, CALENDAR, BINS, catalogue=CATALOGUE, seed=7, settings=QUICK
    )


@pytest.fixture(scope="module")
def model() -> HazardModel:
    return fitted(PAST.features, PAST.outcomes)


def chances(model: HazardModel, features: pd.DataFrame) -> np.ndarray:
    """(horizons, 3, n) won, lost and open."""
    curves = model.curves(features, CALENDAR)
    by = [curves.probability_by(days) for days in HORIZONS]
    return np.array([[each.won, each.lost, each.still_open] for each in by])


def check_coherent(said: np.ndarray) -> None:
    """Probabilities, which sum to one, and of which none that is settled ever opens again."""
    assert np.isfinite(said).all() and (said >= 0).all() and (said <= 1).all()
    assert said.sum(axis=1) == pytest.approx(1.0, abs=1e-12)
    assert (np.diff(said[:, :2], axis=0) >= 0).all()


def test_rows_of_an_export_may_come_in_any_order():
    tables = taken("stage rows only")
    shuffled = replace(
        tables, tables={name: table.sample(frac=1, random_state=3) for name, table in tables.tables.items()}
    )
    first, second = (take_snapshots(each, build_history(each), tables.as_of) for each in (tables, shuffled))
    pd.testing.assert_frame_equal(first.features, second.features)
    pd.testing.assert_frame_equal(first.outcomes(tables.as_of), second.outcomes(tables.as_of))


def test_snapshots_told_twice_are_no_more_evidence(model: HazardModel):
    """As often as rows repeat a deal's fate, they count for one deal: priors and leaves keep their weight."""
    twice = fitted(pd.concat([PAST.features] * 2), pd.concat([PAST.outcomes] * 2))
    assert twice.snapshots_per_deal == pytest.approx(2 * model.snapshots_per_deal)
    for cause, rates in model.pooled.log_rates.items():
        np.testing.assert_allclose(twice.pooled.log_rates[cause], rates, atol=1e-9)
    assert np.abs(chances(twice, LATER.features) - chances(model, LATER.features)).max() < 0.02


def test_a_row_of_which_nothing_is_known_and_one_never_seen_the_like_of_get_coherent_chances(model: HazardModel):
    row = LATER.features.iloc[[0]]
    unknown = row.assign(**dict.fromkeys(CATALOGUE, np.nan))
    strange = row.assign(stage="Escrow", segment="", fit=1e30, noise=-np.inf, days_to_close_date=1e9)
    for each in (unknown, unknown[["deal_id", "as_of"]], strange):
        said = chances(model, each)
        check_coherent(said)
        assert 0.02 < said[-1, 0, 0] < 0.98


@pytest.mark.parametrize("only", ["won", "lost"])
def test_closings_of_one_kind_leave_the_other_possible(only: str):
    kept = (PAST.outcomes["outcome"].isna() | (PAST.outcomes["outcome"] == only)).to_numpy()
    said = chances(fitted(PAST.features[kept], PAST.outcomes[kept]), LATER.features)
    check_coherent(said)
    never = said[-1, 1 if only == "won" else 0]
    assert (never > 0).all() and never.max() < 0.1


def test_thirty_deals_give_coherent_chances_near_the_share_won():
    few: SimulatedDeals = simulate_deals(30, seed=4)
    said = chances(fitted(few.features, few.outcomes), LATER.features)
    check_coherent(said)
    by_deal = few.outcomes["outcome"].groupby(few.features["deal_id"]).last()
    assert said[-1, 0].mean() == pytest.approx((by_deal == "won").sum() / by_deal.notna().sum(), abs=0.2)


def test_scoring_holds_its_answer_and_one_piece_of_its_rows(model: HazardModel, monkeypatch: pytest.MonkeyPatch):
    """Bytes a row beyond the pieces: three log-intensities of two causes, and what they are blended from and to."""
    monkeypatch.setattr(models.hazard, "_SNAPSHOTS_AT_ONCE", 250)
    peaks, rows = [], []
    for count in (1000, 5000):
        features = LATER.features.sample(count, replace=True, random_state=1)
        tracemalloc.start()
        curves = model.curves(features, CALENDAR)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        rows.append(curves.won.size)
    assert (peaks[1] - peaks[0]) / (rows[1] - rows[0]) < 160
