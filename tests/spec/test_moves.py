"""How a deal's story changed: streaks, sizes and ranks of its moves."""

import pytest
from crm_by_hand import change, crm, feature_of, features_of

DEAL = {"deal_id": "d1", "created_at": "2026-01-01", "stage": "Qualify"}
NAN = float("nan")


def moved(field: str, *steps: tuple[str, str, str]) -> list:
    return [change("d1", at, field, old, new) for at, old, new in steps]


def test_a_streak_of_pushes_ends_with_a_pull_and_begins_anew():
    rows = moved(
        "close_date",
        ("2026-02-01", "2026-03-01", "2026-03-11"),
        ("2026-02-02", "2026-03-11", "2026-04-10"),
        ("2026-02-03", "2026-04-10", "2026-04-01"),
        ("2026-02-04", "2026-04-01", "2026-04-05"),
    )
    tables = crm([DEAL], deal_history=rows)
    days = [f"2026-02-0{day}" for day in (1, 2, 3, 4)]
    assert feature_of(tables, "close_date_streak", "2026-01-31") == 0
    assert [feature_of(tables, "close_date_streak", day) for day in days] == [1, 2, -1, 1]
    assert [feature_of(tables, "close_date_days_per_push", day) for day in days] == [10, 20, 20, 44 / 3]
    assert feature_of(tables, "days_since_last_push", "2026-02-03T12:00:00") == 1.5
    assert [feature_of(tables, "close_date_pushes_90d", day) for day in ("2026-05-02", "2026-05-03")] == [3, 2]


def test_without_a_push_its_size_and_time_are_unknown():
    built = features_of(crm([DEAL], deal_history=[]), ("d1", "2026-02-01")).iloc[0]
    assert built[["close_date_days_per_push", "days_since_last_push", "days_since_stage_advance"]].isna().all()


STAGES = [
    {"stage": stage, "sort_order": order, "is_closed": stage in ("Won", "Lost"), "is_won": stage == "Won"} | pipeline
    for pipeline, stages in (
        ({"pipeline": "long"}, ["A", "B", "C", "Won", "Lost"]),
        ({"pipeline": "short"}, ["A", "C", "Won", "Lost"]),
    )
    for order, stage in enumerate(stages)
]


@pytest.mark.parametrize(("pipeline", "skipped", "position"), [("long", 1, 3), ("short", 0, 2)])
def test_a_stage_is_skipped_and_counted_in_the_deals_own_pipeline(pipeline, skipped, position):
    deal = DEAL | {"stage": "C", "pipeline": pipeline}
    rows = moved("stage", ("2026-02-01", "A", "C"))
    tables = crm([deal], deal_history=rows, stages=STAGES, tracked=["pipeline"])
    assert feature_of(tables, "stages_skipped", "2026-02-02") == skipped
    assert feature_of(tables, "stage_position", "2026-02-02") == position
    assert feature_of(tables, "days_since_stage_advance", "2026-02-03") == 2


def test_a_move_to_another_pipeline_is_compared_by_the_places_in_both():
    rows = [*moved("stage", ("2026-02-01", "B", "C")), *moved("pipeline", ("2026-02-01", "long", "short"))]
    tables = crm([DEAL | {"stage": "C", "pipeline": "short"}], deal_history=rows, stages=STAGES, tracked=["pipeline"])
    # Second of three before, second of two after: neither forward nor back.
    built = features_of(tables, ("d1", "2026-02-02")).iloc[0]
    assert built[["stage_moves", "stage_regressions", "stages_skipped"]].tolist() == [1, 0, 0]
    assert built[["days_since_stage_advance"]].isna().all()


def test_the_amount_is_compared_with_what_it_was_before_its_changes():
    rows = moved("amount", ("2026-02-01", "100", "150"), ("2026-02-02", "150", "120"))
    tables = crm([DEAL | {"amount": 120.0}], deal_history=rows, tracked=["amount"])
    days = ("2026-01-31", "2026-02-01", "2026-02-02")
    assert [feature_of(tables, "amount_to_first", day) for day in days] == [1.0, 1.5, 1.2]


@pytest.mark.parametrize(
    ("category", "rank"),
    [("Best Case", 2), ("most-likely", 3), ("COMMIT", 4), ("omitted", 0), ("closed", NAN), ("sure", NAN)],
)
def test_categories_rank_however_they_are_spelled(category, rank):
    tables = crm([DEAL | {"forecast_category": category}], tracked=["forecast_category"])
    assert feature_of(tables, "forecast_category_rank", "2026-02-01") == pytest.approx(rank, nan_ok=True)


def test_a_category_lowered_counts_one_raised_or_unheard_of_does_not():
    rows = moved(
        "forecast_category",
        ("2026-02-01", "Pipeline", "Commit"),
        ("2026-02-02", "Commit", "Best Case"),
        ("2026-02-03", "Best Case", "sure"),
    )
    tables = crm([DEAL], deal_history=rows)
    days = ("2026-02-01", "2026-02-02", "2026-02-04")
    assert [feature_of(tables, "category_downgrades", day) for day in days] == [0, 1, 1]
    assert feature_of(tables, "days_since_category_change", "2026-02-04") == 1
