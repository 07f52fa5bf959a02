import json

import numpy as np
import pytest
from simulated_deals import CALENDAR, CATALOGUE, SimulatedDeals, simulate_deals

from models.calibration import CauseCalibration, HazardCalibration
from models.hazard import HazardModel, fit_hazards
from models.uncertainty import WinRange, fit_range

BINS = np.array([0.0, 14.0, 30.0, 60.0, 120.0, 365.0])
UNCHANGED = HazardCalibration()


def fitted(deals: int) -> tuple[HazardModel, WinRange]:
    past = simulate_deals(deals, seed=deals)
    model = fit_hazards(past.features, past.outcomes, CALENDAR, BINS, catalogue=CATALOGUE, seed=1)
    return model, fit_range(model, past.features, past.outcomes, CALENDAR, seed=1)


@pytest.fixture(scope="module")
def few() -> tuple[HazardModel, WinRange]:
    return fitted(150)


@pytest.fixture(scope="module")
def many() -> tuple[HazardModel, WinRange]:
    return fitted(900)


@pytest.fixture(scope="module")
def future() -> SimulatedDeals:
    return simulate_deals(250, seed=3)


def low_high(
    pair: tuple[HazardModel, WinRange], deals: SimulatedDeals, calibration: HazardCalibration = UNCHANGED
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    model, win_range = pair
    won = calibration.apply(model.curves(deals.features, CALENDAR)).probability_by(365.0).won
    low, high = win_range.low_high(model, calibration, deals.features, CALENDAR, win_probability=won)
    return low, won, high


@pytest.mark.parametrize("size", ["few", "many"])
def test_most_true_probabilities_lie_in_the_range(
    size: str, future: SimulatedDeals, request: pytest.FixtureRequest
) -> None:
    low, won, high = low_high(request.getfixturevalue(size), future)
    truth = future.true_probability(365.0)
    assert ((low <= won) & (won <= high)).all()
    assert ((low <= truth) & (truth <= high)).mean() > 0.8


def test_more_deals_make_the_range_narrower(
    few: tuple[HazardModel, WinRange], many: tuple[HazardModel, WinRange], future: SimulatedDeals
) -> None:
    widths = [(high - low).mean() for low, _, high in (low_high(few, future), low_high(many, future))]
    assert widths[1] < 0.75 * widths[0]


def test_an_unsure_calibration_widens_the_range(many: tuple[HazardModel, WinRange], future: SimulatedDeals) -> None:
    unsure = HazardCalibration(CauseCalibration(spread=0.5), CauseCalibration(spread=0.5))
    (low, _, high), (lower, _, higher) = low_high(many, future), low_high(many, future, unsure)
    assert (lower < low).all()
    assert (higher > high).all()


def test_a_range_read_back_is_the_same(many: tuple[HazardModel, WinRange], future: SimulatedDeals) -> None:
    again = many[0], WinRange.from_dict(json.loads(json.dumps(many[1].to_dict())))
    for said, reread in zip(low_high(many, future), low_high(again, future), strict=True):
        np.testing.assert_array_equal(said, reread)


def test_no_deals_have_no_ranges(many: tuple[HazardModel, WinRange], future: SimulatedDeals) -> None:
    nobody = SimulatedDeals(future.features.iloc[:0], future.outcomes.iloc[:0], np.zeros(0), np.zeros(0))
    assert [len(each) for each in low_high(many, nobody)] == [0, 0, 0]
