import json

import numpy as np
import pytest

from models.linear import LinearDesign, fit_poisson, sample_rows

RNG = np.random.default_rng(0)


def test_coefficients_of_a_known_intensity_are_found() -> None:
    regressors = np.column_stack([np.ones(40_000), RNG.normal(size=(40_000, 2))])
    log_days = np.log(RNG.uniform(1, 10, 40_000))
    events = RNG.poisson(np.exp(-2 + 0.5 * regressors[:, 1] - 0.3 * regressors[:, 2] + log_days))
    found = fit_poisson(regressors, events, log_days, penalty=1.0)
    assert found == pytest.approx([-2, 0.5, -0.3], abs=0.02)


def test_a_stronger_penalty_leaves_less_of_a_coefficient() -> None:
    regressors = np.column_stack([np.ones(500), RNG.normal(size=500)])
    events = RNG.poisson(np.exp(regressors[:, 1]))
    loose, tight = (fit_poisson(regressors, events, np.zeros(500), penalty=each)[1] for each in (1.0, 1000.0))
    assert 0 < tight < loose / 1.5


def test_without_events_the_level_falls_no_further_than_the_prior_lets_it() -> None:
    found = fit_poisson(np.ones((1000, 1)), np.zeros(1000), np.zeros(1000), penalty=10.0)
    assert np.isfinite(found).all()
    assert -10 < found[0] < -1


def test_an_unknown_value_stands_at_the_mean_and_is_marked() -> None:
    rows = np.array([[1.0, 0.0], [3.0, 1.0], [np.nan, 2.0], [np.nan, 3.0]])
    design = LinearDesign.fit(rows, clock=1)
    regressors = design.regressors(rows)
    assert design.marked.tolist() == [0]
    assert regressors.shape == (4, 1 + 2 + 1 + 2)
    assert regressors[:, 1].tolist() == pytest.approx([-1, 1, 0, 0])
    assert regressors[:, 3].tolist() == [0, 0, 1, 1]
    assert design.owners.tolist() == [0, 1, 0, 0, 1]


def test_a_value_far_outside_the_usual_range_is_cut() -> None:
    rows = np.column_stack([np.linspace(0, 1, 1001), np.zeros(1001)])
    design = LinearDesign.fit(rows, clock=1)
    usual, wild = design.regressors(np.array([[0.99, 0.0], [1e9, 0.0]]))[:, 1]
    assert wild == pytest.approx(usual)


def test_what_is_bent_may_rise_and_fall() -> None:
    age = RNG.uniform(0, 100, 20_000)
    rows = np.column_stack([age, np.zeros(20_000)])
    intensity = np.where((age > 30) & (age < 60), -4.0, -1.0)
    events = RNG.poisson(np.exp(intensity))
    inside, outside = np.array([[45.0, 0.0]]), np.array([[5.0, 0.0], [95.0, 0.0]])
    for bent, follows in (([0], True), ([], False)):
        design = LinearDesign.fit(rows, clock=1, bent=bent)
        coefficients = fit_poisson(design.regressors(rows), events, np.zeros(20_000), penalty=1.0)
        (low,), high = (design.regressors(each) @ coefficients for each in (inside, outside))
        assert (low < high.min() - 1.5) == follows
        assert len(design.owners) == len(coefficients) - 1


def test_a_bent_input_that_is_never_known_bends_nothing() -> None:
    rows = np.column_stack([np.full(50, np.nan), np.arange(50.0)])
    regressors = LinearDesign.fit(rows, clock=1, bent=[0]).regressors(rows)
    assert np.isfinite(regressors).all() and not regressors[:, -6:].any()


def test_a_sample_holds_all_rows_of_a_snapshot_or_none() -> None:
    snapshot = np.repeat(np.arange(60_000), 5)
    chosen = sample_rows(snapshot, np.random.default_rng(0))
    assert len(chosen) == pytest.approx(100_000, rel=0.05)
    assert set(np.bincount(snapshot[chosen])) == {0, 5}


def test_a_design_read_back_makes_the_same_regressors() -> None:
    rows = RNG.normal(size=(50, 3)).astype(np.float32)
    rows[::3, 0] = np.nan
    design = LinearDesign.fit(rows, clock=2, bent=[0, 2])
    again = LinearDesign.from_dict(json.loads(json.dumps(design.to_dict())))
    np.testing.assert_array_equal(again.regressors(rows), design.regressors(rows))
