"""Features of single deals by a kept statement are those of the whole build."""

from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from crm.history import build_history, open_deals
from crm.synthetic import CompanyConfig, export, simulate
from features.build import build_features
from features.live import LiveFeatures
from features.sources import FeatureSources, build_sources


@pytest.fixture(scope="module")
def company() -> tuple[FeatureSources, pd.DataFrame]:
    config = CompanyConfig(seed=3, n_reps=4, n_teams=2, deals_per_week=3.0, days=300, currencies=("USD", "EUR"))
    tables = export(simulate(config))
    history = build_history(tables)
    sources = build_sources(tables, history)
    return sources, build_features(tables, history, open_deals(history, tables.as_of), sources=sources)


@pytest.fixture(scope="module")
def live(company) -> LiveFeatures:
    return LiveFeatures(company[0], company[0].tables.as_of)


def test_each_deal_alone_and_all_together_are_as_in_the_whole_build(company, live):
    whole = company[1]
    pd.testing.assert_frame_equal(live.of(list(whole["deal_id"])), whole)
    for place in range(0, len(whole), 5):
        alone = live.of([whole["deal_id"].iloc[place]])
        pd.testing.assert_frame_equal(alone, whole.iloc[[place]].reset_index(drop=True))


def test_the_order_is_that_of_the_question_and_a_deal_may_be_asked_for_twice(company, live):
    whole = company[1].set_index("deal_id", drop=False)
    asked = [*whole.index[[4, 1]], whole.index[4]]
    pd.testing.assert_frame_equal(live.of(asked), whole.loc[asked].reset_index(drop=True))


def test_asked_from_several_threads_at_once_nobody_gets_anothers_answer(company, live):
    whole = company[1]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda deal_id: live.of([deal_id]), whole["deal_id"]))
    pd.testing.assert_frame_equal(pd.concat(answers, ignore_index=True), whole)


def test_a_deal_that_nobody_knows_has_no_history(live):
    row = live.of(["nobody's"]).iloc[0]
    assert pd.isna(row["stage"]) and pd.isna(row["deal_age_days"]) and row["owner_known"] == 0


def test_some_features_alone_are_the_same(company):
    names = ["deal_age_days", "stage"]
    some = LiveFeatures(company[0], company[0].tables.as_of, names=names)
    whole = company[1][["deal_id", "as_of", *names]]
    pd.testing.assert_frame_equal(some.of(list(whole["deal_id"])), whole)
