"""How a deal's story changed: sizes, times and ranks of its moves."""

import pytest
from crm_by_hand import change, crm, feature_of, features_of

DEAL = {"deal_id": "d1", "created_at": "2026-01-01", "stage": "Qualify"}
NAN = float("nan")


def moved(field: str, *steps: tuple[str, str, str]) -> list:
    return [change("d1", at, field, old, new) for at, old, new in steps]


def test_pushes_have_a_mean_size_and_a_last_time_which_pulls_do_not_touch():
    rows = moved(
        "close_date",
        ("2026-02-01", "2026-03-01", "2026-03-11"),
        ("2026-02-02", "2026-03-11", "2026-04-10"),
        ("2026-02-03", "2026-04-10", "2026-04-01"),
        ("2026-02-04", "2026-04-01", "2026-04-05"),
    )
    tables = crm([DEAL], deal_history=rows)
    days = [f"2026-02-0{day}" for day in (1, 2, 3, 4)]
    assert [feature_of(tables, "close_date_days_per_push", day) for day in days] == [10, 20, 20, 44 / 3]
    assert feature_of(tables, "days_since_last_push", "2026-02-03T12:00:00") == 1.5


def test_without_a_push_its_size_and_time_are_unknown():
    built = features_of(crm([DEAL], deal_history=[]), ("d1", "2026-02-01")).iloc[0]
    assert built[["close_date_days_per_push", "days_since_last_push", "days_since_stage_advance"]].isna().all()


STAGES = [
    {"stage": stage, "sort_order": order, "is_closed": stage in ("Won", "Lost"), "is_won": stage == "Won"} | pipeline
    for pipeline, first, stages in (
        ({"pipeline": "long"}, 1, ["A", "B", "C", "Won", "Lost"]),
        ({"pipeline": "short"}, 11, ["C", "A", "Won", "Lost"]),
    )
    for order, stage in enumerate(stages, start=first)
]


@pytest.mark.parametrize(("pipeline", "forward", "back"), [("long", 1, 0), ("short", 0, 1)])
def test_a_move_is_forward_or_back_in_the_deals_own_pipeline(pipeline, forward, back):
    deal = DEAL | {"stage": "C", "pipeline": pipeline}
    rows = moved("stage", ("2026-02-01", "A", "C"))
    tables = crm([deal], deal_history=rows, stages=STAGES, tracked=["pipeline"])
    assert feature_of(tables, "stage_advances_30d", "2026-02-03") == forward
    assert feature_of(tables, "stage_regressions", "2026-02-03") == back
    last = feature_of(tables, "days_since_stage_advance", "2026-02-03")
    assert last == pytest.approx(2 if forward else NAN, nan_ok=True)


def test_a_move_to_another_pipeline_is_compared_by_the_places_in_both():
    rows = [*moved("stage", ("2026-02-01", "B", "A")), *moved("pipeline", ("2026-02-01", "long", "short"))]
    tables = crm([DEAL | {"stage": "A", "pipeline": "short"}], deal_history=rows, stages=STAGES, tracked=["pipeline"])
    # Second of three before, second of two after: neither forward nor back.
    built = features_of(tables, ("d1", "2026-02-02")).iloc[0]
    assert built[["stage_moves", "stage_regressions", "stage_advances_30d"]].tolist() == [1, 0, 0]
    assert built[["days_since_stage_advance"]].isna().all()


def test_the_amount_is_compared_with_what_it_was_before_its_changes():
    rows = moved("amount", ("2026-02-01", "100", "150"), ("2026-02-02", "150", "120"))
    tables = crm([DEAL | {"amount": 120.0}], deal_history=rows, tracked=["amount"])
    days = ("2026-01-31", "2026-02-01", "2026-02-02")
    assert [feature_of(tables, "amount_to_first", day) for day in days] == [1.0, 1.5, 1.2]


def test_an_amount_that_came_from_nothing_has_no_ratio_to_it_and_an_unchanged_one_the_ratio_of_one():
    rows = moved("amount", ("2026-02-01", "0", "1234.56"), ("2026-02-02", "1234.56", "99.99"))
    tables = crm([DEAL | {"amount": 99.99}], deal_history=rows, tracked=["amount"])
    days = ("2026-01-31", "2026-02-01", "2026-02-02")
    built = features_of(tables, *(("d1", day) for day in days), names=["amount_to_first"])
    assert built["amount_to_first"].isna().all()
    unchanged = crm([DEAL | {"amount": 99.99}], deal_history=[], tracked=["amount"])
    assert feature_of(unchanged, "amount_to_first", "2026-02-02") == 1.0


@pytest.mark.parametrize(
    ("before", "after", "lowered"),
    [
        ("COMMIT", "most-likely", 1),
        ("Most Likely", " best_case", 1),
        ("Best Case", "pipeline", 1),
        ("Pipeline", "OMITTED", 1),
        ("omitted", "commit", 0),
        ("closed", "omitted", 0),
        ("commit", "closed", 0),
    ],
)
def test_categories_rank_however_they_are_spelled(before, after, lowered):
    rows = moved("forecast_category", ("2026-02-01", before, after))
    assert feature_of(crm([DEAL], deal_history=rows), "category_downgrades", "2026-02-01") == lowered


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
