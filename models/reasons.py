"""Why a win probability is what it is: effects of features in points, against the average open deal.

Learners add up on log-intensities, a probability does not. So each feature's share of the log-intensities (TreeSHAP of
the trees, coefficient times distance of the linear partner) is carried along the straight path from the reference to
the deal and counted at the slope the probability has on the way (Aumann and Shapley, Values of Non-Atomic Games, 1974).
The effects sum to the difference exactly.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from crm.calendar import Calendar
from features.wording import FIGURE, worded
from models.bins import BIN_INPUTS, CAUSES, CLOCKS, LONGEST_HORIZON, bin_rows, build_grid, read_clocks
from models.calibration import CauseCalibration, HazardCalibration
from models.curves import Curves
from models.hazard import HazardModel
from models.pooled import stage_of
from models.typical import Typical

AT_MOST = 5
# Two ways to say the same: their effects are one reason.
_TOLD_AS = {"stage_rank": "stage", "close_date_before_period_end": "days_to_close_date"}
_CLOCK = "clock"
_COMPARED_BY = {"count": "", "days": " {day|days}", "minutes": " {minute|minutes}", "share": ""}
"""Units whose values are compared with what is usual, and how they are said; a ratio is a comparison already."""
_STEPS = 16
_REFERENCE_SNAPSHOTS = 300
_SNAPSHOTS_AT_ONCE = 500
_POINTS = 100.0
SMALLEST_EFFECT = 0.05


class TellableFeature(Protocol):
    """What a reason reads of a catalogue entry."""

    @property
    def kind(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def audience(self) -> str: ...
    @property
    def topic(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def at_zero(self) -> str: ...
    @property
    def below(self) -> str: ...
    @property
    def missing(self) -> str: ...


@dataclass(frozen=True)
class ReferenceDeal:
    """The average open deal of training: by cause and uncut bin, the mean of every part a log-intensity is made of.

    Attributes
    ----------
    parts : by cause, (bins, groups + 1), the constant last; the order of groups is `group_names`.
    """

    parts: Mapping[str, np.ndarray]

    def to_dict(self) -> dict[str, Any]:
        return {cause: parts.tolist() for cause, parts in self.parts.items()}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "ReferenceDeal":
        return ReferenceDeal({cause: np.array(stored[cause], dtype=float) for cause in CAUSES})


@dataclass(frozen=True)
class Explanation:
    """Effects of feature groups on the win probabilities of n deals.

    Attributes
    ----------
    groups : name of the feature each column of `effects` belongs to.
    effects : (n, groups) points of win_probability (0-100); a row sums to the difference of the two below, in points.
    win_probability, reference_probability : (n,) of the deal and of the average open deal at its moment, 0..1.
    """

    groups: tuple[str, ...]
    effects: np.ndarray
    win_probability: np.ndarray
    reference_probability: np.ndarray


def group_names(model: HazardModel) -> tuple[str, ...]:
    """The groups effects are told by: the model's features, and the stage that its pooled rates go by (or the age).

    What a clock will be in a bin is told as its feature's doing. A bin's place in time otherwise is told as the close
    date's; as that of the `clock`, which is no feature, if no close date is known.
    """
    return tuple(dict.fromkeys([*_groups_of_inputs(model), "stage"]))


def fit_reference(model: HazardModel, features: pd.DataFrame, calendar: Calendar, *, seed: int) -> ReferenceDeal:
    """Average the parts over a few hundred of the training snapshots (deal_id, as_of, features)."""
    sample = features.iloc[np.random.default_rng(seed).permutation(len(features))[:_REFERENCE_SNAPSHOTS]]
    base = build_grid(sample["as_of"], calendar, model.bins)
    bins = base.base[base.group].ravel()
    open_ended = np.diff(base.rows(), axis=1).ravel() > 0
    means = {}
    for cause, parts in _parts(model, sample, calendar).items():
        kept = parts.reshape(-1, parts.shape[2])[open_ended]
        counts = np.bincount(bins[open_ended], minlength=len(model.bins) - 1)[:, None]
        sums = np.zeros((len(counts), parts.shape[2]))
        np.add.at(sums, bins[open_ended], kept)
        means[cause] = sums / np.maximum(counts, 1)
    return ReferenceDeal(means)


def explain_deals(
    model: HazardModel,
    calibration: HazardCalibration,
    reference: ReferenceDeal,
    features: pd.DataFrame,
    calendar: Calendar,
) -> Explanation:
    """The effects of features on the calibrated win probability of snapshots (as_of, features)."""
    pieces = [
        _explain(model, calibration, reference, features.iloc[start : start + _SNAPSHOTS_AT_ONCE], calendar)
        for start in range(0, max(len(features), 1), _SNAPSHOTS_AT_ONCE)
    ]
    return Explanation(
        group_names(model),
        np.concatenate([piece.effects for piece in pieces]),
        np.concatenate([piece.win_probability for piece in pieces]),
        np.concatenate([piece.reference_probability for piece in pieces]),
    )


def tell_reasons(
    explanation: Explanation,
    features: pd.DataFrame,
    catalogue: Mapping[str, TellableFeature],
    *,
    typical: Typical,
    audiences: Sequence[str] = ("everyone", "chain"),
) -> list[list[dict[str, Any]]]:
    """At most five reasons per deal, strongest first: feature, text, effect in points.

    What features of one topic do together is one reason, told by the strongest of them, with what was usual for deals
    won from the same stage. Features that no audience may read, or that the catalogue does not know, are passed over;
    so are effects that would show as 0.0 points.
    """
    names = [
        name
        for name in explanation.groups
        if name in catalogue and name in features and catalogue[name].audience in audiences
    ]
    columns = [explanation.groups.index(name) for name in names]
    values, stages = {name: features[name].to_numpy() for name in names}, stage_of(features).to_numpy()

    def tell(row: int, name: str, effect: float) -> dict[str, Any]:
        usual = typical.of(name, stages[row])
        text = feature_sentence(name, catalogue[name], values[name][row], usual=usual)
        return {"feature": name, "text": text, "effect": effect}

    strongest = _strongest(explanation.effects[:, columns], names, catalogue, names)
    return [[tell(row, name, effect) for name, effect in its] for row, its in enumerate(strongest)]


def strongest_topics(
    effects: Mapping[str, float], catalogue: Mapping[str, TellableFeature], *, tellers: Collection[str] | None = None
) -> list[tuple[str, float]]:
    """The topics that move a probability most, each by the feature that tells it, and its effect; at most five.

    Parameters
    ----------
    effects : of features, in points.
    tellers : features that may tell; topics without one that points the same way are left out. Default all.
    """
    names = list(effects)
    [told] = _strongest(np.array([list(effects.values())]), names, catalogue, names if tellers is None else tellers)
    return told


def _strongest(
    effects: np.ndarray, names: Sequence[str], catalogue: Mapping[str, TellableFeature], tellers: Collection[str]
) -> list[list[tuple[str, float]]]:
    """`strongest_topics` of many deals: effects (n, names)."""
    topics: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        topics.setdefault(catalogue[name].topic or name, []).append(place)
    able = np.array([name in tellers for name in names])
    totals, told_by = np.zeros((2, len(effects), len(topics)))
    for topic, places in enumerate(topics.values()):
        its = effects[:, places]
        total = its.cumsum(axis=1)[:, -1]  # one after the other: a sum's last digits depend on how many rows there are
        strength = np.where(able[places] & (its * total[:, None] > 0), np.abs(its), 0.0)
        told_by[:, topic] = np.array(places)[strength.argmax(axis=1)]
        totals[:, topic] = np.where(strength.any(axis=1) & (np.abs(total) >= SMALLEST_EFFECT), total, 0.0)
    first = np.argsort(-np.abs(totals), axis=1, kind="stable")[:, :AT_MOST]
    chosen = zip(np.take_along_axis(told_by, first, axis=1), np.take_along_axis(totals, first, axis=1), strict=True)
    return [[(names[int(place)], float(total)) for place, total in zip(*each, strict=True) if total] for each in chosen]


def feature_sentence(name: str, declared: TellableFeature, value: Any, *, usual: float | None = None) -> str:
    """A feature's value in words: its reason, or what it means that it is unknown.

    Parameters
    ----------
    usual : what the value was for deals won from the same stage; told where it reads otherwise.
    """
    if pd.isna(value):
        return f"{name.replace('_', ' ')} unknown: {declared.missing}"
    if declared.unit.startswith("log of"):
        value = f"{np.exp(value):,.0f}"
    figure = FIGURE.search(declared.reason)
    sentence = worded(declared.reason, value, below=declared.below, at_zero=declared.at_zero)
    if usual is None or figure is None or declared.unit not in _COMPARED_BY:
        return sentence
    # Where before and after are told apart, a number alone would not say which it is.
    short = declared.reason if declared.below else figure.group() + _COMPARED_BY[declared.unit]
    here, there = (worded(short, each, below=declared.below, at_zero=declared.at_zero) for each in (value, usual))
    return sentence if here == there else f"{sentence}; deals won from this stage: {there}"


def _explain(
    model: HazardModel,
    calibration: HazardCalibration,
    reference: ReferenceDeal,
    features: pd.DataFrame,
    calendar: Calendar,
) -> Explanation:
    grid = build_grid(features["as_of"], calendar, model.bins)
    edges, base = grid.rows(), grid.base[grid.group]
    # The average open deal of the same moment has the same season before it.
    season = np.log(model.season.of_bins(grid))[grid.group]
    away, there, here = {}, {}, {}
    for cause, parts in _parts(model, features, calendar).items():
        correct: CauseCalibration = getattr(calibration, cause)
        usual = reference.parts[cause][base]
        away[cause] = correct.slope * (parts - usual)
        shared = season if cause == "won" else 0.0
        there[cause], here[cause] = (correct.apply(each.sum(axis=2) + shared) for each in (usual, parts))
    start = Curves(edges, there["won"], there["lost"])
    end = Curves(edges, here["won"], here["lost"])
    slopes = path_slopes(start, end)
    # The constants, last, are the same for every deal. What 16 steps leave over is spread in proportion.
    won, lost = (np.einsum("nm,nmg->ng", slopes[cause], away[cause])[:, :-1] for cause in CAUSES)
    effects = won + lost
    before, after = (each.probability_by(LONGEST_HORIZON).won for each in (start, end))
    remainder = after - before - effects.sum(axis=1)
    weight = np.abs(effects) + 1e-12
    effects = effects + remainder[:, None] * weight / weight.sum(axis=1, keepdims=True)
    return Explanation(group_names(model), _POINTS * effects, after, before)


def path_slopes(start: Curves, end: Curves) -> dict[str, np.ndarray]:
    """By cause, (n, m) mean slope of the win probability in each log-intensity on the straight path between curves."""
    nodes, weights = np.polynomial.legendre.leggauss(_STEPS)
    slopes = {cause: np.zeros_like(start.won) for cause in CAUSES}
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        won, lost = (getattr(start, c) + node * (getattr(end, c) - getattr(start, c)) for c in CAUSES)
        for cause, slope in zip(CAUSES, Curves(start.edges, won, lost).win_gradient(LONGEST_HORIZON), strict=True):
            slopes[cause] += weight * slope
    return slopes


def _groups_of_inputs(model: HazardModel) -> list[str]:
    """The group of every input of a bin row."""
    columns = model.encoder.columns
    clock = "days_to_close_date" if "days_to_close_date" in columns else _CLOCK
    groups = [each if _TOLD_AS.get(each) not in columns else _TOLD_AS[each] for each in columns]
    return [*groups, *(each if each in CLOCKS and each in columns else clock for each in BIN_INPUTS)]


def _parts(model: HazardModel, features: pd.DataFrame, calendar: Calendar) -> dict[str, np.ndarray]:
    """By cause, (n, m, groups + 1): the parts that sum to the raw log-intensity of each bin, the constant last."""
    grid = build_grid(features["as_of"], calendar, model.bins)
    base = grid.base[grid.group]
    rows = bin_rows(model.encoder.transform(features), read_clocks(features), grid)
    names = group_names(model)
    place = np.array([names.index(name) for name in _groups_of_inputs(model)])
    # Column by column from here on, so that columns lie together.
    regressors = np.asfortranarray(model.design.regressors(rows))
    pooled, by_age = model.pooled.log_intensities(features, grid), model.pooled.goes_by_age(features, grid).ravel()
    age = _groups_of_inputs(model)[BIN_INPUTS.index("deal_age_days") - len(BIN_INPUTS)]
    parts = {}
    for cause, intensity in model.intensities.items():
        blended = np.zeros((len(names) + 1, len(rows)))
        share, last = 1 - model.weight_linear, len(names)
        for column, group in zip(intensity.tree_contributions(rows).T, [*place, last], strict=True):
            blended[group] += share * column
        share, groups = model.weight_linear, [last, *place[model.design.owners]]
        for column, coefficient, group in zip(regressors.T, intensity.coefficients, groups, strict=True):
            blended[group] += (share * coefficient) * column
        for group, told_by_it in (("stage", ~by_age), (age, by_age)):
            blended[names.index(group)] += told_by_it * pooled[cause].ravel()
        parts[cause] = blended.T.reshape(*base.shape, len(blended))
    return parts
