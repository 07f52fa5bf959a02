from dataclasses import replace

import pytest

from training.gate import MARGIN, Contest, decide, find_objections
from training.metrics import Difference
from training.resampling import SliceDifference, Slope

FINE: list[str] = []
WORSE = ["log loss 0.6 is worse than the champion's 0.5"]
LOSSES = {"model": 0.5, "base_rate": 0.6, "stage_win_rate": 0.55}
EVEN = Contest(
    snapshots=900,
    deals=300,
    weeks=20,
    candidate=0.5,
    champion=0.5,
    difference=Difference(0.0, -0.004, 0.004),
    slope=Slope(1.0, 0.9, 1.1),
)


@pytest.mark.parametrize(
    ("objections", "promote", "has_champion", "is_past", "decision"),
    [
        (FINE, "auto", False, False, "promoted"),
        (WORSE, "auto", False, False, "promoted"),
        (WORSE, "auto", False, True, "promoted"),
        (FINE, "never", False, False, "kept"),
        (FINE, "never", True, False, "kept"),
        (FINE, "auto", True, False, "promoted"),
        (WORSE, "auto", True, False, "kept"),
        (FINE, "auto", True, True, "kept"),
        (FINE, "always", True, True, "forced"),
        (WORSE, "always", True, False, "forced"),
        (FINE, "always", True, False, "promoted"),
        (WORSE, "always", False, False, "forced"),
    ],
)
def test_the_champion_moves_by_the_rule(objections, promote, has_champion, is_past, decision):
    verdict = decide(objections, promote=promote, has_champion=has_champion, is_past=is_past, losses=LOSSES)
    assert verdict.decision == decision
    assert verdict.moves_champion == (decision != "kept")
    assert verdict.reasons and set(objections) <= set(verdict.reasons)


def test_a_model_shown_to_be_no_worse_than_the_champion_passes():
    assert find_objections(LOSSES, EVEN) == []
    verdict = decide([], promote="auto", has_champion=True, is_past=False, losses=LOSSES, contest=EVEN)
    assert "-0.00400 to +0.00400, on 900 snapshots of 300 deals in 20 weeks" in verdict.reasons[1]


@pytest.mark.parametrize(("high", "passes"), [(MARGIN, True), (MARGIN + 1e-9, False)])
def test_the_interval_may_reach_as_far_as_the_margin_and_no_further(high, passes):
    assert (find_objections(LOSSES, replace(EVEN, difference=Difference(0.0, -0.1, high))) == []) is passes


def test_a_worse_log_loss_than_the_champions_is_told_with_the_digits_in_which_they_differ():
    close = replace(EVEN, candidate=0.548412, champion=0.548391, difference=Difference(0.000021, -0.009, 0.0081))
    [objection] = find_objections(LOSSES, close)
    assert objection.startswith("it may be worse than the champion by more than 0.005")
    assert "0.54841 against 0.54839, +0.00002" in objection and "-0.00900 to +0.00810" in objection
    [surely] = find_objections(LOSSES, replace(close, difference=Difference(0.01, 0.002, 0.02)))
    assert surely.startswith("it is worse")


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.5, 0.899, "too bold"), (1.101, 1.6, "too timid"), (0.5, 0.9, None), (1.1, 1.6, None), (0.5, 1.6, None)],
)
def test_a_calibration_slope_is_an_objection_only_if_all_its_interval_is_outside(low, high, word):
    objections = find_objections(LOSSES, replace(EVEN, slope=Slope((low + high) / 2, low, high)))
    assert len(objections) == (word is not None) and all(word in each for each in objections)


def test_a_slice_that_is_surely_worse_is_an_objection_that_names_it():
    worse = SliceDifference("stage", "Proposal", 140, 600, 0.03125, 0.0042)
    luck = SliceDifference("stage", "Offer", 140, 600, 0.03, -0.0001)
    [objection] = find_objections(LOSSES, replace(EVEN, slices=(luck, worse)))
    assert "stage is Proposal" in objection and "+0.03125" in objection and "140 deals" in objection


def test_a_baseline_that_is_not_beaten_is_an_objection_unless_one_serves_already():
    beaten = {**LOSSES, "naive_bayes": 0.5}
    [objection] = find_objections(beaten, EVEN)
    assert "naive_bayes is not beaten" in objection
    assert find_objections(beaten, replace(EVEN, champion_fallback="naive_bayes")) == []
    assert len(find_objections(beaten, None)) == 1


def test_a_model_that_could_not_be_judged_is_not_waved_through():
    nothing = ["no snapshot whose period had ended could be judged"]
    assert find_objections({"model": float("nan")}, None) == find_objections({}, None) == nothing


def test_without_a_snapshot_that_both_were_judged_on_nothing_is_shown():
    [objection] = find_objections(LOSSES, Contest(snapshots=0))
    assert "nothing shows" in objection
