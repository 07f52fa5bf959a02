"""The two unlike learners of an intensity, fitted on what the pooled rates leave unexplained."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import lightgbm as lgb
import numpy as np

from models.bins import BIN_INPUTS, CAUSES, CLOCKS
from models.contributions import TreeTable, add_up, tree_tables
from models.directions import allowed_direction
from models.linear import LinearDesign, fit_poisson, sample_rows

_CLOCK = BIN_INPUTS.index("bin_log_midpoint") - len(BIN_INPUTS)
_BENT = [BIN_INPUTS.index(name) - len(BIN_INPUTS) for name in (*CLOCKS, "days_to_period_end")]


@dataclass(frozen=True)
class HazardSettings:
    """How hard the learners may pull away from the pooled rates; amounts of evidence are in closed deals.

    Attributes
    ----------
    rounds, learning_rate, leaves, feature_share : size of the trees.
    deals_per_leaf : expected closings a leaf needs.
    shrinkage_deals : closings a leaf's value is shrunk by (L2).
    linear_deals : ridge of the linear partner: the prior of a coefficient is worth so many deals.
    fewest_deals : with fewer closings of a cause there are no trees for it.
    """

    rounds: int = 160
    learning_rate: float = 0.05
    leaves: int = 8
    feature_share: float = 0.5
    deals_per_leaf: float = 3.0
    shrinkage_deals: float = 10.0
    linear_deals: float = 50.0
    fewest_deals: int = 30


@dataclass(frozen=True)
class TrainingRows:
    """The (snapshot, bin) rows with days at risk, none after the closing or the training moment.

    Attributes
    ----------
    inputs : (r, k) features and bin inputs, float32, NaN where unknown.
    snapshot : (r,) which snapshot each row belongs to.
    events : by cause, (r,) 1 where the deal closed so in this bin.
    log_expected : by cause, (r,) log of the closings the pooled rates expect in the row's days at risk.
    snapshots_per_deal : rows that repeat one deal's fate count as one piece of evidence.
    declared : (k,) 1 where a higher value is better, -1 where it is worse, 0 for no opinion.
    """

    inputs: np.ndarray
    snapshot: np.ndarray
    events: Mapping[str, np.ndarray]
    log_expected: Mapping[str, np.ndarray]
    snapshots_per_deal: float
    declared: np.ndarray

    @cached_property
    def directions(self) -> Mapping[str, np.ndarray]:
        """By cause, (k,) how its trees may follow each input: 1 only up, -1 only down, 0 as they like."""
        return {
            cause: allowed_direction(
                self.inputs,
                self.declared if cause == "won" else -self.declared,
                events=self.events[cause],
                expected=np.exp(self.log_expected[cause]),
                rows_per_deal=self.snapshots_per_deal,
            )
            for cause in CAUSES
        }

    def take(self, chosen: np.ndarray) -> "TrainingRows":
        """Some of the rows, as evidence on as many deals."""
        return TrainingRows(
            self.inputs[chosen],
            self.snapshot[chosen],
            {cause: events[chosen] for cause, events in self.events.items()},
            {cause: expected[chosen] for cause, expected in self.log_expected.items()},
            self.snapshots_per_deal * len(chosen) / max(len(self.snapshot), 1),
            self.declared,
        )


@dataclass(frozen=True)
class Intensity:
    """One cause's learners on top of the pooled rate: trees (None if closings were too few) and linear coefficients."""

    trees: lgb.Booster | None
    coefficients: np.ndarray

    def tree_margin(self, rows: np.ndarray) -> np.ndarray:
        """(r,) what the trees add to the pooled log-intensity of bin rows."""
        if self.trees is None:
            return np.zeros(len(rows))
        return np.asarray(self.trees.predict(rows, raw_score=True, num_threads=1), dtype=float)

    def tree_contributions(self, rows: np.ndarray) -> np.ndarray:
        """(r, k+1) TreeSHAP of the same by input, the constant last."""
        if self.trees is None or not len(rows):
            return np.zeros((len(rows), rows.shape[1] + 1))
        if self._tables is not None:
            return add_up(self._tables, rows)
        return np.asarray(self.trees.predict(rows, pred_contrib=True, num_threads=1), dtype=float)

    @cached_property
    def _tables(self) -> tuple[TreeTable, ...] | None:
        return None if self.trees is None else tree_tables(self.trees)

    def to_dict(self) -> dict[str, Any]:
        trees = None if self.trees is None else self.trees.model_to_string()
        return {"trees": trees, "coefficients": self.coefficients.tolist()}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "Intensity":
        trees = None if stored["trees"] is None else lgb.Booster(model_str=stored["trees"])
        return Intensity(trees, np.array(stored["coefficients"], dtype=float))


def fit_design(table: TrainingRows, seed: int) -> LinearDesign:
    """The regressors of the linear partner, from a sample of the training rows."""
    sample = sample_rows(table.snapshot, np.random.default_rng(seed))
    inputs = table.inputs.shape[1]
    return LinearDesign.fit(table.inputs[sample], inputs + _CLOCK, bent=[inputs + place for place in _BENT])


def fit_intensities(
    table: TrainingRows, design: LinearDesign, settings: HazardSettings, *, seed: int, num_threads: int = 2
) -> dict[str, Intensity]:
    """Both learners for both causes; `num_threads` causes at once, with the same result."""
    part = table.take(sample_rows(table.snapshot, np.random.default_rng(seed)))
    regressors = design.regressors(part.inputs)
    penalty = settings.linear_deals * part.snapshots_per_deal

    def fit_cause(cause: str) -> Intensity:
        trees = _fit_trees(table, cause, settings, seed)
        return Intensity(trees, fit_poisson(regressors, part.events[cause], part.log_expected[cause], penalty=penalty))

    with ThreadPoolExecutor(max_workers=max(1, min(num_threads, len(CAUSES)))) as threads:
        return dict(zip(CAUSES, threads.map(fit_cause, CAUSES), strict=True))


def _fit_trees(table: TrainingRows, cause: str, settings: HazardSettings, seed: int) -> lgb.Booster | None:
    events = table.events[cause]
    if events.sum() < settings.fewest_deals * table.snapshots_per_deal:
        return None
    parameters = {
        "objective": "poisson",
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.leaves,
        "feature_fraction": settings.feature_share,
        # The Poisson hessian is the expected number of closings, so both settings count closings.
        "min_sum_hessian_in_leaf": settings.deals_per_leaf * table.snapshots_per_deal,
        "lambda_l2": settings.shrinkage_deals * table.snapshots_per_deal,
        "min_data_in_leaf": 20,
        "poisson_max_delta_step": 0.1,
        "max_bin": 127,
        "monotone_constraints": table.directions[cause].tolist(),
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        # One thread a booster: LightGBM's own threads wait spinning, twenty times slower on a busy machine.
        "num_threads": 1,
        "verbose": -1,
    }
    dataset = lgb.Dataset(table.inputs, label=events, init_score=table.log_expected[cause], params=parameters)
    return lgb.train(parameters, dataset, num_boost_round=settings.rounds)
