import json

import numpy as np
import pandas as pd
import pytest
from simulated_deals import Declared

from models.encoding import FeatureEncoder

CATALOGUE = {"stage": Declared(kind="category"), "amount": Declared(), "constant": Declared(), "empty": Declared()}


def snapshots(stages: list[str | None], deals: list[str] | None = None) -> pd.DataFrame:
    rows = range(len(stages))
    return pd.DataFrame(
        {
            "deal_id": deals or [f"D{row}" for row in rows],
            "stage": pd.Series(stages, dtype="str"),
            "amount": [float(row) for row in rows],
            "constant": 1.0,
            "empty": np.nan,
        }
    )


def outcomes(*ended: str | None) -> pd.DataFrame:
    return pd.DataFrame({"outcome": pd.Series(ended, dtype="str")})


def test_constant_and_empty_features_are_dropped_and_what_is_not_declared_is_passed_over() -> None:
    features = snapshots(["a", "b"]).assign(undeclared=[1.0, 2.0])
    assert FeatureEncoder.fit(features, CATALOGUE, outcomes=outcomes("won", "lost")).columns == ("stage", "amount")


def test_a_text_that_differs_from_deal_to_deal_is_dropped() -> None:
    notes = snapshots([f"note {row}" for row in range(60)])
    assert FeatureEncoder.fit(notes, CATALOGUE, outcomes=outcomes(*["won"] * 60)).columns == ("amount",)
    shared = snapshots([f"city {row // 3}" for row in range(63)])
    assert FeatureEncoder.fit(shared, CATALOGUE, outcomes=outcomes(*["won"] * 63)).columns == ("stage", "amount")


def test_a_feature_that_the_frame_no_longer_has_is_unknown() -> None:
    features = snapshots(["a", "b"])
    encoder = FeatureEncoder.fit(features, CATALOGUE, outcomes=outcomes("won", "lost"))
    encoded = encoder.transform(features.drop(columns="stage"))
    assert np.isnan(encoded[:, 0]).all() and encoded[:, 1].tolist() == [0.0, 1.0]


def test_a_category_that_wins_more_has_a_higher_code_shrunk_to_the_overall_rate() -> None:
    encoder = FeatureEncoder.fit(
        snapshots(["a"] * 10 + ["b"] * 10), CATALOGUE, outcomes=outcomes(*["won"] * 10, *["lost"] * 10)
    )
    codes = encoder.categories["stage"]
    # 10 wins of 10, with 10 deals of prior at one half: 15 of 20.
    assert codes["a"] == pytest.approx(np.log(0.75 / 0.25))
    assert codes["b"] == pytest.approx(-np.log(0.75 / 0.25))


def test_a_deal_seen_often_counts_once() -> None:
    once = FeatureEncoder.fit(snapshots(["a", "b"]), CATALOGUE, outcomes=outcomes("won", "lost"))
    often = FeatureEncoder.fit(
        snapshots(["a"] * 5 + ["b"], ["D0"] * 5 + ["D1"]), CATALOGUE, outcomes=outcomes(*["won"] * 5, "lost")
    )
    assert often.categories["stage"] == pytest.approx(once.categories["stage"])


def test_open_deals_say_nothing_about_a_categorys_win_rate() -> None:
    with_open = FeatureEncoder.fit(snapshots(["a", "b", "a"]), CATALOGUE, outcomes=outcomes("won", "lost", None))
    without = FeatureEncoder.fit(snapshots(["a", "b"]), CATALOGUE, outcomes=outcomes("won", "lost"))
    assert with_open.categories == without.categories


def test_unseen_and_unknown_categories_are_missing_and_the_unseen_are_counted() -> None:
    encoder = FeatureEncoder.fit(snapshots(["a", "b"]), CATALOGUE, outcomes=outcomes("won", "lost"))
    later = snapshots(["a", "new", None, "new"])
    assert np.isnan(encoder.transform(later)[:, 0]).tolist() == [False, True, True, True]
    assert encoder.unseen(later) == {"stage": 2}
    assert encoder.unseen(snapshots(["a", None])) == {}


def test_infinite_values_are_unknown() -> None:
    encoder = FeatureEncoder.fit(snapshots(["a", "b"]), CATALOGUE, outcomes=outcomes("won", "lost"))
    assert np.isnan(encoder.transform(snapshots(["a"]).assign(amount=np.inf))[0, 1])


def test_what_is_read_back_encodes_the_same() -> None:
    features = snapshots(["a", "b", None])
    encoder = FeatureEncoder.fit(features, CATALOGUE, outcomes=outcomes("won", "lost", "lost"))
    again = FeatureEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    np.testing.assert_array_equal(again.transform(features), encoder.transform(features))
