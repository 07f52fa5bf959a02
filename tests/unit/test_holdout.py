"""The holdout: stable random teams, and an effect that is found where there is one and not where there is none."""

from math import sqrt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.holdout import Holdout, detectable_points, measured_effect

TEAMS = [f"team {n}" for n in range(1000)]


def test_about_the_asked_share_of_teams_is_held_out_and_always_the_same_ones():
    held = [team for team in TEAMS if Holdout(0.3, "a").holds_out(team)]
    assert 240 < len(held) < 360
    assert held == [team for team in reversed(TEAMS) if Holdout(0.3, "a").holds_out(team)][::-1]
    assert held != [team for team in TEAMS if Holdout(0.3, "b").holds_out(team)]
    assert not any(Holdout(0.0, "a").holds_out(team) for team in TEAMS)


@given(st.text(min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_only_adds_teams(team, one, other):
    small, large = sorted((one, other))
    assert not Holdout(small).holds_out(team) or Holdout(large).holds_out(team)


def test_who_is_in_no_team_is_never_held_out():
    users = pd.DataFrame({"user_id": ["1", "2"], "team": ["North", None]})
    assert Holdout(0.999999).withheld_owners(users) == {"1"}
    assert Holdout(0.5).withheld_owners(users.drop(columns="team")) == frozenset()
    assert "1 of 1 teams" in str(Holdout(0.999999).announced(users)) and Holdout().announced(users) is None


def company(effect: float, *, teams: int, held: int, deals: int, seed: int) -> pd.DataFrame:
    """Deals that are won as often as said, and in teams that see scores more often by an effect."""
    random = np.random.default_rng(seed)
    team = np.repeat(np.arange(teams), deals)
    said = random.uniform(0.1, 0.4, len(team))
    won = random.random(len(team)) < said + effect * (team >= held)
    return pd.DataFrame({"team": team.astype(str), "withheld": team < held, "said": said, "won": won})


def test_an_effect_larger_than_what_can_be_found_is_found():
    effect = measured_effect(company(0.2, teams=10, held=3, deals=100, seed=1))
    assert effect.difference == pytest.approx(20, abs=6) and effect.difference > effect.detectable / 2
    assert effect.chance <= 0.05 and effect.draws == 120
    assert (effect.deals, effect.teams) == ((700, 300), (7, 3))


def test_where_there_is_no_effect_a_small_chance_is_as_rare_as_it_says():
    chances = [measured_effect(company(0.0, teams=8, held=4, deals=30, seed=n)).chance for n in range(200)]
    assert 0.01 <= np.mean([chance <= 0.1 for chance in chances]) <= 0.18


def test_without_teams_of_both_kinds_nothing_is_claimed():
    assert measured_effect(company(0.2, teams=4, held=0, deals=5, seed=1)) is None
    assert detectable_points(pd.Series([0.5, 0.5]), pd.Series([True, True])) is None


def test_what_could_be_found_follows_from_the_luck_of_the_deals():
    chances = pd.Series([0.2] * 300)
    withheld = pd.Series([True] * 90 + [False] * 210)
    assert detectable_points(chances, withheld) == pytest.approx(100 * 2.8 * sqrt(0.16 / 90 + 0.16 / 210))
