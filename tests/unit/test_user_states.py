"""Where people belonged at any moment."""

from crm.history import build_history, owner_places
from tests.spec.crm_by_hand import at, crm


def move(user_id: str, changed_at: str, field: str, old: str | None, new: str | None) -> dict[str, object]:
    return {"user_id": user_id, "changed_at": changed_at, "field": field, "old_value": old, "new_value": new}


def places(moves: list[dict[str, object]], *asked: tuple[str, str]) -> list[tuple[object, object]]:
    """Team and region of each user at each day; None where unknown."""
    users = [{"user_id": "u1", "team": "C", "region": "EMEA"}, {"user_id": "u2", "team": "A", "region": "EMEA"}]
    tables = crm([{"deal_id": "d1", "created_at": "2026-01-01"}], users=users, user_history=moves)
    history = build_history(tables)
    found = [owner_places(history, [user_id], at(moment)).iloc[0] for user_id, moment in asked]
    return [tuple(None if value != value else value for value in (row["team"], row["region"])) for row in found]


def test_before_a_recorded_move_stands_its_old_value_and_afterwards_its_new_one():
    moves = [
        move("u1", "2026-03-01", "team", "A", "B"),
        move("u1", "2026-05-01", "team", "B", "C"),
        move("u1", "2026-05-01", "region", "APAC", "EMEA"),
        move("u1", "2026-04-01", "name", "Ann", "Anna"),
        move("gone", "2026-04-01", "team", "A", "B"),
    ]
    days = ("2025-01-01", "2026-02-28", "2026-03-01", "2026-05-01")
    assert places(moves, *(("u1", day) for day in days), ("u2", "2026-04-01")) == [
        ("A", "APAC"),
        ("A", "APAC"),
        ("B", "APAC"),
        ("C", "EMEA"),
        ("A", "EMEA"),
    ]


def test_of_two_moves_at_one_moment_the_later_row_stands():
    moves = [move("u1", "2026-03-01", "team", "A", "B"), move("u1", "2026-03-01", "team", "B", "D")]
    assert places(moves, ("u1", "2026-02-01"), ("u1", "2026-03-02")) == [("A", "EMEA"), ("D", "EMEA")]


def test_who_leaves_a_team_for_none_belongs_to_none():
    moves = [move("u1", "2026-03-01", "team", "A", None), move("u1", "2026-06-01", "team", None, "C")]
    asked = [("u1", day) for day in ("2026-02-01", "2026-04-01", "2026-07-01")]
    assert places(moves, *asked) == [("A", "EMEA"), (None, "EMEA"), ("C", "EMEA")]
