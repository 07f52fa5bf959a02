"""Telling the won from the lost is one thing, knowing when deals close another: only the first is skill in picking."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from crm.calendar import Calendar
from crm.contract import empty_frame
from crm.history import build_history
from crm.tables import CrmTables
from models.curves import Curves
from models.hazard import HazardMargins
from training.evaluate import Correction, PastFit, Snapshots
from training.picking import Picking, tell_apart, with_one_chance

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
    return PastFit(
        FITTED_AT, judged, HazardMargins(np.tile([0.0, 365.0], (deals, 1)), level, nothing, nothing), {}, 1.0
    )


def test_a_model_that_knows_which_deals_win_is_better_than_one_chance_for_all():
    chance = np.where(np.arange(600) % 2 == 0, 0.2, 0.8)
    picking = tell_apart([fit_that_says(chance, chance)], Correction(), KNOWN_AT, seed=1)
    assert picking.is_shown and picking.difference < -0.05


def test_a_model_that_only_knows_when_deals_close_shows_no_skill_in_telling_them_apart():
    said = np.where(np.arange(600) % 2 == 0, 0.45, 0.55)
    for seed in range(5):
        picking = tell_apart([fit_that_says(said, np.full(600, 0.5), seed=seed)], Correction(), KNOWN_AT, seed=1)
        assert not picking.is_shown


def test_with_closings_of_one_kind_alone_there_is_nothing_to_tell_apart():
    fit = fit_that_says(np.full(9, 0.5), np.full(9, 0.5))
    history = replace(fit.judged.history, endings=fit.judged.history.endings.assign(outcome="won"))
    assert (
        tell_apart([replace(fit, judged=replace(fit.judged, history=history))], Correction(), KNOWN_AT, seed=1) is None
    )
    assert tell_apart([], Correction(), KNOWN_AT, seed=1) is None


def test_one_chance_for_all_leaves_when_deals_close_as_it_was():
    curves = Curves(np.array([[0.0, 10.0, 365.0]]), np.log([[0.01, 0.03]]), np.log([[0.02, 0.01]]))
    even = with_one_chance(curves, 0.25).probability_by(np.array([20.0]))
    assert even.still_open == pytest.approx(curves.probability_by(np.array([20.0])).still_open)
    assert even.won == pytest.approx((1 - even.still_open) / 4)


def test_no_skill_is_said_in_words_and_shown_skill_needs_none():
    assert Picking(-0.02, -0.01).limits() == []
    (told,) = Picking(-0.001, 0.004).limits()
    assert told.startswith("No skill found in telling the won from the lost") and "+0.0010" in told
