import pytest

from training.gate import Contest, decide, find_objections

FINE: list[str] = []
WORSE = ["log loss 0.6 is worse than the champion's 0.5"]


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
    verdict = decide(objections, promote=promote, has_champion=has_champion, is_past=is_past)
    assert verdict.decision == decision
    assert verdict.moves_champion == (decision != "kept")
    assert verdict.reasons and set(objections) <= set(verdict.reasons)


def test_a_model_as_good_as_the_champion_passes():
    assert find_objections(0.5, 0.6, Contest(candidate=0.5, champion=0.5, snapshots=100)) == []


def test_a_worse_log_loss_than_the_champions_is_an_objection():
    [objection] = find_objections(0.5, 0.6, Contest(candidate=0.52, champion=0.51, snapshots=100))
    assert "0.5200" in objection and "champion's 0.5100" in objection and "100 snapshots" in objection


def test_not_beating_the_base_rate_is_an_objection():
    assert len(find_objections(0.6, 0.6, None)) == 1


def test_a_model_that_could_not_be_judged_is_not_waved_through():
    assert find_objections(float("nan"), float("nan"), None) == ["no snapshot whose period had ended could be judged"]
