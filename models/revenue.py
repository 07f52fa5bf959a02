"""What a period will bring, as a distribution: open deals and deals yet to come, drawn together under shared shocks.

Deals of one team win or fail together more often than chance: a quarter is good or bad for a company, a region, a team.
Each draw therefore moves all chances of a company, region and team by common shocks; their sizes come from how far past
forecasts missed beyond what independent deals explain. The shocks are centred: they widen, and leave every mean alone.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

SHOCK_LEVELS = ("company", "region", "team")

# Until past errors speak: a period is usually within a sixth of what its deals promise, a team's within a quarter.
_PRIOR_SPREAD = {"company": 0.15, "region": 0.10, "team": 0.15}
_PRIOR_PERIODS = 4.0
_PRIOR_FREEDOM = 5.0
# A single period a hundred times off says nothing about ordinary ones.
_LARGEST_RATIO = 1.0
_DEALS_AT_ONCE = 256
_NEWTON_STEPS = 8
_NEVER = 1e-9


@dataclass(frozen=True)
class RevenueModel:
    """Sizes of the shared shocks, in log-odds of winning and log-rates of deals to come.

    Attributes
    ----------
    spread : standard deviation of the shock of each of `SHOCK_LEVELS`.
    freedom : degrees of freedom of the shocks' Student distribution; grows with the past periods it rests on.
    periods : past periods the sizes rest on; 0 = the prior alone.
    """

    spread: Mapping[str, float]
    freedom: float = _PRIOR_FREEDOM
    periods: int = 0

    def limits(self) -> list[str]:
        """What a user must know before trusting the ranges, in words."""
        if self.periods >= _PRIOR_PERIODS:
            return []
        rests = "no past period" if not self.periods else f"{self.periods} past period{'s' * (self.periods > 1)}"
        return [
            f"The forecast's range rests on {rests}: before there are {_PRIOR_PERIODS:.0f}, it is mostly what is usual "
            "elsewhere, a period within a sixth of what its deals promise."
        ]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "spread": dict(self.spread)}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "RevenueModel":
        return RevenueModel(dict(stored["spread"]), float(stored["freedom"]), int(stored["periods"]))


def fit_revenue(past: pd.DataFrame | None = None) -> RevenueModel:
    """Shock sizes from past forecasts and what came; the prior alone where there are none. See `fit_shocks`."""
    prior = RevenueModel(dict(_PRIOR_SPREAD))
    return prior if past is None or past.empty else fit_shocks(past)


def fit_shocks(past: pd.DataFrame) -> RevenueModel:
    """Shock sizes from the errors that independent deals do not explain.

    For a node, E[(actual - mean)^2] = variance_independent + shock_variance × sensitivity^2. A company's shock variance
    is that of its own shock, a region's holds the company's, a team's both. All weeks of one period tell of one period.

    Parameters
    ----------
    past : period_start, node_type, node_id, week, mean, variance_independent, actual (money and money^2), and
        sensitivity: by how much the mean moves for a shock of 1, in money (taken as `mean` where the column is absent).
    """
    sensitivity = past["sensitivity"] if "sensitivity" in past else past["mean"]
    usable = past.assign(sensitivity=sensitivity.abs())
    usable = usable[(usable["sensitivity"] > 0) & usable["actual"].notna()]
    surplus = (usable["actual"] - usable["mean"]) ** 2 - usable["variance_independent"]
    usable["ratio"] = (surplus / usable["sensitivity"] ** 2).clip(-_LARGEST_RATIO, _LARGEST_RATIO)
    spread, explained = {}, 0.0
    for level in SHOCK_LEVELS:
        rows = usable[usable["node_type"] == level]
        by_period = rows.groupby("period_start")[["ratio"]].mean()["ratio"]
        own = by_period.sum() - explained * len(by_period)
        variance = (_PRIOR_PERIODS * _PRIOR_SPREAD[level] ** 2 + own) / (_PRIOR_PERIODS + len(by_period))
        # Never below a part of the prior: a few lucky quarters do not prove that deals are independent.
        variance = max(variance, (_PRIOR_SPREAD[level] / 3) ** 2)
        spread[level] = float(np.sqrt(variance))
        explained += variance
    periods = usable["period_start"].nunique()
    return RevenueModel(spread, _PRIOR_FREEDOM + periods, periods)


def expected_money(deals: pd.DataFrame, arrivals: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean, variance and sensitivity of each deal's and each arrival stream's bookings, exact, without any shock.

    Parameters
    ----------
    deals : win_probability, amount (expected, if won), log_spread (of a lognormal amount).
    arrivals : wins (expected number), amount (mean per win), amount_cv (standard deviation / mean).

    Returns
    -------
    Two frames aligned with the inputs: mean, variance (money^2), sensitivity (money per unit of log-odds or log-rate).
    """
    chance, amount = deals["win_probability"], deals["amount"]
    mean = chance * amount
    second_moment = chance * amount**2 * np.exp(deals["log_spread"] ** 2)
    open_deals = pd.DataFrame(
        {"mean": mean, "variance": second_moment - mean**2, "sensitivity": mean * (1 - chance)}, index=deals.index
    )
    coming = arrivals["wins"] * arrivals["amount"]
    spread = arrivals["wins"] * arrivals["amount"] ** 2 * (1 + arrivals["amount_cv"] ** 2)
    return open_deals, pd.DataFrame({"mean": coming, "variance": spread, "sensitivity": coming}, index=arrivals.index)


def simulate_money(
    model: RevenueModel, deals: pd.DataFrame, arrivals: pd.DataFrame, *, places: int, samples: int = 4000, seed: int = 7
) -> np.ndarray:
    """Draws of what open deals and deals yet to come will bring, summed by place.

    Every deal, stream of arrivals, region and team has random numbers of its own: what one of them brings in a draw is
    the same whoever else is there, so that a deal can be taken out of a forecast, or changed, without drawing the rest.

    Parameters
    ----------
    deals : deal_id, place (0 .. places - 1), team, region, win_probability, amount, log_spread.
    arrivals : place, team, region, wins, amount, amount_cv, rate_spread (standard deviation of the log of the common
        error of all rates). The order of rows matters for the draws.

    Returns
    -------
    (places, samples) money. Means agree with `expected_money` up to the noise of sampling.
    """
    shocks = _Shocks.draw(model, pd.concat([deals[["region", "team"]], arrivals[["region", "team"]]]), samples, seed)
    total = np.zeros((places, samples))
    for start in range(0, len(deals), _DEALS_AT_ONCE):
        some = deals.iloc[start : start + _DEALS_AT_ONCE]
        np.add.at(total, some["place"].to_numpy(), _draw_deals(some, shocks, seed))
    if len(arrivals):
        np.add.at(total, arrivals["place"].to_numpy(), _draw_arrivals(arrivals, shocks, _stream(seed, "arrivals")))
    return total


def _stream(seed: int, kind: str, name: str = "") -> np.random.Generator:
    """The random numbers that belong to one deal, team, …: the same in every process and on every machine."""
    key = hashlib.blake2b(f"{seed}\x1f{kind}\x1f{name}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


@dataclass(frozen=True)
class _Shocks:
    """Common shocks of each pair of region and team, (pairs, samples); `pair_of` finds the row of a pair."""

    values: np.ndarray
    pair_of: Mapping[tuple[str, str], int]

    @staticmethod
    def draw(model: RevenueModel, places: pd.DataFrame, samples: int, seed: int) -> "_Shocks":
        pairs = sorted(set(zip(places["region"], places["team"], strict=True)))
        company = _student(model, "company", samples, _stream(seed, "company"))
        regions, teams = (
            {name: _student(model, level, samples, _stream(seed, level, name)) for name in names}
            for level, names in (("region", {region for region, _ in pairs}), ("team", {team for _, team in pairs}))
        )
        rows = [company + regions[region] + teams[team] for region, team in pairs]
        return _Shocks(np.array(rows).reshape(-1, samples), {pair: row for row, pair in enumerate(pairs)})

    def rows_of(self, places: pd.DataFrame) -> np.ndarray:
        return np.array([self.pair_of[pair] for pair in zip(places["region"], places["team"], strict=True)])


def _student(model: RevenueModel, level: str, samples: int, random: np.random.Generator) -> np.ndarray:
    """Student draws with the level's standard deviation; tails end where a shock would be four times it."""
    unit = np.sqrt((model.freedom - 2) / model.freedom)
    return np.clip(random.standard_t(model.freedom, samples) * unit, -4, 4) * model.spread[level]


def _draw_deals(deals: pd.DataFrame, shocks: _Shocks, seed: int) -> np.ndarray:
    rows = shocks.rows_of(deals)
    chance = deals["win_probability"].to_numpy()
    odds = _centred_log_odds(chance, shocks.values, rows)
    streams = [_stream(seed, "deal", deal_id) for deal_id in deals["deal_id"]]
    uniform = np.empty((len(deals), shocks.values.shape[1]))
    for row, stream in enumerate(streams):
        stream.random(out=uniform[row])
    won = (uniform < 1 / (1 + np.exp(-(odds[:, None] + shocks.values[rows])))) & (chance > _NEVER)[:, None]
    money = np.zeros(won.shape)
    which = np.nonzero(won)[0]
    spread = deals["log_spread"].to_numpy()[which]
    drawn = zip(streams, won.sum(axis=1).tolist(), strict=True)
    normal = np.concatenate([stream.standard_normal(count) for stream, count in drawn])
    money[won] = deals["amount"].to_numpy()[which] * np.exp(spread * normal - spread**2 / 2)
    return money


def _centred_log_odds(chance: np.ndarray, shocks: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Log-odds that, with the shocks added, are won as often as `chance` says on average."""
    target = np.clip(chance, _NEVER, 1 - _NEVER)
    # 64 equally likely values stand for a pair's thousands of shocks.
    few = np.quantile(shocks, (np.arange(64) + 0.5) / 64, axis=1).T[rows]
    odds = np.log(target / (1 - target))
    for _ in range(_NEWTON_STEPS):
        won = 1 / (1 + np.exp(-(odds[:, None] + few)))
        slope = (won * (1 - won)).mean(axis=1)
        odds = odds - np.clip((won.mean(axis=1) - target) / np.maximum(slope, 1e-12), -2, 2)
    return odds


def _draw_arrivals(arrivals: pd.DataFrame, shocks: _Shocks, random: np.random.Generator) -> np.ndarray:
    """Compound Poisson with gamma amounts: the sum of n of them is one gamma draw."""
    samples = shocks.values.shape[1]
    common = np.clip(random.standard_normal(samples), -4, 4)
    moved = shocks.values[shocks.rows_of(arrivals)] + arrivals["rate_spread"].to_numpy()[:, None] * common
    growth = np.exp(moved)
    rate = arrivals["wins"].to_numpy()[:, None] * growth / growth.mean(axis=1, keepdims=True)
    wins = random.poisson(rate)
    variance = np.maximum(arrivals["amount_cv"].to_numpy(), 1e-3)[:, None] ** 2
    units = random.gamma(np.maximum(wins, 1) / variance, 1.0) * variance
    return np.where(wins > 0, units, 0.0) * arrivals["amount"].to_numpy()[:, None]
