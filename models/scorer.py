"""From a bundle and open deals to scores: the one path for the command line, the backtest and the service."""

import numpy as np
import pandas as pd

from crm.bookings import shown_deals
from crm.calendar import Calendar, Period
from crm.history import DealHistory
from crm.tables import CrmTables
from features.build import build_features
from features.catalogue import BY_NAME
from features.sources import FeatureSources
from models.bundle import Bundle
from models.curves import Curves
from models.reasons import explain_deals, tell_reasons

HORIZON_DAYS = 365.0
SCORE_COLUMNS = (
    *("deal_id", "as_of", "period_start", "period_end"),
    *("win_probability", "win_probability_low", "win_probability_high"),
    *("period_win_probability", "period_loss_probability", "period_slip_probability", "next_period_win_probability"),
    *("expected_close_date", "expected_close_date_low", "expected_close_date_high"),
    *("amount_base", "amount_source", "expected_amount", "expected_amount_low", "expected_amount_high"),
    *("reasons", "model_version", "data_version"),
)
_SECONDS_PER_DAY = 86400.0
_LARGEST_TILT = 20.0
_BISECTIONS = 50


def score_deals(
    bundle: Bundle,
    tables: CrmTables,
    history: DealHistory,
    spine: pd.DataFrame,
    *,
    explain: bool = True,
    sources: FeatureSources | None = None,
    features: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Score open deals.

    Parameters
    ----------
    tables, history : as `bundle.read_history` gives them: with the bundle's field classes.
    spine : deal_id, as_of; deals open then.
    explain : whether to give reasons; without, they are empty lists.
    sources : what features are read from; by default all of `tables` and `history`.
    features : what `build_features` gives for the spine, where it is there already.

    Returns
    -------
    Frame with `SCORE_COLUMNS`, in the order of `spine`: probabilities 0..1, days as naive dates, money in base currency
    (amount_base is NaN where unknown), reasons as lists. Each row depends on its own deal only.
    """
    spine = spine[["deal_id", "as_of"]].reset_index(drop=True)
    if features is None:
        features = build_features(tables, history, spine, sources=sources)
    curves = deal_curves(bundle, features, tables.calendar)
    chances = _chances(curves, spine["as_of"], tables.calendar)
    low, high = bundle.win_range.low_high(
        bundle.hazards,
        bundle.calibration,
        features,
        tables.calendar,
        win_probability=chances["win_probability"].to_numpy(),
    )
    scores = spine.join([chances, _money(bundle, tables, history, spine)]).assign(
        win_probability_low=low,
        win_probability_high=high,
        reasons=_reasons(bundle, features, tables.calendar, explain=explain),
        model_version=bundle.model_version,
        data_version=tables.data_version,
    )
    return scores[list(SCORE_COLUMNS)]


def deal_curves(bundle: Bundle, features: pd.DataFrame, calendar: Calendar) -> Curves:
    """The calibrated curves of snapshots, or those of what serves in the model's place."""
    if bundle.fallback is None:
        curves = bundle.calibration.apply(bundle.hazards.curves(features, calendar))
        return curves if bundle.one_chance is None else curves.with_one_chance(bundle.one_chance)
    days = days_to_period_end(features["as_of"], calendar)
    return tilt_curves(bundle.hazards.pooled_curves(features, calendar), bundle.fallback.predict(features), days)


def chances_in(
    bundle: Bundle, tables: CrmTables, history: DealHistory, spine: pd.DataFrame, period: Period
) -> pd.Series:
    """Each deal's probability to be won in any period that is not over, by deal_id; parameters as for `score_deals`."""
    curves = deal_curves(bundle, build_features(tables, history, spine), tables.calendar)
    return pd.Series(won_between(curves, spine["as_of"], period), index=spine["deal_id"].to_numpy())


def won_between(curves: Curves, as_of: pd.Series, period: Period) -> np.ndarray:
    """(n,) probability of each snapshot to be won in what is still to come of a period, however far ahead."""
    by_start, by_end = (
        curves.probability_by(((at - as_of).dt.total_seconds() / _SECONDS_PER_DAY).clip(lower=0).to_numpy())
        for at in (period.start_at, period.end_at)
    )
    return by_end.won - by_start.won


def tilt_curves(curves: Curves, probability: np.ndarray, days: np.ndarray) -> Curves:
    """Move each snapshot's intensity of winning by a constant so that it is won within `days` with `probability`.

    A baseline only speaks of the period; the pooled curves carry what it says on to every other horizon, coherently.
    Where losing is so likely that no constant suffices, the largest one is taken.
    """
    low, high = np.full(len(days), -_LARGEST_TILT), np.full(len(days), _LARGEST_TILT)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        below = curves.shifted(won=middle).probability_by(days).won < probability
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return curves.shifted(won=(low + high) / 2)


def days_to_period_end(as_of: pd.Series, calendar: Calendar) -> np.ndarray:
    """(n,) days from each moment to the end of its period."""
    return ((calendar.period_frame(as_of)["end_at"] - as_of).dt.total_seconds() / _SECONDS_PER_DAY).to_numpy()


def _chances(curves: Curves, as_of: pd.Series, calendar: Calendar) -> pd.DataFrame:
    period = calendar.period_frame(as_of)
    following = calendar.period_frame(period["end_at"])
    days, next_days = (
        ((end - as_of).dt.total_seconds() / _SECONDS_PER_DAY).to_numpy()
        for end in (period["end_at"], following["end_at"])
    )
    inside, by_next = curves.probability_by(days), curves.probability_by(next_days)
    return pd.DataFrame(
        {
            "period_start": period["start"],
            "period_end": period["end"],
            "win_probability": curves.probability_by(HORIZON_DAYS).won,
            "period_win_probability": inside.won,
            "period_loss_probability": inside.lost,
            "period_slip_probability": inside.still_open,
            "next_period_win_probability": np.maximum(by_next.won - inside.won, 0.0),
            "expected_close_date": win_dates(curves, as_of, calendar),
            "expected_close_date_low": win_dates(curves, as_of, calendar, share=0.05),
            "expected_close_date_high": win_dates(curves, as_of, calendar, share=0.95),
        }
    )


def _reasons(
    bundle: Bundle, features: pd.DataFrame, calendar: Calendar, *, explain: bool
) -> list[list[dict[str, object]]]:
    """At most five reasons per deal; none where they are not wanted, or where something else serves, which has none."""
    if not explain or not bundle.tells_apart:
        return [[] for _ in range(len(features))]
    explanation = explain_deals(bundle.hazards, bundle.calibration, bundle.reference, features, calendar)
    return tell_reasons(explanation, features, BY_NAME, typical=bundle.typical)


def win_dates(curves: Curves, as_of: pd.Series, calendar: Calendar, *, share: float = 0.5) -> pd.Series:
    """The local day by which a share of the wins within the horizon has come; the day after as_of at the earliest."""
    seconds = (curves.win_day(share, within=HORIZON_DAYS) * _SECONDS_PER_DAY).round()
    soonest = calendar.local_days(as_of) + pd.Timedelta(days=1)
    day = calendar.local_days(as_of + pd.to_timedelta(seconds, unit="s").as_unit("us"))
    return day.where(day > soonest, soonest)


def _money(bundle: Bundle, tables: CrmTables, history: DealHistory, spine: pd.DataFrame) -> pd.DataFrame:
    shown = shown_deals(tables, history, spine)
    low, high = bundle.amount.low_high(shown)
    return pd.DataFrame(
        {
            "amount_base": shown["amount_base"],
            "amount_source": shown["amount_base"].notna().map({True: "crm", False: "estimated"}),
            "expected_amount": bundle.amount.expected(shown),
            "expected_amount_low": low,
            "expected_amount_high": high,
        }
    )
