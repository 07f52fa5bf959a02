import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.history import DealHistory
from crm.lives import StageBook
from models.season import Season
from training.pace import PRIOR_MOVES, UNKNOWN_PACE, WEEKS, WINS_WITH_PACE, Moves, Pace, watch_moves

KNOWN_AT = pd.Timestamp("2026-03-02", tz="UTC").as_unit("us")
STAGES = pd.DataFrame(
    {
        "is_closed": [0.0, 0.0, 0.0, 1.0, 1.0],
        "is_won": [0.0, 0.0, 0.0, 1.0, 0.0],
        "sort_order": [1.0, 2.0, 3.0, 4.0, 5.0],
    },
    index=["a", "b", "c", "won", "lost"],
)
NO_SEASON = Season()


def history(moves: list[tuple[str, float, str, str]]) -> DealHistory:
    """Stage changes: deal, days before KNOWN_AT, from, to. Nothing else is read."""
    deals, ago, old, new = zip(*moves, strict=True) if moves else ((), (), (), ())
    nothing = pd.DataFrame()
    changes = pd.DataFrame(
        {
            "deal_id": pd.Series(deals, dtype="str"),
            "at": pd.Series([days_ago(each) for each in ago], dtype="datetime64[us, UTC]"),
            "field": pd.Series(["stage"] * len(deals), dtype="str"),
            "new_value": pd.Series(new, dtype="str"),
            "old_number": [STAGES["sort_order"][each] for each in old],
            "new_number": [STAGES["sort_order"][each] for each in new],
        }
    )
    tables = dict.fromkeys(["states", "spells", "endings", "wins", "activities", "contacts", "user_states"], nothing)
    return DealHistory(
        **tables, changes=changes, left_out=pd.Index([]), stage_book=StageBook(STAGES, pd.DataFrame(), {"": "a"})
    )


def days_ago(days: float) -> pd.Timestamp:
    return KNOWN_AT - pd.Timedelta(days=days)


def looks(rows: list[tuple[str, float, str | None]], *, advances: float = 0.0) -> pd.DataFrame:
    """Snapshots: deal, days before KNOWN_AT, stage."""
    deals, ago, stages = zip(*rows, strict=True) if rows else ((), (), ())
    return pd.DataFrame(
        {
            "deal_id": pd.Series(deals, dtype="str"),
            "as_of": pd.Series([days_ago(each) for each in ago], dtype="datetime64[us, UTC]"),
            "stage": pd.Series(stages, dtype="str"),
            "stage_advances_30d": np.full(len(rows), advances),
        }
    )


def watched(moves: list[tuple[str, float, str, str]], seen: pd.DataFrame) -> Moves:
    return watch_moves(history(moves), seen, KNOWN_AT, step_days=7.0)


def test_a_move_counts_for_the_look_before_it_if_it_goes_on_and_does_not_close_the_deal() -> None:
    seen = looks([("d", 21, "a"), ("d", 14, "b"), ("d", 7, "b"), ("e", 7, "c"), ("f", 14, "b")])
    moves = [("d", 16, "a", "b"), ("d", 2, "b", "c"), ("e", 3, "c", "won"), ("f", 9, "b", "a"), ("f", 8, "a", "c")]
    counted = watched(moves, seen)
    assert counted.moved.sum() == 3.0
    assert sorted(zip(counted.ago.tolist(), counted.moved.tolist(), strict=True)) == [
        (7.0, 0.0),
        (7.0, 1.0),
        (14.0, 0.0),
        (14.0, 1.0),
        (21.0, 1.0),
    ]


def test_a_move_long_after_the_last_look_counts_for_none() -> None:
    assert watched([("d", 10, "a", "b")], looks([("d", 21, "a")])).moved.tolist() == [0.0]


def test_what_comes_later_is_not_known() -> None:
    seen = looks([("d", 14, "a"), ("e", 7, "a")])
    known = watched([("d", 10, "a", "b")], seen)
    with_later = watched([("d", 10, "a", "b"), ("e", -1, "a", "b")], seen)
    assert with_later.moved.tolist() == known.moved.tolist()
    assert with_later.usual.tolist() == known.usual.tolist()


def test_a_step_that_is_not_over_is_expected_to_bring_its_share() -> None:
    many = looks([(f"d{n}", ago, "a") for n in range(400) for ago in (28, 3.5)])
    moves = [(f"d{n}", 27, "a", "b") for n in range(200)] + [(f"d{n}", 3, "a", "b") for n in range(100)]
    counted = watched(moves, many)
    whole, half = (counted.usual[counted.ago == ago].mean() for ago in (28.0, 3.5))
    assert half == pytest.approx(whole / 2)
    assert whole == pytest.approx(0.5, rel=0.01)


def test_what_is_usual_is_learned_by_stage() -> None:
    slow, quick = (looks([(f"{stage}{n}", 7, stage) for n in range(2000)]) for stage in "ab")
    moves = [(f"a{n}", 5, "a", "b") for n in range(200)] + [(f"b{n}", 5, "b", "c") for n in range(1000)]
    counted = watched(moves, pd.concat([slow, quick], ignore_index=True))
    assert counted.usual[0] == pytest.approx(0.1, rel=0.05) and counted.usual[-1] == pytest.approx(0.5, rel=0.05)


def test_deals_whose_stages_are_not_recorded_tell_nothing() -> None:
    assert watched([], looks([("d", 7, None)])).pace(NO_SEASON).ratio() == 1.0
    assert watched([("d", 5, "a", "b")], looks([("d", 7, "a")], advances=np.nan)).moved.size == 0
    bare = looks([("d", 7, "a")])[["deal_id", "as_of"]]
    assert watched([("d", 5, "a", "b")], bare).pace(NO_SEASON).ratio() == UNKNOWN_PACE.ratio() == 1.0
    assert watched([], looks([])).season() == NO_SEASON


def steady(weeks: int, moved: np.ndarray, *, usual: float = 100.0) -> Moves:
    """One look a week that stands for `usual` moves, in the month its days lie in."""
    ago = 7.0 * (np.arange(weeks) + 1)
    middle = KNOWN_AT - pd.to_timedelta(ago - 3.5, unit="D")
    return Moves(moved, np.full(weeks, usual), ago, middle.month.to_numpy() - 1, np.arange(weeks))


def test_the_last_weeks_count_most_and_the_prior_is_worth_its_moves() -> None:
    moved = np.full(52, 100.0)
    moved[:2] = 50.0
    pace = steady(52, moved).pace(NO_SEASON)
    assert len(pace.observed) == WEEKS
    weight = 0.5 ** ((np.arange(WEEKS) + 0.5) / 2)
    wanted = ((weight * moved[:WEEKS]).sum() + PRIOR_MOVES) / (weight.sum() * 100 + PRIOR_MOVES)
    assert pace.ratio() == pytest.approx(wanted)
    assert 0.7 < pace.ratio() < 0.8
    assert pace.speed == pytest.approx(wanted**WINS_WITH_PACE)
    older = np.roll(moved, 20)
    assert steady(52, older).pace(NO_SEASON).ratio() > 0.999


def test_a_month_that_is_quiet_every_year_is_known_as_quiet() -> None:
    weeks = 4 * 52
    all_usual = steady(weeks, np.full(weeks, 100.0))
    quiet = np.where(all_usual.month == 7, 50.0, 100.0)
    season = steady(weeks, quiet).season()
    # Level 96, so that August is .52 of it; drawn to 1 by a fourth or a fifth, as there are three or four of them.
    assert 0.58 < season.months[7] < 0.66
    assert max(abs(each - 1.04) for month, each in enumerate(season.months) if month != 7) < 0.02
    assert steady(weeks, np.full(weeks, 100.0)).season().months == pytest.approx(NO_SEASON.months)


def test_the_last_half_year_says_nothing_of_the_season_and_less_than_that_has_none() -> None:
    weeks = 3 * 52
    moved = np.full(weeks, 100.0)
    moved[:WEEKS] = 10.0
    assert steady(weeks, moved).season().months == pytest.approx(NO_SEASON.months)
    assert steady(WEEKS, moved[:WEEKS]).season() == NO_SEASON


def test_a_quiet_month_in_its_season_is_no_slow_pace() -> None:
    season = Season(tuple(0.5 if month in (0, 1) else 1.0 for month in range(12)))
    moves = steady(52, np.where(steady(52, np.zeros(52)).month < 2, 50.0, 100.0))
    assert moves.pace(season).ratio() == pytest.approx(1.0)
    assert moves.pace(NO_SEASON).ratio() < 0.65


@given(
    observed=st.lists(st.floats(0, 1e6), max_size=WEEKS),
    expected=st.lists(st.floats(0, 1e6), max_size=WEEKS),
)
def test_the_ratio_is_positive_and_finite_whatever_was_counted(observed: list[float], expected: list[float]) -> None:
    length = min(len(observed), len(expected))
    ratio = Pace(np.array(observed[:length]), np.array(expected[:length])).ratio()
    assert 0 < ratio < np.inf


def test_what_the_card_publishes_survives_json() -> None:
    entry = steady(3, np.array([3.0, 0.0, 2.0]), usual=2.5).pace(NO_SEASON).to_dict()
    assert json.loads(json.dumps(entry)) == entry
    assert entry["observed"] == [3, 0, 2] and entry["expected"] == [2.5, 2.5, 2.5]
