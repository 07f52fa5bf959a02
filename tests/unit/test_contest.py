"""Two sets of probabilities for deals whose true chances are known: what the gate's facts say of them."""

import numpy as np
import pandas as pd
import pytest

from training.contest import weigh
from training.gate import find_objections
from training.metrics import calibration_slope, log_losses

LOSSES = {"model": 0.5, "base_rate": 0.6}
FIRST = pd.Timestamp("2025-01-06", tz="UTC")


def snapshots(deals: int, *, seed: int, weeks: int = 20) -> pd.DataFrame:
    """Deals seen four weeks in a row, with their true chance; each is won or not for all its snapshots."""
    random = np.random.default_rng(seed)
    chance = 1 / (1 + np.exp(-random.normal(-0.5, 1.2, deals)))
    won = (random.random(deals) < chance).astype(float)
    start = random.integers(0, weeks - 4, deals)
    row = np.repeat(np.arange(deals), 4)
    week = start[row] + np.tile(np.arange(4), deals)
    as_of = pd.Series(FIRST + pd.to_timedelta(week * 7, "D")).dt.as_unit("us")
    side = np.where(row % 3 == 0, "south", "north")
    frame = pd.DataFrame({"deal_id": row.astype(str), "as_of": as_of, "won": won[row], "chance": chance[row]})
    return frame.assign(side=side)


def blurred(chance: pd.Series, *, by: float, seed: int, deals: pd.Series) -> np.ndarray:
    """The chances with an error on the log odds, the same for all snapshots of a deal."""
    noise = np.random.default_rng(seed).normal(0, by, deals.nunique())[deals.astype(int)]
    return (1 / (1 + np.exp(-(np.log(chance / (1 - chance)) + noise)))).to_numpy()


def contest(frame: pd.DataFrame, a: np.ndarray, b: np.ndarray):
    return weigh(frame.assign(a=a, b=b), frame[["side"]], seed=3)


def test_the_facts_are_those_of_the_losses_themselves():
    frame = snapshots(400, seed=1)
    a, b = (blurred(frame["chance"], by=0.3, seed=seed, deals=frame["deal_id"]) for seed in (5, 6))
    facts = contest(frame, a, b)
    won = frame["won"].to_numpy()
    less = log_losses(a, won) - log_losses(b, won)
    assert (facts.snapshots, facts.deals) == (1600, 400)
    assert facts.difference.value == pytest.approx(less.mean(), abs=1e-12)
    assert facts.difference.low < less.mean() < facts.difference.high
    assert facts.slope.value == pytest.approx(calibration_slope(a, won))
    assert facts.champion_slope.value == pytest.approx(calibration_slope(b, won))
    south = frame["side"] == "south"
    assert {each.value: each.difference for each in facts.slices}["south"] == pytest.approx(less[south].mean())
    assert {each.value: each.deals for each in facts.slices} == {"north": 266, "south": 134}


def test_a_model_beside_itself_differs_nowhere_and_passes():
    frame = snapshots(300, seed=2)
    said = frame["chance"].to_numpy()
    facts = contest(frame, said, said)
    assert facts.difference.to_dict() == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert not facts.worse_slices and find_objections(LOSSES, facts) == []


def test_fewer_than_a_hundred_deals_make_no_slice_and_nor_does_everything():
    frame = snapshots(150, seed=3)
    facts = weigh(frame.assign(a=0.4, b=0.5), frame[["side"]].assign(whole="all", half=frame["side"]), seed=3)
    assert {(each.by, each.value) for each in facts.slices} == {("side", "north"), ("half", "north")}


def test_of_equally_good_models_a_slice_is_seldom_called_worse_and_the_interval_holds_the_truth():
    worse, missed = 0, 0
    for seed in range(40):
        frame = snapshots(400, seed=100 + seed)
        a, b = (blurred(frame["chance"], by=0.4, seed=s, deals=frame["deal_id"]) for s in (seed, 1000 + seed))
        facts = weigh(frame.assign(a=a, b=b), frame[["side"]], seed=3)
        worse += bool(facts.worse_slices)
        missed += not facts.difference.low <= 0 <= facts.difference.high
    # 5 % each would be two of forty; six or more come by luck once in seventy.
    assert worse <= 5 and missed <= 5


def test_a_model_that_is_worse_in_one_slice_alone_is_caught_though_it_is_as_good_overall():
    frame = snapshots(1200, seed=4)
    south = (frame["side"] == "south").to_numpy()
    good, bad = frame["chance"].to_numpy(), blurred(frame["chance"], by=1.5, seed=1, deals=frame["deal_id"])
    facts = contest(
        frame,
        np.where(south, bad, good),
        np.where(south, good, blurred(frame["chance"], by=0.9, seed=2, deals=frame["deal_id"])),
    )
    assert facts.difference.value < 0.02
    assert [each.value for each in facts.worse_slices] == ["south"]
    assert any("side is south" in objection for objection in find_objections(LOSSES, facts))


@pytest.mark.parametrize(("times", "word"), [(2.0, "too bold"), (0.5, "too timid")])
def test_probabilities_that_are_too_bold_or_too_timid_are_caught(times, word):
    frame = snapshots(1500, seed=5)
    log_odds = np.log(frame["chance"] / (1 - frame["chance"]))
    said = (1 / (1 + np.exp(-times * log_odds))).to_numpy()
    facts = contest(frame, said, said)
    assert facts.slope.value == pytest.approx(1 / times, rel=0.15)
    assert facts.slope.low < 1 / times < facts.slope.high
    assert word in find_objections(LOSSES, facts)[0]


def test_the_slopes_interval_is_nearly_that_of_refitting_every_draw():
    frame = snapshots(300, seed=6)
    facts = contest(frame, frame["chance"].to_numpy(), frame["chance"].to_numpy())
    random, slopes = np.random.default_rng(0), []
    deal = frame["deal_id"].astype(int).to_numpy()
    week = ((frame["as_of"] - FIRST).dt.days // 7).to_numpy()
    for _ in range(300):
        times = np.bincount(random.integers(0, 300, 300), minlength=300)[deal]
        times = times * np.bincount(random.integers(0, 20, 20), minlength=20)[week]
        rows = np.repeat(np.arange(len(frame)), times)
        slopes.append(calibration_slope(frame["chance"].to_numpy()[rows], frame["won"].to_numpy()[rows]))
    low, high = np.quantile(slopes, [0.025, 0.975])
    assert facts.slope.low == pytest.approx(low, abs=0.12) and facts.slope.high == pytest.approx(high, abs=0.12)


def test_where_no_slope_exists_none_is_told():
    frame = snapshots(120, seed=7)
    facts = contest(frame, np.full(len(frame), 0.3), frame["chance"].to_numpy())
    assert facts.slope is None and facts.champion_slope is not None
    assert facts.to_dict()["calibration_slope"] is None
