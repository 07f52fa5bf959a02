"""The holdout: a random, stable share of teams that does not see scores, and what that says of what scores do.

Teams are drawn by a hash of their name, so that a team stays what it is whatever other teams come and go. Scores of the
deals of held-out teams are computed, published and judged like all others; they are not shown, to anybody.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from math import comb, sqrt
from typing import Any

import numpy as np
import pandas as pd

MOST_DRAWS = 10_000
SURE_POWER = 2.8
"""An effect of so many standard errors is found 4 times in 5, at 5 % of false alarms."""


@dataclass(frozen=True)
class Holdout:
    """Which teams do not see scores.

    Attributes
    ----------
    share : of teams, 0..1, that are held out; each is drawn by itself, so that few teams may give none. 0: nobody is.
    key : another key draws other teams; it is changed before a holdout begins, never during one.
    since : the day it began (YYYY-MM-DD): what scores do is measured from then on. Empty: from the first score on.
    """

    share: float = 0.0
    key: str = ""
    since: str = ""

    def holds_out(self, team: str) -> bool:
        """Whether a team does not see scores."""
        drawn = int.from_bytes(hashlib.sha256(f"{self.key}\n{team}".encode()).digest()[:8], "big") / 2**64
        return drawn < self.share

    def withheld_owners(self, users: pd.DataFrame) -> frozenset[str]:
        """The users whose deals' scores are not shown: those of held-out teams. Who is in no team is never held out."""
        if not self.share or "team" not in users:
            return frozenset()
        members = users.dropna(subset="team")
        return frozenset(members.loc[members["team"].map(self.holds_out).astype(bool), "user_id"])

    def announced(self, users: pd.DataFrame) -> str | None:
        """The holdout in one sentence, for whoever reads what a model is good for; None where there is none."""
        if not self.share:
            return None
        teams = users["team"].dropna().unique() if "team" in users else []
        held = sum(map(self.holds_out, teams))
        since = f" since {self.since}" if self.since else ""
        return (
            f"Holdout: {held} of {len(teams)} teams, drawn at random, see no scores{since}; "
            "`dealcast holdout` tells what that can show."
        )


def with_limit(card: Mapping[str, Any], limit: str | None) -> dict[str, Any]:
    """A model card with one more limit, if there is one."""
    return {**card, "limits": [*card["limits"], *([limit] if limit else [])]}


@dataclass(frozen=True)
class Effect:
    """What became of deals whose teams saw scores, against those whose teams did not.

    Attributes
    ----------
    difference : points (0..100) of the share won within the period beyond what had been said of the deals: of teams
        that saw scores less of those that did not.
    detectable : points; a difference this large would be found 4 times in 5.
    chance : how often drawing other teams would have given a difference as large (0..1).
    draws : so many ways of drawing the teams were looked at; the smallest chance that can come out is 1 of them.
    deals, teams : (shown, withheld).
    """

    difference: float
    detectable: float
    chance: float
    draws: int
    deals: tuple[int, int]
    teams: tuple[int, int]


def measured_effect(said: pd.DataFrame) -> Effect | None:
    """What scores did, judged by drawing other teams; None unless there are teams of both kinds.

    Parameters
    ----------
    said : team, withheld, said (0..1, the chance told as the period began), won (bool); a row per deal and period.
    """
    teams = said.assign(beyond=said["won"].astype(float) - said["said"]).groupby("team")
    sums, counts = teams["beyond"].sum().to_numpy(), teams.size().to_numpy()
    withheld = teams["withheld"].first().to_numpy(dtype=bool)
    held = int(withheld.sum())
    if not 0 < held < len(sums):
        return None
    observed = _difference(sums, counts, withheld[None, :])[0]
    drawn = _difference(sums, counts, _draws(len(sums), held))
    return Effect(
        difference=100 * float(observed),
        detectable=100 * SURE_POWER * float(np.std(drawn)),
        chance=float(np.mean(np.abs(drawn) >= abs(observed) - 1e-12)),
        draws=len(drawn),
        deals=(int(counts[~withheld].sum()), int(counts[withheld].sum())),
        teams=(len(sums) - held, held),
    )


def _draws(teams: int, held: int) -> np.ndarray:
    """Every way of holding out so many teams, or many of them at random: a row of flags each."""
    if comb(teams, held) <= MOST_DRAWS:
        chosen = np.array(list(combinations(range(teams), held)))
    else:
        random = np.random.default_rng(0)
        chosen = random.permuted(np.tile(np.arange(teams), (MOST_DRAWS, 1)), axis=1)[:, :held]
    flags = np.zeros((len(chosen), teams), dtype=bool)
    np.put_along_axis(flags, chosen, True, axis=1)
    return flags


def _difference(sums: np.ndarray, counts: np.ndarray, withheld: np.ndarray) -> np.ndarray:
    held = (withheld * sums).sum(axis=1) / (withheld * counts).sum(axis=1)
    return (~withheld * sums).sum(axis=1) / (~withheld * counts).sum(axis=1) - held


def detectable_points(chances: pd.Series, withheld: pd.Series) -> float | None:
    """The smallest difference, in points, that deals with these chances would show 4 times in 5, by their luck alone.

    Teams differ in more than luck: what can truly be found is larger. None unless there are deals of both kinds.
    """
    variance = chances * (1 - chances)
    parts = [variance[withheld], variance[~withheld]]
    if any(part.empty for part in parts):
        return None
    return 100 * SURE_POWER * sqrt(sum(float(part.sum()) / len(part) ** 2 for part in parts))
