import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from simulated_deals import CALENDAR, CATALOGUE, SimulatedDeals, simulate_deals

from models.bins import choose_bins
from models.hazard import HazardModel, fit_hazards
from models.learners import HazardSettings
from models.season import Season

BINS = np.array([0.0, 7.0, 14.0, 30.0, 60.0, 100.0, 180.0, 365.0])


@pytest.fixture(scope="module")
def past() -> SimulatedDeals:
    return simulate_deals(1500, seed=1)


@pytest.fixture(scope="module")
def future() -> SimulatedDeals:
    return simulate_deals(400, seed=2)


@pytest.fixture(scope="module")
def model(past: SimulatedDeals) -> HazardModel:
    return fit_hazards(past.features, past.outcomes, CALENDAR, BINS, catalogue=CATALOGUE, seed=7)


def skill(probability: np.ndarray, truth: np.ndarray) -> float:
    """Share of the way from the base frequency to the truth, in cross-entropy to the true probability."""

    def loss(said: np.ndarray) -> float:
        return float(-(truth * np.log(said) + (1 - truth) * np.log1p(-said)).mean())

    base = loss(np.full(len(truth), truth.mean()))
    return (base - loss(probability)) / (base - loss(truth))


def test_at_a_slow_pace_wins_come_later_and_what_was_learned_stays(past: SimulatedDeals, model: HazardModel) -> None:
    slow = fit_hazards(past.features, past.outcomes, CALENDAR, BINS, catalogue=CATALOGUE, seed=7, pace=0.6)
    assert slow.intensities["won"].to_dict() == model.intensities["won"].to_dict()
    assert slow.pooled.to_dict() == model.pooled.at_pace(0.6, BINS).to_dict() != model.pooled.to_dict()


@pytest.mark.parametrize("days", [30.0, 90.0, 365.0])
def test_the_true_chances_of_deals_never_seen_are_found_at_every_horizon(
    model: HazardModel, future: SimulatedDeals, days: float
) -> None:
    won = model.curves(future.features, CALENDAR).probability_by(days).won
    truth = future.true_probability(days)
    assert skill(won, truth) > 0.75
    assert won.mean() == pytest.approx(truth.mean(), abs=0.04)


def test_a_season_moves_the_wins_of_its_months_and_no_losses(past: SimulatedDeals, model: HazardModel) -> None:
    months = tuple(0.5 if month == 7 else 1.0 for month in range(12))
    quiet = fit_hazards(
        past.features, past.outcomes, CALENDAR, BINS, catalogue=CATALOGUE, seed=7, season=Season(months)
    )
    in_august, in_june = (
        past.features.assign(as_of=pd.Timestamp(day, tz="UTC")) for day in ("2026-08-01", "2026-06-01")
    )
    for moment, factor in ((in_august, 0.5), (in_june, 1.0)):
        with_, without = (each.curves(moment, CALENDAR) for each in (quiet, replace(quiet, season=Season())))
        # The first week lies within one month, the bins after it are a mean over several.
        first = np.flatnonzero(np.diff(with_.edges[0]) > 0)[0]
        assert np.exp(with_.won - without.won)[:, first] == pytest.approx(np.full(len(past.features), factor), rel=0.02)
        assert (with_.lost == without.lost).all()
    # These deals know no August: the fit that believes in one says as much in the long run.
    sums = [each.curves(past.features, CALENDAR).probability_by(365.0).won.sum() for each in (quiet, model)]
    assert sums[0] == pytest.approx(sums[1], rel=0.03)
    again = HazardModel.from_dict(json.loads(json.dumps(quiet.to_dict())))
    assert (again.curves(in_august, CALENDAR).won == quiet.curves(in_august, CALENDAR).won).all()


def test_the_learners_know_more_than_the_pooled_rates_and_each_of_them_does(
    model: HazardModel, future: SimulatedDeals
) -> None:
    truth = future.true_probability(90.0)
    pooled = skill(model.pooled_curves(future.features, CALENDAR).probability_by(90.0).won, truth)
    for weight in (0.0, 1.0):
        assert (
            skill(model.with_weight(weight).curves(future.features, CALENDAR).probability_by(90.0).won, truth) > pooled
        )


def test_with_a_dozen_closings_the_pooled_rates_remain(future: SimulatedDeals) -> None:
    few = simulate_deals(20, seed=5)
    fitted = fit_hazards(few.features, few.outcomes, CALENDAR, BINS, catalogue=CATALOGUE, seed=7)
    assert all(intensity.trees is None for intensity in fitted.intensities.values())
    won = fitted.curves(future.features, CALENDAR).probability_by(90.0).won
    pooled = fitted.pooled_curves(future.features, CALENDAR).probability_by(90.0).won
    assert np.abs(won - pooled).mean() < 0.1


def test_without_a_single_win_chances_are_small_and_finite(past: SimulatedDeals, future: SimulatedDeals) -> None:
    lost = past.outcomes["outcome"] != "won"
    fitted = fit_hazards(
        past.features[lost].reset_index(drop=True), past.outcomes[lost], CALENDAR, BINS, catalogue=CATALOGUE, seed=7
    )
    won = fitted.curves(future.features, CALENDAR).probability_by(365.0).won
    assert np.isfinite(won).all()
    assert won.max() < 0.05


def test_a_model_read_back_says_exactly_the_same(model: HazardModel, future: SimulatedDeals) -> None:
    again = HazardModel.from_dict(json.loads(json.dumps(model.to_dict())))
    said, reread = (each.curves(future.features, CALENDAR) for each in (model, again))
    np.testing.assert_array_equal(said.won, reread.won)
    np.testing.assert_array_equal(said.lost, reread.lost)


def test_the_same_seed_gives_the_same_model_on_one_thread_or_two(past: SimulatedDeals) -> None:
    first, second = (
        fit_hazards(
            past.features.iloc[:3000],
            past.outcomes.iloc[:3000],
            CALENDAR,
            BINS,
            catalogue=CATALOGUE,
            seed=3,
            settings=HazardSettings(rounds=20),
            num_threads=threads,
        ).to_dict()
        for threads in (1, 2)
    )
    assert first == second


@pytest.mark.parametrize("fewer_bins", [0, 1, 2])
def test_a_deal_scores_the_same_alone_and_among_others_to_the_last_digit(
    model: HazardModel, future: SimulatedDeals, fewer_bins: int
) -> None:
    model = replace(model, bins=model.bins[: len(model.bins) - fewer_bins])
    some = future.features.iloc[:40]
    together = model.curves(some, CALENDAR).probability_by(365.0).won
    alone = [model.curves(some.iloc[[row]], CALENDAR).probability_by(365.0).won.item() for row in range(len(some))]
    assert together.tolist() == alone


def test_deals_of_a_stage_never_seen_and_without_a_known_feature_get_a_probability(
    model: HazardModel, future: SimulatedDeals
) -> None:
    blank = future.features.iloc[:1].assign(fit=np.nan, noise=np.nan, days_to_close_date=np.nan)
    blank = blank.assign(stage=pd.Series(["Escrow"], dtype="str"), segment=pd.Series([None], dtype="str"))
    assert 0.05 < model.curves(blank, CALENDAR).probability_by(365.0).won.item() < 0.95


def test_the_pooled_rates_follow_the_stage(model: HazardModel, future: SimulatedDeals) -> None:
    won = model.pooled_curves(future.features, CALENDAR).probability_by(90.0).won
    by_stage = pd.Series(won).groupby(future.features["stage"]).mean()
    assert by_stage["Meeting"] < by_stage["Offer"] < by_stage["Terms"]


def test_bins_chosen_from_the_data_serve_as_well(past: SimulatedDeals, future: SimulatedDeals) -> None:
    bins = choose_bins(past.outcomes["days_observed"].where(past.outcomes["outcome"].notna()).to_numpy())
    fitted = fit_hazards(past.features, past.outcomes, CALENDAR, bins, catalogue=CATALOGUE, seed=7)
    won = fitted.curves(future.features, CALENDAR).probability_by(90.0).won
    assert skill(won, future.true_probability(90.0)) > 0.75
