"""Trees keep to the declared directions of features, unless the data speak against them."""

from dataclasses import replace

import numpy as np
import pytest
from simulated_deals import CALENDAR, CATALOGUE, simulate_deals

from models.directions import allowed_direction
from models.hazard import HazardModel, fit_hazards

BINS = np.array([0.0, 14.0, 30.0, 60.0, 120.0, 365.0])
PAST = simulate_deals(600, seed=3)


def model_with(direction: str) -> HazardModel:
    """Fitted with that direction declared of the feature `fit`, which truly makes deals won."""
    catalogue = {**CATALOGUE, "fit": replace(CATALOGUE["fit"], higher_is=direction)}
    return fit_hazards(PAST.features, PAST.outcomes, CALENDAR, BINS, catalogue=catalogue, seed=1)


@pytest.fixture(scope="module")
def agreed() -> HazardModel:
    return model_with("better")


def test_what_is_better_never_speaks_against_winning_nor_for_losing(agreed: HazardModel) -> None:
    deal = PAST.features.iloc[:40]
    steps = [agreed.margins(deal.assign(fit=value), CALENDAR).trees for value in np.linspace(-4.0, 4.0, 60)]
    for before, after in zip(steps, steps[1:], strict=False):
        assert (after["won"] >= before["won"] - 1e-9).all()
        assert (after["lost"] <= before["lost"] + 1e-9).all()
    assert (steps[-1]["won"] > steps[0]["won"]).all()
    assert agreed.contradicted == ()


def test_without_a_declaration_trees_go_as_they_like() -> None:
    deal = PAST.features.iloc[:40]
    free = model_with("neutral")
    steps = [free.margins(deal.assign(fit=value), CALENDAR).trees["won"] for value in np.linspace(-4.0, 4.0, 60)]
    assert any((after < before - 1e-9).any() for before, after in zip(steps, steps[1:], strict=False))


def test_a_declaration_that_the_data_speak_against_is_dropped_and_named(agreed: HazardModel) -> None:
    wrong = model_with("worse")
    assert wrong.contradicted == ("fit",)
    deal = PAST.features.iloc[:40]
    low, high = (wrong.margins(deal.assign(fit=value), CALENDAR).trees["won"] for value in (-2.0, 2.0))
    assert (high > low).all()
    assert HazardModel.from_dict(wrong.to_dict()).contradicted == ("fit",)


def test_what_may_be_chance_contradicts_nothing() -> None:
    inputs = np.array([[1.0], [2.0], [3.0], [4.0], [np.nan]])
    closings = {"events": np.array([1.0, 1.0, 0.0, 0.0, 1.0]), "expected": np.full(5, 0.5)}
    few = allowed_direction(inputs, np.array([1]), **closings, rows_per_deal=1.0)
    many = allowed_direction(
        np.repeat(inputs, 20, axis=0),
        np.array([1]),
        rows_per_deal=1.0,
        **{name: np.repeat(values, 20) for name, values in closings.items()},
    )
    assert (few.tolist(), many.tolist()) == ([1], [0])


def test_a_deal_seen_often_is_one_piece_of_evidence() -> None:
    inputs = np.repeat([[1.0], [2.0], [3.0], [4.0]], 20, axis=0)
    closings = {"events": np.repeat([1.0, 1.0, 0.0, 0.0], 20), "expected": np.full(80, 0.5)}
    assert allowed_direction(inputs, np.array([1]), **closings, rows_per_deal=20.0).tolist() == [1]


def test_nothing_known_of_an_input_contradicts_nothing() -> None:
    empty = np.full((4, 1), np.nan)
    closings = {"events": np.ones(4), "expected": np.ones(4)}
    assert allowed_direction(empty, np.array([-1]), **closings, rows_per_deal=1.0).tolist() == [-1]
