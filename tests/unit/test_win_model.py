import numpy as np
import pandas as pd
import pytest
from simulated_deals import CALENDAR, CATALOGUE, simulate_deals
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_estimator

from models.bins import choose_bins
from models.hazard import fit_hazards
from training.win_model import WinModel

EXPECTED_TO_FAIL: dict[str, str] = {}
"""Checks of scikit-learn that cannot hold, each with the reason."""
NOT_OFFERED = {"check_array_api_input": "other arrays than NumPy's are not offered: fitting is LightGBM and NumPy"}


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
def test_it_keeps_scikit_learns_contract():
    results = check_estimator(
        WinModel(rounds=30), expected_failed_checks=EXPECTED_TO_FAIL, on_skip=None, on_fail="raise"
    )
    passed = [each["check_name"] for each in results if each["status"] == "passed"]
    others = {each["check_name"]: each["status"] for each in results if each["status"] != "passed"}
    assert len(passed) > 50 and set(others) == {*NOT_OFFERED, *EXPECTED_TO_FAIL}, others


@pytest.fixture(scope="module")
def past():
    return simulate_deals(600, seed=1)


@pytest.fixture(scope="module")
def model(past):
    return WinModel(calendar=CALENDAR).fit(past.features, past.outcomes)


def test_it_is_the_model_that_training_fits(past, model):
    days = past.outcomes["days_observed"].where(past.outcomes["outcome"].notna()).to_numpy()
    fitted = fit_hazards(
        past.features, past.outcomes, CALENDAR, choose_bins(days), catalogue=CATALOGUE, seed=7, num_threads=1
    )
    assert model.kinds_ == {name: CATALOGUE[name].kind for name in model.kinds_}
    said = model.probability_by(past.features, 90.0)["won"].to_numpy()
    np.testing.assert_array_equal(said, fitted.curves(past.features, CALENDAR).probability_by(90.0).won)


def test_the_true_chances_of_deals_never_seen_are_found_also_from_deals_that_are_still_open(model):
    future = simulate_deals(300, seed=2)
    said = model.probability_by(future.features, 90.0)
    assert np.corrcoef(said["won"], future.true_probability(90.0))[0, 1] > 0.85
    assert said.sum(axis=1).to_numpy() == pytest.approx(1.0)
    longer = model.probability_by(future.features, 200.0)
    assert (longer["won"] >= said["won"]).all() and (longer["still_open"] <= said["still_open"]).all()


def test_the_rows_may_come_in_any_order_with_any_index(past, model):
    some = past.features.iloc[[5, 900, 17]]
    turned = model.probability_by(some, 60.0)
    assert list(turned.index) == [5, 900, 17]
    whole = model.probability_by(past.features, 60.0).loc[[5, 900, 17]]
    pd.testing.assert_frame_equal(turned, whole, check_exact=False, rtol=1e-9)


def shop(rows: int, *, seed: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Rows with a number, a category and a truth; labels, and the chance they were drawn with."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {"meetings": random.poisson(2, rows).astype(float), "source": random.choice(["partner", "web"], rows)}
    )
    chance = 1 / (1 + np.exp(-(frame["meetings"] - 2.5 + 1.5 * (frame["source"] == "partner"))))
    frame.loc[random.random(rows) < 0.05, "meetings"] = np.nan
    return frame, np.where(random.random(rows) < chance, "won", "lost"), chance.to_numpy()


def test_labels_alone_give_the_chance_to_be_won_in_the_end():
    seen, labels, _ = shop(3000, seed=1)
    new, _, chance = shop(1000, seed=2)
    model = WinModel().fit(seen, labels)
    assert list(model.classes_) == ["lost", "won"] and model.kinds_ == {"meetings": "number", "source": "category"}
    said = model.predict_proba(new)[:, 1]
    known = new["meetings"].notna().to_numpy()
    assert np.abs(said - chance)[known].mean() < 0.05
    assert set(model.predict(new)) == {"lost", "won"}


def test_values_never_seen_and_unknown_ones_get_a_probability():
    seen, labels, _ = shop(500, seed=3)
    odd = pd.DataFrame({"meetings": [np.nan, 3.0], "source": [None, "fair"]})
    assert np.isfinite(WinModel().fit(seen, labels).predict_proba(odd)).all()


def test_it_can_be_cloned_and_searched():
    seen, labels, _ = shop(300, seed=4)
    assert clone(WinModel(leaves=5)).get_params()["leaves"] == 5
    search = GridSearchCV(WinModel(rounds=10), {"linear_deals": [5.0, 500.0]}, cv=3, scoring="neg_log_loss")
    assert search.fit(seen, labels).best_params_["linear_deals"] in (5.0, 500.0)


def test_what_does_not_fit_together_is_refused():
    seen, labels, _ = shop(100, seed=5)
    with pytest.raises(ValueError, match="inconsistent"):
        WinModel().fit(seen, labels[:50])
    with pytest.raises(ValueError, match="one class"):
        WinModel().fit(seen, np.full(100, "won"))
    with pytest.raises(ValueError, match="binary"):
        WinModel().fit(seen, np.arange(100) % 3)
