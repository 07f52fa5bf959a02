"""Which rows count at a moment: all dated at or before it, in a window also those exactly at its beginning."""

import pytest
from crm_by_hand import activity, change, crm, feature_of, features_of

DEAL = {"deal_id": "d1", "created_at": "2026-01-01", "stage": "Qualify"}
NOON = "2026-03-15T12:00:00"


@pytest.mark.parametrize(
    ("occurred_at", "counts"),
    [
        ("2026-03-15T12:00:00", 1),  # at the moment itself
        ("2026-03-15T12:00:00.000001", 0),
        ("2026-03-01T12:00:00", 1),  # 14 days to the microsecond
        ("2026-03-01T11:59:59.999999", 0),
    ],
)
def test_a_window_of_14_days_holds_both_its_ends(occurred_at, counts):
    first = activity("2026-01-02", direction="inbound")
    tables = crm([DEAL], activities=[first, activity(occurred_at, direction="inbound")])
    assert feature_of(tables, "inbound_14d", NOON) == counts


def test_an_activity_counts_from_when_it_was_logged_and_in_windows_at_that_moment():
    tables = crm([DEAL], activities=[activity("2026-02-01"), activity("2026-02-02", logged_at="2026-03-10")])
    assert feature_of(tables, "activities_so_far", "2026-03-09") == 1
    assert feature_of(tables, "activities_so_far", "2026-03-10") == 2
    assert feature_of(tables, "activities_7d", "2026-03-12") == 1
    assert feature_of(tables, "days_since_last_activity", "2026-03-12") == 2.0


def test_an_activity_logged_before_it_takes_place_counts_when_it_takes_place():
    tables = crm(
        [DEAL], activities=[activity("2026-02-01"), activity("2026-03-10", logged_at="2026-03-01", type="meeting")]
    )
    assert feature_of(tables, "meetings_60d", "2026-03-09") == 0
    assert feature_of(tables, "meetings_60d", "2026-03-10") == 1


def test_a_push_after_the_as_of_date_is_not_counted():
    pushes = [
        change("d1", "2026-02-01", "close_date", "2026-03-01", "2026-03-11"),
        change("d1", "2026-03-01", "close_date", "2026-03-11", "2026-04-11"),
    ]
    tables = crm([DEAL | {"close_date": "2026-04-11"}], deal_history=pushes)
    for moment, pushed, days in (("2026-02-01", 1, 10), ("2026-02-28", 1, 10), ("2026-03-01", 2, 41)):
        assert feature_of(tables, "close_date_pushes", moment) == pushed
        assert feature_of(tables, "close_date_days_pushed", moment) == days


def test_pulling_in_is_no_push_and_an_initial_value_is_no_change():
    rows = [
        change("d1", "2026-01-01", "close_date", None, "2026-03-01"),
        change("d1", "2026-02-01", "close_date", "2026-03-01", "2026-02-20"),
    ]
    tables = crm([DEAL | {"close_date": "2026-02-20"}], deal_history=rows)
    assert feature_of(tables, "close_date_pushes", "2026-02-02") == 0
    assert feature_of(tables, "close_date_pulls_30d", "2026-02-02") == 1
    assert feature_of(tables, "close_date_days_pushed", "2026-02-02") == -9


def test_a_contact_counts_once_from_when_it_was_first_added():
    contacts = [
        {"deal_id": "d1", "contact_id": "c1", "added_at": "2026-02-01"},
        {"deal_id": "d1", "contact_id": "c1", "added_at": "2026-02-05"},
        {"deal_id": "d1", "contact_id": "c2", "added_at": "2026-02-09"},
        {"deal_id": "d1", "contact_id": "c3", "added_at": None},
    ]
    tables = crm([DEAL], deal_contacts=contacts)
    assert [feature_of(tables, "contacts_known", f"2026-02-0{day}") for day in (1, 5, 8, 9)] == [1, 1, 1, 2]


def test_engagement_compares_two_weeks_with_eight():
    days = ("2026-01-20", "2026-02-10", "2026-02-20", "2026-02-25", "2026-03-10", "2026-03-12")
    tables = crm([DEAL], activities=[activity(day) for day in days])
    # By 15 March: 2 in 14 days, 6 in 56 (18 January on), so (2 + 1) / (6 / 4 + 1).
    assert feature_of(tables, "engagement_trend", "2026-03-15") == pytest.approx(3 / 2.5)


def test_the_buyer_answers_in_proportion_and_unknown_is_the_share_of_nothing():
    rows = [activity("2026-02-01", direction="inbound"), activity("2026-02-03", direction="outbound")]
    tables = crm([DEAL], activities=[*rows, activity("2026-02-02", direction="inbound")])
    built = features_of(tables, ("d1", "2026-02-02"), ("d1", "2026-02-03"), names=["reply_ratio_60d"])
    assert built["reply_ratio_60d"].isna().tolist() == [True, False]
    assert built["reply_ratio_60d"].iloc[1] == 2.0
