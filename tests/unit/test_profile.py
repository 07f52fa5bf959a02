import json

import numpy as np
import pandas as pd
import pytest

from models.profile import Profile, find_feature_drift, fit_profiles


def frame(amounts, stages) -> pd.DataFrame:
    count = len(amounts)
    return pd.DataFrame(
        {
            "deal_id": [f"D{row}" for row in range(count)],
            "as_of": pd.Timestamp("2026-01-05", tz="UTC"),
            "amount": np.asarray(amounts, dtype=float),
            "stage": pd.Series(stages, dtype="str"),
        }
    )


def random_frame(seed: int, count: int = 500, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    amounts = np.where(rng.random(count) < 0.1, np.nan, rng.normal(shift, 1.0, count))
    return frame(amounts, rng.choice(["Qualify", "Offer", "Terms"], count, p=[0.5, 0.3, 0.2]))


NAMES = ["amount", "stage"]


def test_the_same_deals_have_no_drift_at_all():
    then = random_frame(1)
    assert [drift.index for drift in find_feature_drift(fit_profiles(then, NAMES), then)] == [0.0, 0.0]


def test_other_deals_of_the_same_kind_stay_within_chance_in_all_but_one_of_a_thousand_cases():
    profiles = fit_profiles(random_frame(1), NAMES)
    drifts = [drift for seed in range(2, 102) for drift in find_feature_drift(profiles, random_frame(seed, 80))]
    assert sum(drift.index > drift.by_chance for drift in drifts) <= 3
    assert max(drift.index for drift in drifts) > 0.2  # which the usual bound alone would call a large change
    assert not any(drift.alarm for drift in drifts if drift.index <= drift.by_chance)


def test_deals_that_moved_by_a_standard_deviation_ring_and_stand_first():
    first, second = find_feature_drift(fit_profiles(random_frame(1), NAMES), random_frame(2, shift=1.0))
    assert (first.name, first.alarm, second.alarm) == ("amount", True, False)


def test_a_column_that_is_gone_is_unknown_everywhere():
    drifts = find_feature_drift(fit_profiles(random_frame(1), NAMES), random_frame(1).drop(columns="amount"))
    assert drifts[0].name == "amount" and drifts[0].alarm
    assert drifts[0].known_share_then == pytest.approx(0.9, abs=0.05) and drifts[0].known_share_now == 0.0


def test_a_value_never_seen_before_is_a_change():
    then, now = random_frame(1), random_frame(2)
    renamed = now.assign(stage=now["stage"].replace("Offer", "Proposal"))
    assert find_feature_drift(fit_profiles(then, NAMES), renamed)[0].name == "stage"


def test_what_all_deals_share_at_a_moment_has_no_profile():
    later = random_frame(2).assign(as_of=pd.Timestamp("2026-02-02", tz="UTC"), days_left=31.0)
    both = pd.concat([random_frame(1).assign(days_left=59.0), later])
    profiles = fit_profiles(both, [*NAMES, "days_left"])
    assert list(profiles) == NAMES and profiles["amount"].deals == 500


def test_profiles_survive_json():
    for profile in fit_profiles(random_frame(1), NAMES).values():
        assert Profile.from_dict(json.loads(json.dumps(profile.to_dict()))) == profile


def test_nothing_known_and_no_deals_are_no_errors():
    unknown = frame([np.nan, np.nan], [None, None])
    unknown.loc[len(unknown)] = ["D2", unknown["as_of"].iloc[0], 1.0, "a"]
    profiles = fit_profiles(unknown, NAMES)
    unknown = unknown.iloc[:2]
    assert [profile.known_share for profile in profiles.values()] == pytest.approx([1 / 3, 1 / 3])
    assert find_feature_drift(profiles, unknown.iloc[:0]) == []
    assert not any(drift.alarm for drift in find_feature_drift(profiles, unknown))
