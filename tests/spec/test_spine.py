"""The rows asked for are the rows answered: in their order, with their index, each by itself."""

import pandas as pd
import pytest
from crm_by_hand import activity, at, change, crm

from crm.history import build_history, open_deals, snapshot_spine
from features.build import build_features
from features.catalogue import BY_NAME, CATALOGUE
from features.sources import build_sources

DEALS = [
    {
        "deal_id": f"d{n}",
        "created_at": f"2026-01-0{n}",
        "owner_id": f"u{n % 2}",
        "account_id": "a1",
        "amount": 100.0 * n,
    }
    for n in (1, 2, 3, 4)
]
ROWS = [
    change("d2", "2026-02-01", "stage", "Qualify", "Won"),
    change("d3", "2026-02-10", "stage", "Qualify", "Offer"),
    change("d3", "2026-02-20", "amount", "250", "300"),
]
DEALS[1]["stage"], DEALS[2]["stage"] = "Won", "Offer"
TABLES = crm(
    DEALS,
    deal_history=ROWS,
    activities=[activity("2026-01-20", contact_id="c1")],
    tracked=["owner_id", "account_id", "amount"],
)
HISTORY = build_history(TABLES)
SPINE = snapshot_spine(HISTORY, [at("2026-01-15"), at("2026-02-15"), at("2026-03-15")])


def test_order_and_index_of_the_spine_are_kept_and_equal_rows_get_equal_values():
    built = build_features(TABLES, HISTORY, SPINE)
    shuffled = pd.concat([SPINE, SPINE.iloc[[3, 3]]]).sample(frac=1, random_state=3)
    again = build_features(TABLES, HISTORY, shuffled)
    pd.testing.assert_frame_equal(again[["deal_id", "as_of"]], shuffled)
    pd.testing.assert_frame_equal(again, built.loc[shuffled.index])


@pytest.mark.parametrize("place", range(len(SPINE)))
def test_a_deal_scored_alone_gets_what_it_gets_among_all(place):
    alone = build_features(TABLES, HISTORY, SPINE.iloc[[place]])
    pd.testing.assert_frame_equal(alone, build_features(TABLES, HISTORY, SPINE).iloc[[place]])


def test_sources_made_once_serve_any_spine():
    sources = build_sources(TABLES, HISTORY)
    for moment in ("2026-01-15", "2026-03-15"):
        spine = open_deals(HISTORY, at(moment))
        again = build_features(TABLES, HISTORY, spine, sources=sources)
        pd.testing.assert_frame_equal(again, build_features(TABLES, HISTORY, spine))


def test_an_empty_spine_has_all_columns_in_their_types_and_no_rows():
    built = build_features(TABLES, HISTORY, SPINE.head(0))
    assert len(built) == 0
    assert built.dtypes.equals(build_features(TABLES, HISTORY, SPINE).dtypes)


def test_features_are_numbers_or_text_in_the_order_of_the_catalogue():
    built = build_features(TABLES, HISTORY, SPINE)
    assert list(built) == ["deal_id", "as_of", *(declared.name for declared in CATALOGUE)]
    for name, declared in BY_NAME.items():
        assert built[name].dtype == ("str" if declared.kind == "category" else "float64"), name


@pytest.mark.parametrize("family", sorted({declared.family for declared in CATALOGUE}))
def test_only_the_features_asked_for_are_built_and_with_the_same_values(family):
    names = [declared.name for declared in CATALOGUE if declared.family == family]
    part = build_features(TABLES, HISTORY, SPINE, names=names)
    pd.testing.assert_frame_equal(part, build_features(TABLES, HISTORY, SPINE)[["deal_id", "as_of", *names]])


def test_a_deal_nobody_knows_has_no_values():
    stranger = pd.DataFrame({"deal_id": ["x"], "as_of": [at("2026-02-15")]}).astype(SPINE.dtypes)
    built = build_features(
        TABLES, HISTORY, stranger, names=["stage", "deal_age_days", "log_amount", "owner_open_deals"]
    )
    assert built.drop(columns=["deal_id", "as_of"]).isna().all(axis=None)
