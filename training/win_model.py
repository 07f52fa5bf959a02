"""The win model for notebooks: the hazards of `models.hazard` in scikit-learn's manner, on frames of any columns."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from crm.calendar import Calendar
from models.bins import LONGEST_HORIZON, choose_bins
from models.curves import Curves
from models.hazard import HazardModel, fit_hazards
from models.learners import HazardSettings

Array = NDArray[np.float64]

OUTCOMES = ("days_observed", "outcome")
IDENTITY = ("deal_id", "as_of")
"""Columns that say which snapshot a row is; they are no features."""

_NO_MOMENT = pd.Timestamp("2000-01-03", tz="UTC")
_CLOSED_WITHIN_DAYS = 1.0


@dataclass(frozen=True)
class ColumnKind:
    """What encoding reads of a column: no direction is declared of it."""

    kind: str
    higher_is: str = "neutral"


class WinModel(ClassifierMixin, BaseEstimator):
    """The probability that an open deal is won within so many days: competing intensities of winning and losing.

    The same fit as `dealcast train` makes, before its calibration. It learns from deals still open, too: they were
    watched without closing.

    Parameters
    ----------
    horizon_days : what `predict_proba` speaks of, unless y was only won or lost.
    rounds, learning_rate, leaves, feature_share, deals_per_leaf, shrinkage_deals, linear_deals, fewest_deals :
        see `models.learners.HazardSettings`.
    weight_linear : share of the linear partner in the blend with the trees, 0..1.
    calendar : whose periods and days the moments in `as_of` fall into; None is calendar quarters in UTC.
    random_state : seed.

    Attributes
    ----------
    hazards_ : the fitted `HazardModel`.
    classes_ : the two labels of y, the second one is won; 0 and 1 if y gave days and outcomes.
    kinds_ : "number" or "category" by feature.

    Examples
    --------
    >>> X = pd.DataFrame({"stage": ["Proposal", "Qualification"] * 40, "meetings": [4, 0] * 40})
    >>> model = WinModel().fit(X, [1, 0] * 40)
    >>> won = model.predict_proba(X)[:2, 1]
    >>> bool(won[0] > 0.8 and won[1] < 0.2)
    True
    """

    hazards_: HazardModel
    classes_: NDArray[Any]
    kinds_: dict[str, str]

    def __init__(
        self,
        *,
        horizon_days: float = LONGEST_HORIZON,
        rounds: int = 160,
        learning_rate: float = 0.05,
        leaves: int = 8,
        feature_share: float = 0.5,
        deals_per_leaf: float = 3.0,
        shrinkage_deals: float = 10.0,
        linear_deals: float = 50.0,
        fewest_deals: int = 30,
        weight_linear: float = 0.5,
        calendar: Calendar | None = None,
        random_state: Any = 7,
    ) -> None:
        self.horizon_days = horizon_days
        self.rounds = rounds
        self.learning_rate = learning_rate
        self.leaves = leaves
        self.feature_share = feature_share
        self.deals_per_leaf = deals_per_leaf
        self.shrinkage_deals = shrinkage_deals
        self.linear_deals = linear_deals
        self.fewest_deals = fewest_deals
        self.weight_linear = weight_linear
        self.calendar = calendar
        self.random_state = random_state

    def fit(self, X: ArrayLike | pd.DataFrame, y: ArrayLike | pd.DataFrame) -> "WinModel":
        """Fit to snapshots and what became of them.

        Parameters
        ----------
        X : (n, p) one row per snapshot. Numbers, booleans and categories (text); unknown is NaN. In a frame, `deal_id`
            and `as_of` (instants in UTC) say which snapshot a row is: rows of one deal count as one deal's evidence,
            and the bins ahead follow the calendar. Without them every row is a deal of its own, at no moment in
            particular. `stage` and `days_to_close_date`, where there are any, are used as the catalogue's are.
        y : either the frame of `training.labels.label_outcomes`, aligned with X: days_observed (days from the snapshot
            to its end or to the training moment) and outcome ("won", "lost", NaN while open); or (n,) two labels,
            the greater one for won. Labels alone know no time: the probability is then that of being won in the end.

        Raises
        ------
        ValueError : X and y do not fit together, or y is neither.
        """
        features = self._features(X, reset=True)
        outcomes, bins = self._outcomes(y, len(features))
        random = self.random_state
        self.hazards_ = fit_hazards(
            features,
            outcomes,
            self._calendar(),
            bins,
            catalogue={name: ColumnKind(kind) for name, kind in self.kinds_.items()},
            seed=random if isinstance(random, int) else int(check_random_state(random).randint(2**31 - 1)),
            weight_linear=self.weight_linear,
            settings=self._settings(),
            num_threads=1,
        )
        return self

    def predict_proba(self, X: ArrayLike | pd.DataFrame) -> Array:
        """(n, 2) probability to be not won, and to be won, within `horizon_days`."""
        won = self.probability_by(X, self.horizon_days)["won"].to_numpy(dtype=float)
        return np.column_stack([1 - won, won])

    def predict(self, X: ArrayLike | pd.DataFrame) -> NDArray[Any]:
        """(n,) the likelier label."""
        # First, so that an unfitted model says so before anything else fails.
        check_is_fitted(self)
        return np.asarray(self.classes_[(self.predict_proba(X)[:, 1] > 0.5).astype(int)])

    def probability_by(self, X: ArrayLike | pd.DataFrame, days: float) -> pd.DataFrame:
        """won, lost and still_open within so many days of each snapshot: they sum to 1, and follow the rows of X."""
        curves = self.curves(X)
        chances = curves.probability_by(np.full(len(curves.edges), float(days)))
        index = X.index if isinstance(X, pd.DataFrame) else None
        return pd.DataFrame({"won": chances.won, "lost": chances.lost, "still_open": chances.still_open}, index=index)

    def curves(self, X: ArrayLike | pd.DataFrame) -> Curves:
        """The intensities by day ahead of each snapshot."""
        check_is_fitted(self)
        return self.hazards_.curves(self._features(X, reset=False), self._calendar())

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.allow_nan = True
        return tags

    def _settings(self) -> HazardSettings:
        return HazardSettings(**{name: getattr(self, name) for name in HazardSettings.__dataclass_fields__})

    def _calendar(self) -> Calendar:
        return Calendar(base_currency="USD") if self.calendar is None else self.calendar

    def _features(self, X: ArrayLike | pd.DataFrame, *, reset: bool) -> pd.DataFrame:
        """X as the hazards take it: named columns of numbers and text, deal_id and as_of."""
        if isinstance(X, pd.DataFrame):
            validate_data(self, X, skip_check_array=True, reset=reset)
            if not len(X) or not X.shape[1]:
                raise ValueError(f"Found array with {len(X)} sample(s) and {X.shape[1]} feature(s): X is empty.")
            frame = X.reset_index(drop=True).set_axis(X.columns.astype("str"), axis=1)
            if frame.columns.has_duplicates:
                raise ValueError("Two columns of X have the same name: features are told apart by their names.")
        else:
            given = validate_data(self, X, ensure_all_finite="allow-nan", reset=reset)
            frame = pd.DataFrame(given, columns=[f"x{place}" for place in range(given.shape[1])])
        if reset:
            self.kinds_ = {str(name): _kind_of(frame[name]) for name in frame if name not in IDENTITY}
        columns = {name: _as_kind(frame[name], kind) for name, kind in self.kinds_.items()}
        deal_id = frame["deal_id"] if "deal_id" in frame else pd.Series(np.arange(len(frame))).astype("str")
        as_of = frame["as_of"] if "as_of" in frame else pd.Series(_NO_MOMENT, index=frame.index)
        as_of = pd.to_datetime(as_of, utc=True).astype("datetime64[us, UTC]")
        return pd.DataFrame({"deal_id": deal_id, "as_of": as_of, **columns})

    def _outcomes(self, y: ArrayLike | pd.DataFrame, rows: int) -> tuple[pd.DataFrame, Array]:
        """What became of each row, and the bins that follow from it; learns `classes_`."""
        if isinstance(y, pd.DataFrame) and set(OUTCOMES) <= set(y.columns):
            outcomes = y[list(OUTCOMES)].reset_index(drop=True)
            self.classes_ = np.array([0, 1])
            bins = choose_bins(outcomes["days_observed"].where(outcomes["outcome"].notna()).to_numpy(dtype=float))
        else:
            outcomes = self._labels(y)
            bins = np.array([0.0, LONGEST_HORIZON])
        if len(outcomes) != rows:
            raise ValueError(f"Found input variables with inconsistent numbers of samples: {[rows, len(outcomes)]}")
        return outcomes, bins

    def _labels(self, y: ArrayLike) -> pd.DataFrame:
        """Labels as outcomes: of two intensities that add up to one closing a day, what counts is their ratio."""
        if y is None:
            raise ValueError("This WinModel estimator requires y to be passed, but the target y is None")
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        self.classes_, place = np.unique(labels, return_inverse=True)
        if len(self.classes_) > 2:
            kind = type_of_target(labels)
            raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class only, {self.classes_[0]!r}: there is nothing to tell apart.")
        outcome = pd.Series(np.array(["lost", "won"])[place], dtype="str")
        return pd.DataFrame({"days_observed": np.full(len(labels), _CLOSED_WITHIN_DAYS), "outcome": outcome})


def _kind_of(values: pd.Series) -> str:
    return "number" if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values) else "category"


def _as_kind(values: pd.Series, kind: str) -> pd.Series:
    if kind == "number":
        return values.astype("float64")
    return values.astype("object").where(values.notna(), None).astype("str")
