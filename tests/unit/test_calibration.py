import json

import numpy as np
import pytest

from models.calibration import CauseCalibration, HazardCalibration
from models.curves import Curves


def said_and_seen(
    intercept: float, slope: float, rows: int, *, periods: int = 600, seed: int = 0
) -> dict[str, np.ndarray]:
    """Margins, days at risk, closings where the true log-intensity is intercept + slope x margin, and their periods."""
    rng = np.random.default_rng(seed)
    margins = rng.normal(-4.0, 0.8, rows)
    exposure = rng.uniform(1.0, 14.0, rows)
    events = rng.poisson(np.exp(intercept + slope * margins) * exposure)
    return {"margins": margins, "exposure": exposure, "events": events, "periods": np.arange(rows) % periods}


def test_a_slope_that_is_off_is_found_again_whatever_the_level() -> None:
    for intercept in (-0.9, -1.6):
        fitted = CauseCalibration.fit(**said_and_seen(intercept, 0.7, 60_000))
        assert fitted.slope == pytest.approx(0.7, abs=0.03)


def test_how_far_past_fits_were_off_in_level_is_not_passed_on() -> None:
    for periods in (1, 600):
        fitted = CauseCalibration.fit(**said_and_seen(-0.5, 1.0, 60_000, periods=periods))
        assert fitted.apply(np.array([-4.0]))[0] == pytest.approx(-4.0, abs=0.03)


def test_what_is_said_of_the_typical_deal_stays() -> None:
    seen = said_and_seen(-0.9, 0.7, 60_000)
    typical = np.average(seen["margins"], weights=seen["exposure"] * np.exp(seen["margins"]))
    assert CauseCalibration.fit(**seen).apply(np.array([typical]))[0] == pytest.approx(typical, abs=0.01)


def test_without_evidence_nothing_is_corrected() -> None:
    empty = np.zeros((0, 3))
    fitted = HazardCalibration.fit({"won": empty, "lost": empty}, empty, {"won": empty, "lost": empty}, periods=empty)
    assert fitted == HazardCalibration()


def test_ten_deals_move_the_identity_less_than_ten_thousand() -> None:
    few, many = (CauseCalibration.fit(**said_and_seen(0.5, 1.2, rows, seed=3)) for rows in (60, 60_000))
    assert abs(few.slope - 1.0) < 0.05 < abs(many.slope - 1.0)
    assert few.spread > 5 * many.spread


def test_a_deal_seen_ten_times_is_one_piece_of_evidence() -> None:
    seen = said_and_seen(0.5, 1.2, 500, periods=4)
    once = CauseCalibration.fit(**seen)
    tenfold = CauseCalibration.fit(**{name: np.tile(x, 10) for name, x in seen.items()}, snapshots_per_deal=10.0)
    assert (tenfold.intercept, tenfold.slope) == pytest.approx((once.intercept, once.slope))
    assert tenfold.spread == pytest.approx(once.spread)


def test_one_odd_period_is_luck_and_many_are_a_habit() -> None:
    one, many = (CauseCalibration.fit(**said_and_seen(-0.9, 0.7, 60_000, periods=count)) for count in (1, 600))
    assert 0.9 < one.slope < 1.0
    assert many.slope == pytest.approx(0.7, abs=0.03)


def test_curves_that_were_moved_first_are_corrected_as_moved() -> None:
    calibration = HazardCalibration(CauseCalibration(0.5, 0.9, 0.1), CauseCalibration(-0.25, 1.1, 0.2))
    curves = Curves(np.array([[0.0, 7.0]]), np.array([[-3.0]]), np.array([[-2.0]]))
    at_once, one_by_one = (
        calibration.after({"won": 0.4, "lost": -0.3}).apply(curves),
        calibration.apply(curves.shifted(won=0.4, lost=-0.3)),
    )
    assert at_once.won.item() == pytest.approx(one_by_one.won.item())
    assert at_once.lost.item() == pytest.approx(one_by_one.lost.item())
    assert calibration.after({"won": 0.4, "lost": -0.3}).spread == calibration.spread


def test_each_cause_is_corrected_by_its_own_numbers_and_read_back_the_same() -> None:
    fitted = HazardCalibration(CauseCalibration(0.5, 0.9, 0.1), CauseCalibration(-0.25, 1.1, 0.2))
    curves = fitted.apply(Curves(np.array([[0.0, 7.0]]), np.array([[-3.0]]), np.array([[-2.0]])))
    assert curves.won.item() == pytest.approx(0.5 - 2.7)
    assert curves.lost.item() == pytest.approx(-0.25 - 2.2)
    assert HazardCalibration.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted
