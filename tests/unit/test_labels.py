import pandas as pd
import pytest

from crm.calendar import Calendar
from crm.contract import empty_frame
from crm.history import build_history
from crm.tables import CrmTables
from training.labels import label_outcomes, won_in_period, won_within

WON, LOST, DELETED, MERGED, REOPENED, OPEN = "won", "lost", "deleted", "merged", "reopened", "open"


def day(number):
    return pd.Timestamp("2026-01-01", tz="UTC") + pd.Timedelta(days=number)


@pytest.fixture(scope="module")
def history():
    """Six deals created on day 0; what ends, ends on day 10; the reopened one was lost then and is won on day 30."""
    names = [WON, LOST, DELETED, MERGED, REOPENED, OPEN]
    deals = pd.DataFrame(
        {
            "deal_id": names,
            "created_at": [day(0)] * 6,
            "stage": ["Won", "Lost", "Talk", "Talk", "Won", "Talk"],
            "deleted_at": [None, None, day(10), day(10), None, None],
            "merged_into": [None, None, None, OPEN, None, None],
            "_first_seen_at": [None] * 6,
        }
    ).astype({"deal_id": "str", "stage": "str", "merged_into": "str"})
    for column in ("created_at", "deleted_at", "_first_seen_at"):
        deals[column] = pd.to_datetime(deals[column], utc=True).astype("datetime64[us, UTC]")
    rows = [
        (WON, 10, "Talk", "Won"),
        (LOST, 10, "Talk", "Lost"),
        (REOPENED, 10, "Talk", "Lost"),
        (REOPENED, 20, "Lost", "Talk"),
        (REOPENED, 30, "Talk", "Won"),
    ]
    changes = pd.DataFrame(
        [(deal, day(at), "stage", old, new) for deal, at, old, new in rows],
        columns=["deal_id", "changed_at", "field", "old_value", "new_value"],
    ).astype({"changed_at": "datetime64[us, UTC]"})
    stages = pd.DataFrame(
        {
            "stage": ["Talk", "Won", "Lost"],
            "sort_order": [1.0, 2.0, 3.0],
            "is_closed": [False, True, True],
            "is_won": [False, True, False],
        }
    ).astype({"is_closed": "boolean", "is_won": "boolean"})
    tables = {"deals": deals, "deal_history": pd.concat([empty_frame("deal_history"), changes]), "stages": stages}
    return build_history(CrmTables(tables, Calendar("EUR"), day(100), "000001", {}))


def spine(*deals, at=5):
    return pd.DataFrame({"deal_id": list(deals), "as_of": [day(at)] * len(deals)}).astype(
        {"deal_id": "str", "as_of": "datetime64[us, UTC]"}
    )


def test_a_snapshot_is_labelled_with_its_first_closing(history):
    outcomes = label_outcomes(history, spine(WON, LOST, REOPENED), day(100))
    assert list(outcomes["outcome"]) == ["won", "lost", "lost"]
    assert list(outcomes["days_observed"]) == [5, 5, 5]
    assert list(label_outcomes(history, spine(REOPENED, at=25), day(100))["outcome"]) == ["won"]


def test_a_deleted_deal_was_lost_and_a_merged_one_is_watched_until_it_was_merged(history):
    outcomes = label_outcomes(history, spine(DELETED, MERGED), day(100))
    assert outcomes["outcome"].iloc[0] == "lost" and pd.isna(outcomes["outcome"].iloc[1])
    assert list(outcomes["days_observed"]) == [5, 5]


def test_nothing_is_known_after_the_training_moment(history):
    outcomes = label_outcomes(history, spine(WON, OPEN), day(9))
    assert outcomes["outcome"].isna().all()
    assert list(outcomes["days_observed"]) == [4, 4]


def test_a_closing_at_the_very_training_moment_is_known(history):
    assert list(label_outcomes(history, spine(WON), day(10))["outcome"]) == ["won"]


def test_labels_stand_in_the_order_of_the_spine(history):
    mixed = pd.concat([spine(WON), spine(LOST, at=1), spine(OPEN, at=3), spine(LOST)], ignore_index=True).set_axis(
        [7, 3, 9, 1]
    )
    outcomes = label_outcomes(history, mixed, day(100))
    assert list(outcomes.index) == [7, 3, 9, 1]
    assert list(outcomes["days_observed"]) == [5, 9, 97, 5]


def test_a_deal_open_at_the_end_of_its_period_was_not_won_in_it(history):
    ends = pd.Series([day(11), day(10), day(30), day(31), day(11)]).astype("datetime64[us, UTC]")
    rows = pd.concat([spine(WON, WON), spine(REOPENED, REOPENED, at=25), spine(DELETED)], ignore_index=True)
    assert list(won_in_period(history, rows, ends)) == [1, 0, 0, 1, 0]


def test_a_deal_merged_away_inside_the_period_is_not_judged(history):
    ends = pd.Series([day(11), day(8)]).astype("datetime64[us, UTC]")
    judged = won_in_period(history, spine(MERGED, MERGED), ends)
    assert pd.isna(judged.iloc[0]) and judged.iloc[1] == 0


def test_won_within_counts_days_from_the_snapshot(history):
    assert list(won_within(history, spine(WON, WON), 6)) == [1, 1]
    assert list(won_within(history, spine(WON), 4)) == [0]


def test_a_closed_deal_cannot_be_a_snapshot(history):
    with pytest.raises(ValueError, match="was not open"):
        label_outcomes(history, spine(WON, at=15), day(100))
