import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from training.metrics import calibration_slope, paired_difference, reliability, score_probabilities


@pytest.fixture
def sample():
    random = np.random.default_rng(3)
    probability = np.round(random.beta(1, 3, 500), 2)
    return probability, (random.random(500) < probability).astype(float)


def test_metrics_equal_those_of_scikit_learn(sample):
    probability, won = sample
    metrics = score_probabilities(probability, won)
    assert metrics["log_loss"] == pytest.approx(log_loss(won, np.clip(probability, 1e-6, 1 - 1e-6)))
    assert metrics["brier"] == pytest.approx(brier_score_loss(won, probability))
    assert metrics["auc"] == pytest.approx(roc_auc_score(won, probability))


def test_calibration_error_is_the_mean_distance_over_bins_weighted_by_rows():
    probability = np.array([0.05, 0.05, 0.05, 0.95])
    won = np.array([0.0, 0.0, 1.0, 1.0])
    assert score_probabilities(probability, won)["calibration_error"] == pytest.approx(
        0.75 * (1 / 3 - 0.05) + 0.25 * 0.05
    )


def test_a_probability_of_one_falls_into_the_last_bin():
    assert reliability(np.array([1.0, 0.95]), np.array([1.0, 1.0]))[0].rows == 2


def test_the_slope_undoes_a_stretch_of_the_log_odds():
    random = np.random.default_rng(1)
    log_odds = random.normal(0, 1, 40_000)
    won = (random.random(40_000) < 1 / (1 + np.exp(-log_odds))).astype(float)
    assert calibration_slope(1 / (1 + np.exp(-2 * log_odds)), won) == pytest.approx(0.5, abs=0.02)


def test_what_is_undefined_is_none_not_a_number():
    constant = score_probabilities(np.full(4, 0.3), np.array([0.0, 0.0, 1.0, 0.0]))
    assert constant["calibration_slope"] is None and constant["auc"] == 0.5
    assert score_probabilities(np.full(2, 0.3), np.zeros(2))["auc"] is None
    assert calibration_slope(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.0, 0.0, 1.0, 1.0])) is None
    assert set(score_probabilities(np.array([]), np.array([])).values()) == {None}


def test_a_certain_and_wrong_answer_costs_much_but_not_infinity():
    assert score_probabilities(np.array([1.0]), np.array([0.0]))["log_loss"] == pytest.approx(-np.log(1e-6))


def test_repeating_every_deal_does_not_narrow_the_interval():
    random = np.random.default_rng(0)
    first, second = random.random(60), random.random(60)
    deals = np.arange(60)
    once = paired_difference(first, second, deals, seed=1)
    often = paired_difference(np.tile(first, 20), np.tile(second, 20), np.tile(deals, 20), seed=1)
    assert (often.value, often.low, often.high) == pytest.approx((once.value, once.low, once.high))
    assert once.low < once.value < once.high


def test_two_equal_sets_of_losses_differ_by_nothing():
    losses = np.array([0.1, 0.5, 0.9])
    difference = paired_difference(losses, losses, np.array(["a", "b", "b"]), seed=0)
    assert difference.to_dict() == {"value": 0, "low": 0, "high": 0}
