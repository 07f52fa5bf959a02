"""Who talked to whom: turns, gaps, people, and what happened since the last stage move."""

import pytest
from crm_by_hand import Row, activity, change, crm, feature_of, features_of

DEAL = {"deal_id": "d1", "created_at": "2026-01-01", "stage": "Qualify"}


def ours(day: int) -> Row:
    return activity(f"2026-02-{day:02}", type="email", direction="outbound")


def theirs(day: int) -> Row:
    return activity(f"2026-02-{day:02}", type="email", direction="inbound")


def test_an_answer_takes_as_long_as_our_first_unanswered_message_waited():
    # Written on 1 and 3, answered on 5 (4 days) and again on 6 (to nothing); written on 10, answered on 12 (2 days).
    tables = crm([DEAL], activities=[ours(1), ours(3), theirs(5), theirs(6), ours(10), theirs(12), ours(13)])
    asked = [f"2026-02-{day:02}" for day in (3, 5, 6, 12, 14)]
    assert [feature_of(tables, "unanswered_messages", day) for day in asked] == [2, 0, 0, 0, 1]
    assert [feature_of(tables, "reply_days_60d", day) for day in asked[1:]] == [4, 4, 3, 3]


def test_silence_is_measured_by_the_deals_own_gaps():
    # The buyer wrote on 2, 4 and 10: gaps of 2 and 6 days, 4 on average; on the 19th 9 days of silence.
    tables = crm([DEAL], activities=[theirs(2), theirs(4), theirs(10)])
    assert feature_of(tables, "silence_rhythm", "2026-02-19") == (9 + 1) / (4 + 1)
    assert features_of(tables, ("d1", "2026-02-03"), names=["silence_rhythm"]).isna()["silence_rhythm"].all()


def test_what_came_with_the_last_stage_move_is_not_after_it():
    moves = [change("d1", "2026-02-05", "stage", "Qualify", "Offer")]
    tables = crm([DEAL], activities=[theirs(4), theirs(5), theirs(6), ours(7)], deal_history=moves)
    names = ["activities_since_stage_move", "inbound_since_stage_move"]
    built = features_of(tables, ("d1", "2026-02-04"), ("d1", "2026-02-05"), ("d1", "2026-02-08"), names=names)
    assert built[names].to_numpy().tolist() == [[1, 1], [0, 0], [2, 1]]


def test_people_are_counted_once_and_in_thirty_days_anew():
    rows = [
        activity("2026-02-01", contact_id="c1", duration_minutes=30.0, type="meeting"),
        activity("2026-02-02", contact_id="c2"),
        activity("2026-03-04", contact_id="c2", duration_minutes=45.0, type="call"),
    ]
    tables = crm([DEAL], activities=rows)
    names = ["people_engaged", "people_engaged_30d", "minutes_30d"]
    built = features_of(tables, ("d1", "2026-02-02"), ("d1", "2026-03-05"), names=names)
    assert built[names].to_numpy().tolist() == [[2, 2, 30], [2, 1, 45]]
    assert feature_of(tables, "days_since_last_meeting", "2026-02-11") == 10


def test_roles_that_name_a_decision_count_as_decision_makers():
    people = [("c1", "Economic Buyer"), ("c2", "executive sponsor"), ("c3", "user"), ("c4", None), ("c1", "sponsor")]
    added = [
        {"deal_id": "d1", "contact_id": contact, "role": role, "added_at": f"2026-02-0{day}"}
        for day, (contact, role) in enumerate(people, start=1)
    ]
    tables = crm([DEAL], deal_contacts=added)
    names = ["decision_makers", "roles_covered", "contacts_known", "days_since_contact_added"]
    built = features_of(tables, ("d1", "2026-02-02"), ("d1", "2026-02-06"), names=names)
    # c1 was added again on the 5th: no new contact.
    assert built[names].to_numpy().tolist() == [[2, 2, 2, 0], [2, 4, 4, 2]]


@pytest.mark.parametrize(
    ("never", "name"),
    [
        ("direction", "unanswered_messages"),
        ("duration_minutes", "minutes_30d"),
        ("contact_id", "people_engaged_30d"),
    ],
)
def test_what_the_log_never_holds_is_unknown(never, name):
    told = {"direction": "inbound", "duration_minutes": 5.0, "contact_id": "c1"}
    rows = [activity("2025-12-01", **(told | {never: None})), activity("2026-02-01", **(told | {never: None}))]
    tables = crm([DEAL], activities=rows, recorded_since=None)
    assert features_of(tables, ("d1", "2026-02-02"), names=[name])[name].isna().all()
