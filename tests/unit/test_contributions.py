"""What is looked up is what LightGBM's TreeSHAP works out."""

import lightgbm as lgb
import numpy as np
import pytest

from models.contributions import MOST_SPLITS, add_up, tree_tables


def grown(leaves: int, *, holes: bool = True, rows: int = 1500) -> tuple[lgb.Booster, np.ndarray]:
    """Trees with a taste for interactions, and rows they have not seen, with unknown values."""
    random = np.random.default_rng(leaves)
    learn, asked = (random.normal(size=(each, 6)).astype(np.float32).round(1) for each in (rows, 400))
    outcome = np.where(learn[:, 0] * learn[:, 1] > 0, learn[:, 2], -learn[:, 3]) + random.normal(0, 0.1, rows)
    if holes:
        learn[random.random(learn.shape) < 0.2] = np.nan
    asked[random.random(asked.shape) < 0.2] = np.nan
    settings = {"num_leaves": leaves, "min_data_in_leaf": 5, "learning_rate": 0.3, "verbose": -1, "num_threads": 1}
    return lgb.train(settings, lgb.Dataset(learn, outcome), num_boost_round=30), asked


@pytest.mark.parametrize("leaves", [2, 3, 8, MOST_SPLITS + 1])
@pytest.mark.parametrize("holes", [True, False])
def test_contributions_are_lightgbms_whatever_is_unknown(leaves: int, holes: bool) -> None:
    booster, asked = grown(leaves, holes=holes)
    tables = tree_tables(booster)
    assert tables is not None and max(len(table.asked) for table in tables) == leaves - 1
    found = add_up(tables, asked)
    assert found == pytest.approx(booster.predict(asked, pred_contrib=True, num_threads=1), abs=1e-12)
    assert found.sum(axis=1) == pytest.approx(booster.predict(asked, raw_score=True), abs=1e-12)


def test_a_value_on_a_threshold_goes_where_lightgbm_sends_it() -> None:
    booster, _ = grown(8)
    tables = tree_tables(booster)
    assert tables is not None
    edges = np.unique([threshold for table in tables for threshold in table.threshold])
    edges = edges[np.abs(edges) > 1e-30]  # what is next to nothing is nothing to LightGBM
    beside = np.concatenate([edges, np.nextafter(edges, np.float32(np.inf)), np.nextafter(edges, np.float32(-np.inf))])
    asked = np.repeat(beside[:, None], 6, axis=1)
    assert add_up(tables, asked) == pytest.approx(booster.predict(asked, pred_contrib=True), abs=1e-12)


def test_trees_that_found_nothing_add_their_constant_and_large_ones_have_no_table() -> None:
    nothing = lgb.train({"verbose": -1}, lgb.Dataset(np.zeros((50, 2)), np.full(50, 3.0)), num_boost_round=2)
    tables = tree_tables(nothing)
    assert tables is not None
    assert add_up(tables, np.zeros((2, 2), dtype=np.float32)) == pytest.approx(
        nothing.predict(np.zeros((2, 2)), pred_contrib=True)
    )
    assert tree_tables(grown(MOST_SPLITS + 2)[0]) is None
