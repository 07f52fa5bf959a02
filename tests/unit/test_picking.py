"""Telling the won from the lost is one thing, knowing when deals close another: only the first is skill in picking."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from crm.calendar import Calendar
from crm.contract import empty_frame
from crm.history import build_history
from crm.tables import CrmTables
from models.baselines import BASELINES
from models.bundle import ONE_CHANCE
from models.curves import Curves
from models.hazard import HazardMargins
from training.evaluate import PastFit, Snapshots, evaluate, share_won
from training.fit import choose_fallback, losses_to_compare
from training.gate import find_objections
from training.picking import WORTH_HAVING, Picking, tell_apart

FITTED_AT = pd.Timestamp("2025-10-01", tz="UTC")
KNOWN_AT = pd.Timestamp("2026-01-01", tz="UTC")
CLOSING_A_DAY = 0.05


def fit_that_says(chance: np.ndarray, true_chance: np.ndarray, *, seed: int = 1) -> PastFit:
    """Deals that close at the same rate, each won with its true chance; the fit gives each the chance it says."""
    random, deals = np.random.default_rng(seed), len(chance)
    as_of = pd.Series(FITTED_AT + pd.to_timedelta(random.integers(0, 60, deals), unit="D"))
    outcome = pd.Series(np.where(random.random(deals) < true_chance, "won", "lost"), dtype="str")
    ended_at = as_of + pd.to_timedelta(random.exponential(1 / CLOSING_A_DAY, deals), unit="D").round("s")
    ids = pd.Series(np.arange(deals)).astype("str")
    opened_at = pd.Series(FITTED_AT - pd.Timedelta(days=9), index=ids.index)
    spells = pd.DataFrame({"deal_id": ids, "opened_at": opened_at, "ended_at": ended_at, "outcome": outcome})
    before = pd.DataFrame({"at": [FITTED_AT - pd.Timedelta(days=1)] * 4, "outcome": ["won", "lost"] * 2})
    tables = CrmTables({"deals": empty_frame("deals")}, Calendar(base_currency="EUR"), KNOWN_AT, "1", {})
    history = replace(build_history(tables), spells=spells, endings=before)
    ends = pd.Series(KNOWN_AT, index=ids.index)
    judged = Snapshots(pd.DataFrame({"deal_id": ids, "as_of": as_of}), ends, history, tables)
    level = {
        "won": np.log(CLOSING_A_DAY * chance)[:, None],
        "lost": np.log(CLOSING_A_DAY * (1 - chance))[:, None],
    }
    nothing = {cause: np.zeros((deals, 1)) for cause in level}
    margins = HazardMargins(np.tile([0.0, 365.0], (deals, 1)), level, nothing, nothing)
    return PastFit(FITTED_AT, judged, margins, dict.fromkeys(BASELINES, np.full(deals, 0.4)), 1.0)


def picking_of(fit: PastFit) -> Picking | None:
    return tell_apart(evaluate([fit], KNOWN_AT), share_won(fit.judged.history, KNOWN_AT), seed=1)


def test_a_model_that_knows_which_deals_win_is_better_than_one_chance_for_all():
    chance = np.where(np.arange(600) % 2 == 0, 0.2, 0.8)
    picking = picking_of(fit_that_says(chance, chance))
    assert picking.is_shown and picking.difference < -0.05 and not picking.is_absent


def test_a_model_that_only_knows_when_deals_close_gives_way_to_one_chance_for_all():
    said = np.where(np.arange(3000) % 2 == 0, 0.45, 0.55)
    for seed in range(5):
        fit = fit_that_says(said, np.full(3000, 0.5), seed=seed)
        picking = picking_of(fit)
        assert not picking.is_shown and picking.is_absent
        assert choose_fallback(evaluate([fit], KNOWN_AT), {}, picking) == ONE_CHANCE


def test_few_deals_that_may_be_told_apart_are_not_given_up():
    chance = np.where(np.arange(12) % 2 == 0, 0.4, 0.6)
    picking = picking_of(fit_that_says(chance, chance))
    assert not picking.is_shown and not picking.is_absent and picking.at_least < -WORTH_HAVING
    assert "Read win_probability with care" in picking.limits()[0]


def test_a_baseline_that_is_better_than_one_chance_for_all_serves():
    fit = fit_that_says(np.where(np.arange(3000) % 2 == 0, 0.45, 0.55), np.full(3000, 0.5))
    judged = evaluate([fit], KNOWN_AT).judged
    knowing = np.clip(judged["won"].to_numpy(), 0.01, 0.99)
    all_knowing = evaluate([replace(fit, baselines={**fit.baselines, "naive_bayes": knowing})], KNOWN_AT)
    assert choose_fallback(all_knowing, {"naive_bayes": None}, picking_of(fit)) == "naive_bayes"


def test_the_gate_compares_baselines_with_the_one_chance_that_serves_not_with_the_model_that_does_not():
    fit = fit_that_says(np.where(np.arange(3000) % 2 == 0, 0.4, 0.6), np.full(3000, 0.5))
    evaluation = evaluate([fit], KNOWN_AT)
    even, own = evaluation.log_loss_of(ONE_CHANCE), evaluation.log_loss_of("model")
    between = (even + own) / 2
    assert even < between < own
    # A baseline that always says the same has the log loss wanted where its chance is a little off.
    share, chances = evaluation.judged["won"].mean(), np.linspace(0.01, 0.5, 5000)
    said = chances[np.argmin(np.abs(-share * np.log(chances) - (1 - share) * np.log1p(-chances) - between))]
    judged = evaluation.judged.assign(base_rate=said)
    evaluation = replace(evaluation, judged=judged)
    served = losses_to_compare(evaluation, ["base_rate"], ONE_CHANCE)
    assert served["model"] == even < served["base_rate"] < own
    assert find_objections(served, None) == []
    [objection] = find_objections(losses_to_compare(evaluation, ["base_rate"], None), None)
    assert objection.startswith("the baseline base_rate is not beaten")


def test_with_closings_of_one_kind_alone_there_is_nothing_to_tell_apart():
    fit = fit_that_says(np.full(9, 0.5), np.full(9, 0.5))
    history = replace(fit.judged.history, endings=fit.judged.history.endings.assign(outcome="won"))
    assert picking_of(replace(fit, judged=replace(fit.judged, history=history))) is None
    assert tell_apart(evaluate([], KNOWN_AT), 0.5, seed=1) is None


def test_one_chance_for_all_leaves_when_deals_close_as_it_was():
    curves = Curves(np.array([[0.0, 10.0, 365.0]]), np.log([[0.01, 0.03]]), np.log([[0.02, 0.01]]))
    even = curves.with_one_chance(0.25).probability_by(np.array([20.0]))
    assert even.still_open == pytest.approx(curves.probability_by(np.array([20.0])).still_open)
    assert even.won == pytest.approx((1 - even.still_open) / 4)


def test_no_skill_is_said_in_words_and_shown_skill_needs_none():
    assert Picking(-0.02, -0.03, -0.01, 0.6).limits() == []
    (told,) = Picking(-0.001, -0.005, 0.004, 0.6).limits()
    assert told.startswith("No skill found in telling the won from the lost")
    assert "0.60, log loss would differ by +0.0010" in told
