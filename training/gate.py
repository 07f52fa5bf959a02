"""Whether a newly trained model becomes the champion: the rule, applied to numbers that others measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from typing import Any, Literal

from training.metrics import Difference
from training.resampling import SliceDifference, Slope

Decision = Literal["promoted", "kept", "forced"]
Promote = Literal["auto", "never", "always"]

MARGIN = 0.005
"""How much worse, in nats of log loss, a candidate must be shown not to be."""
SLOPE_RANGE = (0.9, 1.1)
MODEL = "model"


@dataclass(frozen=True)
class Contest:
    """A candidate beside the champion on one and the same snapshots, neither trained on them.

    Attributes
    ----------
    snapshots, deals, weeks : how many there are; with 0 snapshots nothing else is known.
    candidate, champion : mean log loss.
    difference : candidate less champion; its interval is over deals and weeks.
    slope, champion_slope : calibration slopes; None where there is none.
    slices : those of at least 100 deals.
    champion_fallback : the baseline that serves in the champion's place, if one does.
    """

    snapshots: int
    deals: int = 0
    weeks: int = 0
    candidate: float = float("nan")
    champion: float = float("nan")
    difference: Difference | None = None
    slope: Slope | None = None
    champion_slope: Slope | None = None
    slices: tuple[SliceDifference, ...] = ()
    champion_fallback: str | None = None

    @property
    def worse_slices(self) -> list[SliceDifference]:
        """The slices in which the candidate is worse by more than chance, the worst first."""
        worse = [each for each in self.slices if each.is_worse]
        return sorted(worse, key=lambda each: -each.difference)

    def to_dict(self) -> dict[str, Any]:
        return {
            "snapshots": self.snapshots,
            "deals": self.deals,
            "weeks": self.weeks,
            "margin": MARGIN,
            "log_loss": None if self.difference is None else self.difference.to_dict(),
            "calibration_slope": None if self.slope is None else self.slope.to_dict(),
            "slices": [each.to_dict() for each in self.slices],
        }


@dataclass(frozen=True)
class Verdict:
    """What the gate decided, every reason in words, and the contest it rests on (None if there was none)."""

    decision: Decision
    reasons: tuple[str, ...]
    contest: Contest | None = None

    @property
    def moves_champion(self) -> bool:
        return self.decision != "kept"

    def to_dict(self) -> dict[str, Any]:
        contest = None if self.contest is None else self.contest.to_dict()
        return {"decision": self.decision, "reasons": list(self.reasons), "contest": contest}


def find_objections(losses: Mapping[str, float], contest: Contest | None) -> list[str]:
    """Why a candidate should not replace the champion; empty if nothing speaks against it.

    Parameters
    ----------
    losses : log loss of "model" and of every baseline on the same evaluation snapshots; NaN, or none, if there was
        nothing to judge on.
    contest : None without a champion, or with one that can no longer score.
    """
    if isnan(losses.get(MODEL, float("nan"))) or len(losses) < 2:
        return ["no snapshot whose period had ended could be judged"]
    objections = []
    model, best = losses[MODEL], _best_baseline(losses)
    # Where a baseline serves anyway, a newer fit of it may take its place: an old one is no better for being old.
    if model >= losses[best] and (contest is None or contest.champion_fallback is None):
        objections.append(
            f"the baseline {best} is not beaten: its log loss is {losses[best]:.5f}, the model's {model:.5f} "
            f"({model - losses[best]:+.5f})"
        )
    if contest is not None:
        objections += _against_the_champion(contest)
    return objections


def decide(
    objections: list[str],
    *,
    promote: Promote,
    has_champion: bool,
    is_past: bool,
    losses: Mapping[str, float],
    contest: Contest | None = None,
) -> Verdict:
    """The contract's rule for moving the champion.

    Parameters
    ----------
    objections : from `find_objections`.
    promote : what the user asked for.
    is_past : the training moment lies before the data's moment.
    losses, contest : as `find_objections` had them; told where nothing speaks against the candidate.
    """
    findings = tuple(objections) or _merits(losses, contest)

    def verdict(decision: Decision, *first: str) -> Verdict:
        return Verdict(decision, (*first, *findings), contest)

    if promote == "never":
        return verdict("kept", "promotion was switched off")
    if not has_champion:
        return verdict("forced" if promote == "always" and objections else "promoted", "there was no champion")
    if promote == "always":
        if is_past:
            return verdict("forced", "trained as of a past moment")
        return verdict("forced" if objections else "promoted")
    if is_past:
        return verdict("kept", "trained as of a past moment: it serves replays, the champion stays")
    return verdict("kept" if objections else "promoted")


def _against_the_champion(contest: Contest) -> list[str]:
    if contest.difference is None:
        return ["no snapshot was judged by both it and the champion: nothing shows that it is no worse"]
    objections = []
    if contest.difference.high > MARGIN:
        verb = "is" if contest.difference.low > 0 else "may be"
        objections.append(f"it {verb} worse than the champion by more than {MARGIN}: {_told(contest)}")
    low, high = SLOPE_RANGE
    if contest.slope is not None and (contest.slope.high < low or contest.slope.low > high):
        slope = contest.slope
        objections.append(
            f"its probabilities are too {'bold' if slope.value < 1 else 'timid'}: calibration slope {slope.value:.3f}, "
            f"95 % interval {slope.low:.3f} to {slope.high:.3f}, all of it outside {low} to {high}"
        )
    objections += [
        f"it is worse where {each.by} is {each.value}: log loss {each.difference:+.5f}, at least {each.at_least:+.5f} "
        f"(95 %, for all {len(contest.slices)} slices at once; {each.deals} deals)"
        for each in contest.worse_slices
    ]
    return objections


def _merits(losses: Mapping[str, float], contest: Contest | None) -> tuple[str, ...]:
    """What speaks for a candidate that nothing speaks against."""
    best = _best_baseline(losses)
    merits = [f"log loss {losses[MODEL]:.5f} against {losses[best]:.5f} of the best baseline, {best}"]
    if contest is not None and contest.difference is not None:
        merits.append(f"no worse than the champion: {_told(contest)}; worse in none of {len(contest.slices)} slices")
    return tuple(merits)


def _best_baseline(losses: Mapping[str, float]) -> str:
    return min((name for name in losses if name != MODEL), key=lambda name: losses[name])


def _told(contest: Contest) -> str:
    difference = contest.difference
    assert difference is not None
    return (
        f"log loss {contest.candidate:.5f} against {contest.champion:.5f}, {difference.value:+.5f} with a 95 % "
        f"interval of {difference.low:+.5f} to {difference.high:+.5f}, on {contest.snapshots} snapshots of "
        f"{contest.deals} deals in {contest.weeks} weeks"
    )
