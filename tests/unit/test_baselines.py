import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from simulated_deals import Declared, simulate_deals

from models.baselines import BASELINES, Baseline, baseline_from_dict, fit_baselines, left_out
from models.baselines.category_win_rate import CategoryWinRate
from models.baselines.naive_bayes import NaiveBayes
from models.baselines.stage_probability import StageProbability

TEXT = Declared(kind="category")
CATALOGUE = {
    **dict.fromkeys(("stage", "segment", "forecast_category"), TEXT),
    **dict.fromkeys(("fit", "noise", "stage_rank", "days_to_close_date", "days_to_period_end"), Declared()),
}
STAGES = pd.DataFrame(
    {"stage": ["Meeting", "Offer", "Terms", "Won"], "default_probability": [0.1, 0.4, 0.7, 1.0], "pipeline": None}
).astype({"pipeline": "str"})


@pytest.fixture(scope="module")
def features() -> pd.DataFrame:
    simulated = simulate_deals(300, seed=4).features
    rank = simulated["stage"].map({"Meeting": 1.0, "Offer": 2.0, "Terms": 3.0})
    category = simulated["stage"].map({"Meeting": "pipeline", "Offer": "best_case", "Terms": "commit"}).astype("str")
    return simulated.assign(stage_rank=rank, forecast_category=category, days_to_period_end=45.0)


@pytest.fixture(scope="module")
def won(features: pd.DataFrame) -> np.ndarray:
    odds = features["fit"].fillna(0.0) + features["stage_rank"] - 3.0
    return (np.random.default_rng(0).random(len(features)) < 1 / (1 + np.exp(-odds))).astype(float)


@pytest.fixture(scope="module")
def fitted(features: pd.DataFrame, won: np.ndarray) -> dict[str, Baseline]:
    return fit_baselines(features, won, catalogue=CATALOGUE, stages=STAGES)


def snapshots(**columns: object) -> pd.DataFrame:
    frame = pd.DataFrame(columns)
    return frame.assign(deal_id=[f"D{row}" for row in range(len(frame))])


def test_all_seven_are_fitted_under_the_contracts_names(fitted: dict[str, Baseline]) -> None:
    assert tuple(fitted) == BASELINES
    assert [baseline.name for baseline in fitted.values()] == list(BASELINES)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_read_back_predicts_the_same_probabilities(
    name: str, fitted: dict[str, Baseline], features: pd.DataFrame
) -> None:
    said = fitted[name].predict(features)
    again = baseline_from_dict(json.loads(json.dumps(fitted[name].to_dict())))
    np.testing.assert_array_equal(again.predict(features), said)
    assert ((said > 0) & (said < 1)).all()


@pytest.mark.parametrize("name", ["stage_win_rate", "forecast_category", "logistic_regression"])
def test_what_learns_beats_the_base_rate(
    name: str, fitted: dict[str, Baseline], features: pd.DataFrame, won: np.ndarray
) -> None:
    def log_loss(baseline: Baseline) -> float:
        said = baseline.predict(features)
        return float(-(won * np.log(said) + (1 - won) * np.log1p(-said)).mean())

    assert log_loss(fitted[name]) < log_loss(fitted["base_rate"]) - 0.02


def test_naive_bayes_ranks_deals_even_where_it_counts_the_same_sign_twice(
    fitted: dict[str, Baseline], features: pd.DataFrame, won: np.ndarray
) -> None:
    said = fitted["naive_bayes"].predict(features)
    ahead = (said[won == 1][:, None] > said[won == 0]).mean()
    behind = (said[won == 1][:, None] < said[won == 0]).mean()
    assert ahead > behind + 0.2


@pytest.mark.parametrize("name", BASELINES)
def test_values_never_seen_and_unknown_values_get_a_probability(name: str, fitted: dict[str, Baseline]) -> None:
    blank = snapshots(stage=["Escrow", np.nan], segment=["Z", np.nan], forecast_category=["upside", np.nan])
    numbers = dict.fromkeys(("fit", "noise", "stage_rank", "days_to_close_date"), np.nan)
    said = fitted[name].predict(blank.assign(**numbers, days_to_period_end=45.0))
    assert ((said > 0) & (said < 1)).all()


def test_the_crms_probability_counts_only_for_deals_due_in_the_period() -> None:
    baseline = StageProbability.fit(STAGES)
    deals = snapshots(stage=["Offer"] * 4, days_to_close_date=[44.0, 45.0, -3.0, np.nan], days_to_period_end=45.0)
    assert baseline.predict(deals).tolist() == [0.4, 0.005, 0.4, 0.4]


def test_a_stage_has_the_probability_of_its_own_pipeline() -> None:
    stages = pd.DataFrame(
        {"stage": ["Offer", "Offer"], "pipeline": ["new", "renewal"], "default_probability": [0.2, 0.8]}
    )
    baseline = StageProbability.fit(stages)
    deals = snapshots(stage=["Offer", "Offer"], pipeline=["new", "renewal"])
    assert baseline.predict(deals).tolist() == [0.2, 0.8]


def test_a_stage_seen_for_ten_deals_is_believed_half() -> None:
    deals = snapshots(stage=["A"] * 10 + ["B"] * 10)
    baseline = CategoryWinRate.fit("stage_win_rate", ("stage",), deals, np.repeat([1.0, 0.0], 10))
    # 10 wins and 10 deals at the overall rate of one half: 15 of 20.
    assert baseline.predict(deals)[[0, 10]] == pytest.approx([0.75, 0.25])


def test_deals_due_and_deals_due_later_have_rates_of_their_own() -> None:
    deals = snapshots(stage=["A"] * 40, days_to_close_date=[10.0] * 20 + [90.0] * 20, days_to_period_end=[45.0] * 40)
    baseline = CategoryWinRate.fit("stage_win_rate", ("stage",), deals, np.repeat([1.0, 0.0], 20))
    due, later = baseline.predict(deals)[[0, 20]]
    assert due > 0.7
    assert later < 0.3


def test_naive_bayes_counts_a_loser_in_all_stages_up_to_its_own() -> None:
    deals = snapshots(stage_rank=[1.0, 1.0, 1.0, 2.0])
    baseline = NaiveBayes.fit(deals, np.array([0.0, 0.0, 1.0, 0.0]), [])
    # Three others reach stage 1 and one of them stage 2; the winner counts in both.
    assert baseline.stage_ratio == pytest.approx([0.0, -np.log(1.1 / 3.1)])
    odds = np.log(1.1 / 3.1) - np.log(1.1 / 3.1)
    assert baseline.predict(deals)[3] == pytest.approx(1 / (1 + np.exp(-odds)))


def test_what_lacks_its_input_is_left_out_with_the_reason(features: pd.DataFrame, won: np.ndarray) -> None:
    bare = features.drop(columns="forecast_category")
    assert set(left_out(bare, won)) == {"stage_probability", "forecast_category"}
    assert set(fit_baselines(bare, won, catalogue=CATALOGUE)) == set(BASELINES) - {
        "stage_probability",
        "forecast_category",
    }


def test_where_all_ended_alike_only_counts_are_fitted(features: pd.DataFrame) -> None:
    fitted = fit_baselines(features, np.zeros(len(features)), catalogue=CATALOGUE)
    assert set(fitted) == {"base_rate", "stage_win_rate", "forecast_category"}


def test_without_snapshots_there_are_no_baselines(features: pd.DataFrame) -> None:
    assert fit_baselines(features.iloc[:0], np.zeros(0), catalogue=CATALOGUE) == {}


def test_importing_the_baselines_does_not_import_scikit_learn() -> None:
    code = (
        "import sys, models.baselines, models.hazard, models.reasons; sys.exit('sklearn.linear_model' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
