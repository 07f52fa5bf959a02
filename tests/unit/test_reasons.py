import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_deals import CALENDAR, CATALOGUE, Declared, SimulatedDeals, simulate_deals

from models.calibration import CauseCalibration, HazardCalibration
from models.hazard import HazardModel, fit_hazards
from models.reasons import Explanation, ReferenceDeal, explain_deals, fit_reference, group_names
from models.reasons import tell_reasons as tell_with
from models.season import Season
from models.typical import FEWEST_DEALS, Typical

BINS = np.array([0.0, 14.0, 30.0, 60.0, 120.0, 365.0])
PAST = simulate_deals(500, seed=11)
CORRECTED = HazardCalibration(CauseCalibration(0.3, 0.8), CauseCalibration(-0.2, 1.1))


@pytest.fixture(scope="module")
def model() -> HazardModel:
    return fit_hazards(PAST.features, PAST.outcomes, CALENDAR, BINS, catalogue=CATALOGUE, seed=1)


@pytest.fixture(scope="module")
def reference(model: HazardModel) -> ReferenceDeal:
    return fit_reference(model, PAST.features, CALENDAR, seed=1)


@pytest.fixture(scope="module")
def future() -> SimulatedDeals:
    return simulate_deals(60, seed=12)


def tell_reasons(*told: Any, **chosen: Any) -> list[list[dict[str, Any]]]:
    """Reasons where nothing is known to be usual, unless the test says what is."""
    return tell_with(*told, **{"typical": Typical({}), **chosen})


def effects_of(explanation: Explanation, name: str) -> np.ndarray:
    return explanation.effects[:, explanation.groups.index(name)]


@settings(max_examples=25, deadline=None)
@given(
    weight=st.floats(0.0, 1.0),
    won=st.tuples(st.floats(-2.0, 2.0), st.floats(0.3, 1.7)),
    lost=st.tuples(st.floats(-2.0, 2.0), st.floats(0.3, 1.7)),
    row=st.integers(0, len(PAST.features) - 1),
    fit=st.floats(-30.0, 30.0) | st.just(float("nan")),
    season=st.sampled_from([Season(), Season(tuple(np.linspace(0.4, 1.6, 12)))]),
)
def test_effects_sum_to_the_difference_from_the_average_deal(
    model: HazardModel,
    reference: ReferenceDeal,
    weight: float,
    won: tuple[float, float],
    lost: tuple[float, float],
    row: int,
    fit: float,
    season: Season,
) -> None:
    blended = replace(model.with_weight(weight), season=season)
    calibration = HazardCalibration(CauseCalibration(*won), CauseCalibration(*lost))
    deal = PAST.features.iloc[[row]].assign(fit=fit)
    told = explain_deals(blended, calibration, reference, deal, CALENDAR)
    difference = 100 * (told.win_probability - told.reference_probability)
    assert told.effects.sum(axis=1) == pytest.approx(difference, abs=1e-6)
    scored = calibration.apply(blended.curves(deal, CALENDAR)).probability_by(365.0).won
    assert told.win_probability == pytest.approx(scored, abs=1e-9)


def test_what_makes_deals_won_has_the_effect_it_truly_has(
    model: HazardModel, reference: ReferenceDeal, future: SimulatedDeals
) -> None:
    told = explain_deals(model, HazardCalibration(), reference, future.features, CALENDAR)
    good, poor = (future.features["fit"] > 0.7).to_numpy(), (future.features["fit"] < -0.7).to_numpy()
    assert (effects_of(told, "fit")[good] > 2).all()
    assert (effects_of(told, "fit")[poor] < -2).all()
    by_stage = pd.Series(effects_of(told, "stage")).groupby(future.features["stage"].to_numpy()).mean()
    assert by_stage["Meeting"] < -3 < 3 < by_stage["Terms"]
    assert np.abs(effects_of(told, "noise")).mean() < 0.3 * np.abs(effects_of(told, "fit")).mean()


def test_deals_are_explained_the_same_alone_and_among_others_to_the_last_digit(
    model: HazardModel, reference: ReferenceDeal, future: SimulatedDeals
) -> None:
    some = future.features.iloc[:20]
    together = explain_deals(model, CORRECTED, reference, some, CALENDAR)
    for row in range(len(some)):
        alone = explain_deals(model, CORRECTED, reference, some.iloc[[row]], CALENDAR)
        np.testing.assert_array_equal(alone.effects[0], together.effects[row])


def test_a_reference_read_back_explains_the_same(
    model: HazardModel, reference: ReferenceDeal, future: SimulatedDeals
) -> None:
    again = ReferenceDeal.from_dict(json.loads(json.dumps(reference.to_dict())))
    first, second = (explain_deals(model, CORRECTED, each, future.features, CALENDAR) for each in (reference, again))
    np.testing.assert_array_equal(first.effects, second.effects)


def test_no_deals_have_no_reasons(model: HazardModel, reference: ReferenceDeal, future: SimulatedDeals) -> None:
    nobody = future.features.iloc[:0]
    told = explain_deals(model, CORRECTED, reference, nobody, CALENDAR)
    assert told.effects.shape == (0, len(told.groups))
    assert tell_reasons(told, nobody, CATALOGUE) == []


def one_deal(**effects: float) -> Explanation:
    return Explanation(tuple(effects), np.array([list(effects.values())]), np.array([0.5]), np.array([0.4]))


def test_reasons_are_the_strongest_first_at_most_five_and_say_the_deals_own_value() -> None:
    names = [f"sign{place}" for place in range(7)]
    explanation = one_deal(**{name: (-1) ** place * (place + 1.0) for place, name in enumerate(names)})
    features = pd.DataFrame([{name: float(place) for place, name in enumerate(names)}])
    reasons = tell_reasons(explanation, features, dict.fromkeys(names, Declared()))[0]
    assert [reason["effect"] for reason in reasons] == [7.0, -6.0, 5.0, -4.0, 3.0]
    assert reasons[0] == {"feature": "sign6", "text": "value 6.0", "effect": 7.0}


def test_what_nobody_may_read_and_what_shows_as_zero_is_not_told() -> None:
    explanation = one_deal(fit=2.0, noise=9.0, days_to_close_date=0.01, undeclared=5.0)
    features = pd.DataFrame([{"fit": 1.0, "noise": 1.0, "days_to_close_date": 3.0, "undeclared": 1.0}])
    assert [reason["feature"] for reason in tell_reasons(explanation, features, CATALOGUE)[0]] == ["fit"]


def test_a_reason_for_the_chain_is_not_told_to_everyone() -> None:
    catalogue = {"fit": replace(CATALOGUE["fit"], audience="chain")}
    features = pd.DataFrame([{"fit": 1.0}])
    assert tell_reasons(one_deal(fit=2.0), features, catalogue, audiences=["everyone"]) == [[]]
    assert len(tell_reasons(one_deal(fit=2.0), features, catalogue)[0]) == 1


def test_texts_say_categories_unknown_values_and_amounts_in_plain_words() -> None:
    catalogue = {**CATALOGUE, "log_amount": Declared(unit="log of base currency", reason="amount of {value}")}
    features = pd.DataFrame([{"stage": "Offer", "fit": np.nan, "log_amount": np.log(12500.0)}])
    reasons = tell_reasons(one_deal(stage=3.0, fit=2.0, log_amount=1.0), features, catalogue)[0]
    assert [reason["text"] for reason in reasons] == ["in stage Offer", "fit unknown: nobody asked", "amount of 12,500"]


def test_two_ways_to_say_the_same_are_one_reason() -> None:
    catalogue = {**CATALOGUE, "stage_rank": Declared()}
    ranked = PAST.features.assign(stage_rank=PAST.features["stage"].map({"Meeting": 1.0, "Offer": 2.0, "Terms": 3.0}))
    fitted = fit_hazards(ranked, PAST.outcomes, CALENDAR, BINS, catalogue=catalogue, seed=1)
    assert "stage_rank" in fitted.encoder.columns
    assert group_names(fitted) == ("fit", "noise", "days_to_close_date", "stage", "segment")


def test_without_close_dates_time_is_no_reason() -> None:
    undated = PAST.features.drop(columns="days_to_close_date")
    fitted = fit_hazards(undated, PAST.outcomes, CALENDAR, BINS, catalogue=CATALOGUE, seed=1)
    reference = fit_reference(fitted, undated, CALENDAR, seed=1)
    deal = undated.iloc[:1]
    told = explain_deals(fitted, HazardCalibration(), reference, deal, CALENDAR)
    assert told.groups[-1] == "clock"
    reasons = tell_reasons(told, deal, CATALOGUE)[0]
    assert {reason["feature"] for reason in reasons} <= {"fit", "stage", "segment"}


def test_features_that_tell_the_same_story_are_one_reason_told_by_the_strongest() -> None:
    days, count = Declared(unit="days", reason="{value:.0f} days silent", topic="silence"), Declared(topic="silence")
    catalogue = {"days": days, "gap": count, "other": count, "alone": Declared()}
    features = pd.DataFrame([{"days": 23.0, "gap": 2.0, "other": 1.0, "alone": 4.0}])
    reasons = tell_reasons(one_deal(days=-9.0, gap=4.0, other=-2.0, alone=6.0), features, catalogue)[0]
    silence = {"feature": "days", "text": "23 days silent", "effect": -7.0}
    assert reasons == [silence, {"feature": "alone", "text": "value 4.0", "effect": 6.0}]


def test_a_story_is_told_by_a_feature_that_points_its_way() -> None:
    catalogue = dict.fromkeys(("loud", "one", "two"), Declared(topic="talk"))
    features = pd.DataFrame([{"loud": 1.0, "one": 2.0, "two": 3.0}])
    told = tell_reasons(one_deal(loud=5.0, one=-4.0, two=-3.0), features, catalogue)[0]
    assert [(reason["feature"], reason["effect"]) for reason in told] == [("one", -2.0)]


def won_from(stage: str, days: list[float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Snapshots of deals won from a stage, one each, and their outcomes."""
    deals = [f"{stage}{place}" for place in range(len(days))]
    return pd.DataFrame({"deal_id": deals, "stage": stage, "days": days}), pd.DataFrame(
        {"outcome": ["won"] * len(days)}
    )


def test_a_reason_says_what_was_usual_for_deals_won_from_the_same_stage() -> None:
    features, outcomes = won_from("Offer", [5.0] * 9 + [6.0] * 3 + [40.0] * 8)
    typical = Typical.fit(features, outcomes, ["days"])
    catalogue = {"days": Declared(unit="days", reason="no word for {value:.0f} days"), "stage": CATALOGUE["stage"]}

    def told(value: float, stage: str) -> str:
        deal = pd.DataFrame([{"days": value, "stage": stage}])
        return str(tell_reasons(one_deal(days=-4.0), deal, catalogue, typical=typical)[0][0]["text"])

    assert told(23.0, "Offer") == "no word for 23 days; deals won from this stage: 6 days"
    assert told(6.2, "Offer") == "no word for 6 days"
    assert told(23.0, "Terms") == "no word for 23 days"


def test_nothing_is_usual_of_few_deals_and_a_deal_seen_often_counts_once() -> None:
    features, outcomes = won_from("Offer", [5.0] * (FEWEST_DEALS - 1))
    again = pd.concat([features, *[features.iloc[:1].assign(days=99.0)] * 50], ignore_index=True)
    won = pd.DataFrame({"outcome": ["won"] * len(again)})
    assert Typical.fit(again, won, ["days"]).of("days", "Offer") is None
    more = pd.concat([again, features.iloc[:1].assign(deal_id="another")], ignore_index=True)
    assert Typical.fit(more, pd.DataFrame({"outcome": ["won"] * len(more)}), ["days"]).of("days", "Offer") == 5.0


def test_what_is_usual_is_learned_of_won_deals_only() -> None:
    features, _ = won_from("Offer", [5.0] * FEWEST_DEALS + [50.0] * 60)
    outcomes = pd.DataFrame({"outcome": ["won"] * FEWEST_DEALS + ["lost"] * 30 + [None] * 30})
    assert Typical.fit(features, outcomes, ["days"]).of("days", "Offer") == 5.0
