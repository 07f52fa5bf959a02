import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import gamma

from models.curves import Curves
from training.following import (
    AS_EXPECTED,
    CHANGED,
    EVERY,
    HALF_LIFE_WEEKS,
    NOT_FOLLOWING,
    WEEKS,
    Following,
    count_closings,
    days_between,
    looks_to_follow,
)
from training.pace import Pace

KNOWN_AT = pd.Timestamp("2026-03-02", tz="UTC")
WON_A_DAY, LOST_A_DAY = 0.01, 0.02


def closings(looks: list[tuple[str, int, float, str | None]], *, order: list[int] | None = None) -> Following:
    """What is counted where a fit says of every deal, whenever: won with .01 a day, lost with .02.

    Parameters
    ----------
    looks : deal, how many days before KNOWN_AT it was looked at, days it was watched since, how it ended (None: open).
    order : of the rows.
    """
    rows = [looks[place] for place in order or range(len(looks))]
    deals, ago, days, outcomes = zip(*rows, strict=True) if rows else ((), (), (), ())
    as_of = pd.Series([KNOWN_AT - pd.Timedelta(days=each) for each in ago], dtype="datetime64[us, UTC]")
    level = {cause: np.full((len(rows), 2), np.log(each)) for cause, each in (("won", 0.01), ("lost", 0.02))}
    curves = Curves(np.tile([0.0, 10.0, 365.0], (len(rows), 1)), level["won"], level["lost"])
    seen = pd.DataFrame({"days_observed": np.array(days, dtype=float), "outcome": pd.Series(outcomes, dtype="str")})
    spine = pd.DataFrame({"deal_id": pd.Series(deals, dtype="str"), "as_of": as_of})
    return count_closings(curves, spine, seen, KNOWN_AT, step_days=7.0)


def weekly(observed: float, expected: float, *, weeks: int = WEEKS) -> Following:
    """So many closings of both kinds in every week."""
    seen, said = np.full(weeks, observed), np.full(weeks, expected)
    return Following({"won": seen, "lost": seen}, {"won": said, "lost": said})


def test_closings_are_counted_in_the_week_they_came_and_expected_while_the_deal_was_open() -> None:
    counted = closings([("a", 21, 12, "won"), ("b", 21, 21, None)])
    assert counted.observed["won"].tolist() == [0, 1, 0] and counted.observed["lost"].tolist() == [0, 0, 0]
    assert counted.expected["won"] == pytest.approx(WON_A_DAY * np.array([7, 7 + 5, 14]))
    assert counted.expected["lost"] == pytest.approx(LOST_A_DAY * np.array([7, 7 + 5, 14]))


def test_a_deal_looked_at_twice_counts_once_on_both_sides() -> None:
    once, twice = closings([("a", 28, 26, "lost")]), closings([("a", 28, 26, "lost"), ("a", 14, 12, "lost")])
    assert twice.observed["lost"].tolist() == once.observed["lost"].tolist() == [1, 0, 0, 0]
    assert twice.expected["lost"] == pytest.approx(once.expected["lost"])


def test_rows_in_another_order_count_to_the_same() -> None:
    rng = np.random.default_rng(5)
    endings = ["won", "lost", None]
    looks = [(f"d{n % 40}", 7 * int(rng.integers(1, 30)), float(rng.uniform(0, 7)), endings[n % 3]) for n in range(120)]
    counted, shuffled = closings(looks), closings(looks, order=rng.permutation(len(looks)).tolist())
    assert counted.shift == pytest.approx(shuffled.shift, abs=1e-12)
    assert counted.shift != NOT_FOLLOWING.shift


def test_weeks_of_more_than_half_a_year_ago_do_not_count() -> None:
    counted = closings([("a", 7 * (WEEKS + 2), 2.0, "won"), ("b", 7, 7.0, None)])
    assert counted.observed["won"].tolist() == [0]


def test_closings_as_expected_leave_probabilities_as_they_are() -> None:
    steady = weekly(20, 20)
    assert steady.shift == {"won": 0.0, "lost": 0.0}
    curves = Curves(np.array([[0.0, 7.0]]), np.array([[-3.0]]), np.array([[-2.0]]))
    assert steady.apply(curves).probability_by(90.0).won == curves.probability_by(90.0).won


def test_without_evidence_nothing_is_followed() -> None:
    assert closings([]).shift == NOT_FOLLOWING.shift == {"won": 0.0, "lost": 0.0}


def test_few_closings_move_little_and_many_all_the_way() -> None:
    few, many = weekly(1, 0.25).ratio("won"), weekly(400, 100).ratio("won")
    assert 1.0 < few < 1.4
    assert 3.5 < many < 4.0


def test_a_base_rate_that_moved_is_followed_within_weeks() -> None:
    # Four times as many wins for six weeks, in a company that expects 30 a week.
    observed = np.full(WEEKS, 30.0)
    observed[:6] = 120.0
    expected = np.full(WEEKS, 30.0)
    following = Following({"won": observed, "lost": expected}, {"won": expected, "lost": expected})
    assert 2.0 < following.ratio("won") < 4.0
    assert following.ratio("lost") == 1.0


def test_the_latest_weeks_count_most() -> None:
    counted = {"won": np.array([10.0, 0.0]), "lost": np.array([0.0, 10.0])}
    expected = {"won": np.array([5.0, 5.0]), "lost": np.array([5.0, 5.0])}
    following = Following(counted, expected)
    assert following.ratio("won") > 1.0 > following.ratio("lost")


def test_the_ratio_is_the_mean_of_both_laws_by_how_likely_the_closings_are_under_each() -> None:
    latest, older = 0.5 ** (0.5 / HALF_LIFE_WEEKS), 0.5 ** (1.5 / HALF_LIFE_WEEKS)
    observed, expected = 30 * latest + 20 * older, 18 * latest + 18 * older
    following = Following({"won": np.array([30.0, 20.0])}, {"won": np.array([18.0, 18.0])})
    # By summing over a fine grid of ratios instead of the formulas.
    ratios = np.exp(np.linspace(-4, 4, 200_001))
    weights = sum(
        chance * gamma(shape, scale=1 / shape).pdf(ratios) * ratios for chance, shape in (AS_EXPECTED, CHANGED)
    ) * np.exp(observed * np.log(ratios) - expected * ratios)
    assert following.ratio("won") == pytest.approx((weights * ratios).sum() / weights.sum(), rel=1e-6)


def test_what_chance_explains_moves_little_and_what_it_does_not_is_believed() -> None:
    usual, unusual = weekly(21, 20).ratio("won"), weekly(60, 20).ratio("won")
    assert 1.0 < usual < 1.02
    assert 2.8 < unusual < 3.0


def test_where_deals_move_on_faster_more_wins_are_expected_and_losses_tell_of_themselves() -> None:
    quick = Pace(np.full(20, 300.0), np.full(20, 200.0))
    expected = quick.speed
    nothing = replace(NOT_FOLLOWING, pace=quick)
    assert nothing.ratio("won") == pytest.approx(expected) and expected > 1.6
    assert nothing.ratio("lost") == 1.0
    # Many wins, as many as the fit says without the pace, outweigh it.
    assert 0.95 < replace(weekly(400, 400), pace=quick).ratio("won") < 1.05
    assert expected > replace(weekly(5, 4), pace=quick).ratio("won") > 1.25


def test_the_weeks_are_watched_from_every_fourth_moment_back_from_the_latest() -> None:
    mondays = pd.Series(pd.date_range("2024-01-01", "2026-02-23", freq="7D", tz="UTC"))
    kept = mondays[looks_to_follow(mondays, KNOWN_AT)]
    assert kept.iloc[-1] == mondays.iloc[-1]
    assert set(np.diff(kept)) == {np.timedelta64(7 * EVERY, "D")}
    assert kept.iloc[0] >= KNOWN_AT - pd.Timedelta(weeks=WEEKS + 13)
    assert days_between(mondays) == 7.0
    assert days_between(pd.Series(pd.date_range("2026-01-01", "2026-02-23", freq="2D", tz="UTC"))) == 2.0
    assert days_between(mondays[:1]) == 7.0


def test_what_the_card_publishes_survives_json() -> None:
    entry = closings([("a", 21, 12, "won"), ("b", 21, 21, None)]).to_dict()
    assert json.loads(json.dumps(entry)) == entry
    assert entry["won"]["observed"] == [0, 1, 0] and entry["won"]["expected"] == [0.07, 0.12, 0.14]


def test_a_fit_that_says_at_once_is_followed_by_a_finite_ratio() -> None:
    looks = pd.DataFrame({"deal_id": ["a", "b"], "as_of": [KNOWN_AT - pd.Timedelta(days=14)] * 2})
    outcomes = pd.DataFrame({"days_observed": [10.0, 14.0], "outcome": ["won", None]})
    absurd = Curves(np.tile([0.0, 365.0], (2, 1)), np.full((2, 1), 1000.0), np.full((2, 1), -1000.0))
    following = count_closings(absurd, looks, outcomes, KNOWN_AT, step_days=7.0)
    assert 0 < following.ratio("won") < 1 and np.isfinite(following.ratio("lost"))
