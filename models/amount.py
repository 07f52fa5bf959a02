"""What a deal brings if it is won: its amount in the CRM, corrected for how amounts change until they are invoiced."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from crm.bookings import bookings, shown_deals
from crm.history import DealHistory
from crm.tables import CrmTables

# Won deals on which a group's own ratio or mean is believed half.
_PRIOR_WINS = 10.0
# A typing error of a factor of a hundred is not how amounts change.
_LARGEST_LOG_RATIO = float(np.log(10))
_LOOKS = (0.1, 0.3, 0.5, 0.7, 0.9)
_SEPARATOR = "\x1f"


@dataclass(frozen=True)
class AmountModel:
    """Expected amount of a won deal and its spread, in base currency.

    Attributes
    ----------
    ratio : expected final / shown amount, pooled over all won deals.
    ratio_by_stage, ratio_by_type : the same by stage and, within it, by stage and deal type, shrunk to the pooled one.
    mean, mean_by_type, mean_by_segment : mean amount of won deals: of all (0 without any), by deal type, by deal type
        and segment.
    mean_of_zero : mean final amount of deals shown at 0.
    spread_known, spread_unknown : standard deviation of the log of the final amount, given the shown one or nothing.
    wins : won deals all this rests on.
    """

    ratio: float
    ratio_by_stage: Mapping[str, float]
    ratio_by_type: Mapping[str, float]
    mean: float
    mean_by_type: Mapping[str, float]
    mean_by_segment: Mapping[str, float]
    mean_of_zero: float
    spread_known: float
    spread_unknown: float
    wins: int

    def expected(self, deals: pd.DataFrame) -> pd.Series:
        """Expected amount if won, never missing; a negative amount is kept as it is.

        Parameters
        ----------
        deals : stage, deal_type, segment (NaN unknown) and amount_base, as `crm.bookings.shown_deals` returns them.
        """
        stage, kind = deals["stage"].fillna(""), deals["deal_type"].fillna("")
        ratio = (stage + _SEPARATOR + kind).map(self.ratio_by_type)
        ratio = ratio.fillna(stage.map(self.ratio_by_stage)).astype("float64").fillna(self.ratio)
        segment = kind + _SEPARATOR + deals["segment"].fillna("")
        pooled = segment.map(self.mean_by_segment).fillna(kind.map(self.mean_by_type))
        pooled = pooled.astype("float64").fillna(self.mean)
        shown = deals["amount_base"]
        expected = (shown * ratio).where(shown > 0, shown.where(shown < 0, self.mean_of_zero))
        return expected.where(shown.notna(), pooled).rename("expected_amount")

    def low_high(self, deals: pd.DataFrame, *, coverage: float = 0.9) -> tuple[pd.Series, pd.Series]:
        """The range of the amount if won, lognormal about the expected one; columns as for `expected`.

        Where the amount is 0 or negative, nothing is known of how it changes: both ends are the expected amount.
        """
        expected, spread = self.expected(deals), self.log_spread(deals)
        median, reach = expected * np.exp(-(spread**2) / 2), float(ndtri(0.5 + coverage / 2)) * spread
        ends = (median * np.exp(sign * reach) for sign in (-1.0, 1.0))
        low, high = (end.where(expected > 0, expected) for end in ends)
        return low, high

    def log_spread(self, deals: pd.DataFrame) -> pd.Series:
        """Standard deviation of the log of the amount if won; columns as for `expected`."""
        known = deals["amount_base"].notna() & (deals["amount_base"] != 0)
        return pd.Series(np.where(known, self.spread_known, self.spread_unknown), index=deals.index)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "AmountModel":
        return AmountModel(**stored)


def fit_amount(tables: CrmTables, history: DealHistory, known_at: pd.Timestamp) -> AmountModel:
    """Fit on the deals won by `known_at`, each looked at five times along the spell that won it."""
    won = bookings(tables, history, known_at).dropna(subset=["amount_base"])
    spells = history.spells[["deal_id", "opened_at", "ended_at"]]
    won = won.merge(spells, left_on=["deal_id", "won_at"], right_on=["deal_id", "ended_at"], how="left")
    looks = won.loc[won.index.repeat(len(_LOOKS)), ["deal_id", "opened_at", "won_at", "amount_base"]]
    looks = looks[looks["opened_at"] < looks["won_at"]]
    share = np.tile(_LOOKS, len(looks) // len(_LOOKS))
    length = (looks["won_at"] - looks["opened_at"]).dt.total_seconds()
    as_of = looks["opened_at"] + pd.to_timedelta((length * share).round(), unit="s")
    spine = pd.DataFrame({"deal_id": looks["deal_id"], "as_of": as_of.astype("datetime64[us, UTC]")})
    shown = shown_deals(tables, history, spine.reset_index(drop=True))
    return _fit(won, shown.assign(final=looks["amount_base"].to_numpy()))


def _fit(won: pd.DataFrame, looks: pd.DataFrame) -> AmountModel:
    """From won deals (deal_type, segment, amount_base) and looks at them (the same, stage, final)."""
    mean, mean_by_type, mean_by_segment = _pooled_means(won)
    positive = looks[(looks["amount_base"] > 0) & (looks["final"] > 0)]
    positive = positive.assign(stage=positive["stage"].fillna(""), deal_type=positive["deal_type"].fillna(""))
    log_ratio = np.log(positive["final"] / positive["amount_base"]).clip(-_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO)
    center, by_stage, by_type = _shrunk_log_ratios(log_ratio, positive)
    cell = positive["stage"] + _SEPARATOR + positive["deal_type"]
    residual = log_ratio - cell.map(by_type).astype("float64")
    # Smearing: the mean of exp(x) is not exp(mean of x), and it is money that has to add up. Weighted by money, shrunk.
    predicted = positive["amount_base"] * np.exp(cell.map(by_type).astype("float64"))
    reached = predicted * np.exp(residual)
    prior = predicted.mean() * _PRIOR_WINS if len(predicted) else 1.0
    smear = float((reached.sum() + prior) / (predicted.sum() + prior))
    zero = looks.loc[looks["amount_base"] == 0, "final"]
    return AmountModel(
        ratio=float(np.exp(center) * smear),
        ratio_by_stage={name: float(np.exp(value) * smear) for name, value in by_stage.items()},
        ratio_by_type={name: float(np.exp(value) * smear) for name, value in by_type.items()},
        mean=mean,
        mean_by_type=mean_by_type,
        mean_by_segment=mean_by_segment,
        mean_of_zero=float(zero.sum() / (len(zero) + _PRIOR_WINS * len(_LOOKS))),
        spread_known=_spread_known(residual),
        spread_unknown=_spread_unknown(won, mean),
        wins=len(won),
    )


def _shrunk_log_ratios(log_ratio: pd.Series, looks: pd.DataFrame) -> tuple[float, dict[str, float], dict[str, float]]:
    """Mean log ratio overall, by stage toward it, and by stage and deal type toward the stage's."""
    prior = _PRIOR_WINS * len(_LOOKS)
    center = float(log_ratio.sum() / (len(log_ratio) + prior))
    by_stage, by_type = {}, {}
    for stage, ratios in log_ratio.groupby(looks["stage"]):
        by_stage[str(stage)] = level = float((ratios.sum() + prior * center) / (len(ratios) + prior))
        for kind, cell in ratios.groupby(looks["deal_type"]):
            by_type[f"{stage}{_SEPARATOR}{kind}"] = float((cell.sum() + prior * level) / (len(cell) + prior))
    return center, by_stage, by_type


def _pooled_means(won: pd.DataFrame) -> tuple[float, dict[str, float], dict[str, float]]:
    mean = float(won["amount_base"].mean()) if len(won) else 0.0
    by_type, by_segment = {}, {}
    for kind, deals in won.groupby(won["deal_type"].fillna("")):
        amounts = deals["amount_base"]
        by_type[str(kind)] = level = float((amounts.sum() + _PRIOR_WINS * mean) / (len(amounts) + _PRIOR_WINS))
        for segment, cell in amounts.groupby(deals["segment"].fillna("")):
            shrunk = (cell.sum() + _PRIOR_WINS * level) / (len(cell) + _PRIOR_WINS)
            by_segment[f"{kind}{_SEPARATOR}{segment}"] = float(shrunk)
    return mean, by_type, by_segment


def _spread_known(residual: pd.Series) -> float:
    """Shrunk to a spread of 20 %, at most 1.5."""
    prior = _PRIOR_WINS * len(_LOOKS)
    return float(min(np.sqrt(((residual**2).sum() + prior * 0.2**2) / (len(residual) + prior)), 1.5))


def _spread_unknown(won: pd.DataFrame, mean: float) -> float:
    """The log spread that a lognormal with the won deals' coefficient of variation has, shrunk to 1, at most 1.5."""
    if mean <= 0:
        return 1.0
    variation = float(((won["amount_base"] - mean) ** 2).sum()) / mean**2
    variation = (variation + _PRIOR_WINS * (np.e - 1)) / (len(won) + _PRIOR_WINS)
    return float(min(np.sqrt(np.log1p(variation)), 1.5))
