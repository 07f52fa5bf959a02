"""Days are counted where the company is, ages from the opening that counts."""

import pytest
from crm_by_hand import change, crm, feature_of

from crm.history import build_history

DEAL = {"deal_id": "d1", "created_at": "2026-01-01", "stage": "Qualify", "close_date": "2026-03-10"}


@pytest.mark.parametrize(
    ("time_zone", "moment", "days"),
    [
        ("UTC", "2026-03-01T23:30:00", 9),
        ("Europe/Amsterdam", "2026-03-01T23:30:00", 8),  # already 2 March there
        ("America/Los_Angeles", "2026-03-02T07:30:00", 9),  # still 1 March there
        ("America/Los_Angeles", "2026-03-02T08:00:00", 8),
    ],
)
def test_days_to_the_close_date_are_counted_from_the_local_day(time_zone, moment, days):
    tables = crm([DEAL], tracked=["close_date"], time_zone=time_zone)
    assert feature_of(tables, "days_to_close_date", moment) == days


def test_the_period_ends_at_local_midnight():
    tables = crm([DEAL], tracked=["close_date"], time_zone="Europe/Amsterdam")
    assert feature_of(tables, "days_to_period_end", "2026-03-31T21:59:59") == 1
    assert feature_of(tables, "days_to_period_end", "2026-03-31T22:00:00") == 91
    assert feature_of(tables, "close_date_before_period_end", "2026-03-31T21:59:59") == 22


def test_tenure_counts_local_days():
    users = [{"user_id": "u1", "hired_at": "2025-12-31T23:00:00"}]  # midnight of 1 January in Amsterdam
    tables = crm([DEAL | {"owner_id": "u1"}], users=users, tracked=["owner_id"], time_zone="Europe/Amsterdam")
    assert feature_of(tables, "owner_tenure_days", "2026-02-01T10:00:00") == 31


MOVES = [
    change("d1", "2026-01-11", "stage", "Qualify", "Offer"),
    change("d1", "2026-02-01", "stage", "Offer", "Won"),
    change("d1", "2026-03-01", "stage", "Won", "Qualify"),
]


def test_the_age_of_a_reopened_deal_counts_from_the_reopening_and_its_moves_from_the_beginning():
    tables = crm([DEAL], deal_history=MOVES)
    assert feature_of(tables, "deal_age_days", "2026-01-21") == 20
    assert feature_of(tables, "deal_age_days", "2026-03-05") == 4
    assert feature_of(tables, "stage_moves", "2026-03-05") == 3
    assert feature_of(tables, "stage_regressions", "2026-03-05") == 1
    assert feature_of(tables, "days_in_stage", "2026-01-21") == 10
    assert feature_of(tables, "stage", "2026-01-21") == "Offer"
    assert feature_of(tables, "stage_rank", "2026-01-21") == 2


def test_a_reopened_deal_was_won_once_and_is_open_again():
    deals = [DEAL | {"owner_id": "u1"}, DEAL | {"deal_id": "d2", "owner_id": "u1"}]
    tables = crm(deals, deal_history=MOVES, tracked=["owner_id"], recorded_since="2025-10-01")
    for moment, open_deals, wins in (("2026-01-31", 2, 0), ("2026-02-01", 1, 1), ("2026-03-01", 2, 1)):
        assert feature_of(tables, "owner_open_deals", moment, "d2") == open_deals
        assert feature_of(tables, "owner_wins_90d", moment, "d2") == wins


def test_a_row_dated_after_a_silent_closing_says_nothing_of_the_time_before():
    deal = DEAL | {"stage": "Lost", "closed_at": "2026-01-19"}
    rows = [change("d1", "2026-01-20", "stage", "Won", "Offer")]
    history = build_history(crm([deal], deal_history=rows, recorded_since=None))
    assert len(history.wins) == 0
    assert history.spells["outcome"].tolist() == ["lost"]


def test_a_deal_handed_over_is_open_with_its_new_owner():
    deals = [DEAL | {"owner_id": "new"}, DEAL | {"deal_id": "d2", "owner_id": "old"}]
    moves = [change("d1", "2026-02-01", "owner_id", "old", "new")]
    tables = crm(deals, deal_history=moves, tracked=["owner_id"])
    assert feature_of(tables, "owner_open_deals", "2026-01-31", "d2") == 2
    assert feature_of(tables, "owner_open_deals", "2026-02-01", "d2") == 1
    assert feature_of(tables, "owner_open_deals", "2026-02-01", "d1") == 1
    assert feature_of(tables, "owner_changes", "2026-02-01", "d1") == 1


def test_a_deal_merged_away_or_deleted_is_open_no_more_and_only_the_deleted_one_is_lost():
    deals = [DEAL | {"deal_id": f"d{n}", "owner_id": "u1"} for n in (1, 2, 3)]
    deals[1] |= {"merged_into": "d1", "deleted_at": "2026-02-01"}
    deals[2] |= {"deleted_at": "2026-03-01"}
    tables = crm(deals, tracked=["owner_id"])
    rates = {"2026-01-31": (3, 0), "2026-02-01": (2, 0), "2026-03-01": (1, 1)}
    for moment, (still_open, lost) in rates.items():
        assert feature_of(tables, "owner_open_deals", moment) == still_open
        assert feature_of(tables, "owner_wins_to_company", moment) == pytest.approx(20 / (lost + 20))


def test_siblings_are_the_other_open_deals_of_the_account_also_where_it_was_named_later():
    deals = [DEAL | {"deal_id": f"d{n}", "account_id": "a1"} for n in (1, 2)]
    tables = crm(deals, deal_history=[change("d2", "2026-02-01", "account_id", None, "a1")], tracked=["account_id"])
    assert feature_of(tables, "account_open_siblings", "2026-01-31") == 0
    assert feature_of(tables, "account_open_siblings", "2026-02-01") == 1
    assert feature_of(tables, "account_open_siblings", "2026-02-01", "d2") == 1
