"""The model card: what a bundle says about itself, as `GET /v1/model` and `dealcast models show` tell it."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from crm.history import DealHistory
from features.catalogue import BY_NAME, feature_set_hash
from models.bins import CAUSES
from models.hazard import HazardModel
from models.learners import HazardSettings
from models.profile import Profile, fit_profiles
from models.revenue import RevenueModel
from training.drift import WEEKS, Drift
from training.evaluate import Evaluation, Snapshots
from training.following import Following
from training.picking import Picking
from training.tune import Tuned

HORIZON_DAYS = 365
# In log-odds: at most five points of a probability.
_WORTH_SAYING = 0.2


def describe_model(
    snapshots: Snapshots,
    known_at: pd.Timestamp,
    hazards: HazardModel,
    evaluation: Evaluation,
    *,
    drift: Drift,
    following: Following,
    baselines: Iterable[str],
    fallback: str | None,
    picking: Picking | None,
    revenue: RevenueModel,
    seed: int,
    settings: HazardSettings,
    tuning: Tuned | None,
) -> dict[str, Any]:
    """The manifest of a bundle trained at a moment: the card, and what scoring later needs to know of the data.

    Only JSON values; nothing in it depends on when or where the training ran.
    """
    tables, importance = snapshots.tables, hazards.importance()
    return {
        "trained_as_of": instant_text(known_at),
        "trained_on": str(tables.calendar.local_day(known_at)),
        "data_version": tables.data_version,
        "feature_set_hash": feature_set_hash(),
        "features": [
            {
                "name": name,
                "unit": BY_NAME[name].unit,
                "higher_is": BY_NAME[name].higher_is,
                "known_share": float(snapshots.features[name].notna().mean()),
                "importance": float(importance[name]),
            }
            for name in hazards.encoder.columns
        ],
        "profiles": {name: each.to_dict() for name, each in _profiles(snapshots, known_at, hazards).items()},
        **_deal_counts(snapshots.history, known_at),
        "snapshots": len(snapshots),
        "metrics": evaluation.metrics(),
        "baselines": {name: evaluation.metrics_of(name) for name in baselines if len(evaluation.judged)},
        "drift": drift.to_dict(),
        "following": following.to_dict(),
        "fallback": fallback,
        "picking": None if picking is None else picking.to_dict(),
        "limits": _limits(hazards, snapshots.deals_closed(known_at), evaluation, fallback)
        + ([] if picking is None else picking.limits())
        + _drift_alarms(drift)
        + _what_is_followed(following)
        + revenue.limits()
        + ([] if tuning is None else [tuning.note]),
        "settings": asdict(settings),
        "tuning": None if tuning is None else tuning.to_dict(),
        "bins": hazards.bins.tolist(),
        "seed": seed,
        "field_classes": {name: each.to_dict() for name, each in sorted(tables.field_classes.items())},
    }


def instant_text(moment: pd.Timestamp) -> str:
    """An instant as JSON documents write it, ending in Z."""
    return moment.isoformat().replace("+00:00", "Z")


def _deal_counts(history: DealHistory, moment: pd.Timestamp) -> dict[str, int]:
    """How deals stood at a moment: won, lost (deleted while open included) and open."""
    endings, spells = history.endings, history.spells
    ended = endings.loc[(endings["at"] <= moment) & ~(endings["until"] <= moment), "outcome"]
    still_open = (spells["opened_at"] <= moment) & ~(spells["ended_at"] <= moment)
    return {
        "deals_won": int((ended == "won").sum()),
        "deals_lost": int(ended.isin(["lost", "deleted"]).sum()),
        "deals_open": int(spells.loc[still_open, "deal_id"].nunique()),
    }


def _profiles(snapshots: Snapshots, known_at: pd.Timestamp, hazards: HazardModel) -> dict[str, Profile]:
    """What the features looked like over the last year, a year having all seasons."""
    recent = snapshots.features[snapshots.features["as_of"] >= known_at - pd.Timedelta(days=HORIZON_DAYS)]
    return fit_profiles(recent if len(recent) else snapshots.features, hazards.encoder.columns)


def _limits(hazards: HazardModel, seen: pd.Series, evaluation: Evaluation, fallback: str | None) -> list[str]:
    """What a user must know before trusting the model, in words."""
    limits = []
    if hazards.reach_days < HORIZON_DAYS:
        limits.append(
            f"The history covers {hazards.reach_days:.0f} days ahead: from day {hazards.reach_days:.0f} on, "
            "win_probability continues the last bin's pooled intensities."
        )
    fewest = HazardSettings().fewest_deals
    for outcome in ("won", "lost"):
        missing = fewest - int(seen.get(outcome, 0))
        if missing > 0:
            limits.append(
                f"Only {fewest - missing} {outcome} deals were seen open: {missing} more are needed before deals are "
                "told apart by more than pooled rates and a linear model."
            )
    if hazards.contradicted:
        named = ", ".join(hazards.contradicted)
        limits.append(
            f"The deals seen so far speak against what is declared of {named}: the model does not hold them to it. "
            "Look how the CRM records them."
        )
    if evaluation.judged.empty:
        limits.append("Not judged: no second period with open deals had ended at the training moment.")
    if fallback in evaluation.baseline_names:
        limits.append(f"The baseline {fallback} was not beaten: it serves in the model's place, without reasons.")
    return limits


def _drift_alarms(drift: Drift) -> list[str]:
    """One sentence per cause whose closings of the last weeks chance does not explain."""
    return [
        f"Drift: {each.observed} deals were {cause} in the last {WEEKS} weeks where past fits, calibrated, expected "
        f"{each.expected:.0f}. Chance does not explain it."
        for cause, each in (("won", drift.won), ("lost", drift.lost))
        if each.is_alarming
    ]


def _what_is_followed(following: Following) -> list[str]:
    """How far probabilities go along with the last weeks, if that moves them by some points."""
    won, lost = (following.ratio(cause) for cause in CAUSES)
    if abs(np.log(won / lost)) < _WORTH_SAYING:
        return []
    return [
        f"Followed: going by the last weeks, deals are won {won:.2f} times and lost {lost:.2f} times as fast as the "
        "whole history says. Probabilities go along."
    ]
