"""Deals whose true intensities of winning and losing are known: constant per deal, set by its fit and its stage."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from crm.calendar import Calendar

CALENDAR = Calendar(base_currency="EUR")
FIRST_MOMENT = pd.Timestamp("2024-01-01", tz="UTC")


@dataclass(frozen=True)
class Declared:
    """A catalogue entry, as far as models read it."""

    kind: str = "number"
    unit: str = "points"
    reason: str = "value {value:.1f}"
    at_zero: str = ""
    below: str = ""
    audience: str = "everyone"
    topic: str = ""
    higher_is: str = "neutral"
    missing: str = "nobody asked"


CATALOGUE = {
    "fit": Declared(),
    "noise": Declared(audience="none"),
    "stage": Declared(kind="category", unit="category", reason="in stage {value}"),
    "segment": Declared(kind="category", unit="category", reason="segment {value}"),
    "days_to_close_date": Declared(unit="days", reason="close date in {value:.0f} days"),
}


@dataclass(frozen=True)
class SimulatedDeals:
    """Weekly snapshots of open deals, their outcomes by the end of the simulation, and the truth."""

    features: pd.DataFrame
    outcomes: pd.DataFrame
    won_rate: np.ndarray
    lost_rate: np.ndarray

    def true_probability(self, days: float) -> np.ndarray:
        """The chance to be won within so many days."""
        hazard = self.won_rate + self.lost_rate
        return self.won_rate / hazard * -np.expm1(-hazard * days)


def simulate_deals(deals: int, *, seed: int, days: int = 540) -> SimulatedDeals:
    """Deals opened evenly over `days`, seen every seventh day while open; a better fit wins more and loses less."""
    rng = np.random.default_rng(seed)
    opened = rng.uniform(0, days, deals)
    fit, stage, segment = rng.normal(size=deals), rng.integers(0, 3, deals), rng.integers(0, 4, deals)
    won_rate = 0.006 * np.exp(0.6 * fit + np.array([-0.8, 0.0, 0.8])[stage])
    lost_rate = 0.012 * np.exp(-0.4 * fit)
    life = rng.exponential(1 / (won_rate + lost_rate))
    is_won = rng.random(deals) < won_rate / (won_rate + lost_rate)
    promised = opened + rng.uniform(30, 150, deals)
    moments = np.arange(0, days, 7)
    deal, moment = np.nonzero((opened[:, None] <= moments) & ((opened + life)[:, None] > moments))
    at = moments[moment]
    ended = (opened + life)[deal]
    text = {"stage": np.array(["Meeting", "Offer", "Terms"])[stage], "segment": np.array(list("ABCD"))[segment]}
    features = pd.DataFrame(
        {
            "deal_id": pd.Series([f"D{each}" for each in deal], dtype="str"),
            "as_of": (FIRST_MOMENT + pd.to_timedelta(at, unit="D")).astype("datetime64[us, UTC]"),
            "fit": np.where(rng.random(deals) < 0.1, np.nan, fit)[deal],
            "noise": rng.normal(size=len(deal)),
            "days_to_close_date": promised[deal] - at,
            **{name: pd.Series(values[deal], dtype="str") for name, values in text.items()},
        }
    )
    outcome = np.where(ended <= days, np.where(is_won[deal], "won", "lost"), None)
    outcomes = pd.DataFrame({"days_observed": np.minimum(ended, days) - at, "outcome": outcome})
    return SimulatedDeals(features, outcomes.astype({"outcome": "str"}), won_rate[deal], lost_rate[deal])
