"""Whether a newly trained model becomes the champion: the rule, applied to numbers that others measured."""

from dataclasses import dataclass
from math import isnan
from typing import Literal

Decision = Literal["promoted", "kept", "forced"]
Promote = Literal["auto", "never", "always"]


@dataclass(frozen=True)
class Contest:
    """A candidate's and the champion's log loss on one and the same set of snapshots, neither trained on them."""

    candidate: float
    champion: float
    snapshots: int


@dataclass(frozen=True)
class Verdict:
    """What the gate decided, and every reason in words."""

    decision: Decision
    reasons: tuple[str, ...]

    @property
    def moves_champion(self) -> bool:
        return self.decision != "kept"

    def to_dict(self) -> dict[str, object]:
        return {"decision": self.decision, "reasons": list(self.reasons)}


def find_objections(log_loss: float, base_rate: float, contest: Contest | None) -> list[str]:
    """Why a candidate should not replace the champion; empty if nothing speaks against it.

    Parameters
    ----------
    log_loss, base_rate : of the candidate as it would serve and of the base rate, on the same evaluation snapshots;
        NaN if there was nothing to judge on.
    contest : None without a champion, or where no snapshot was judged by both.
    """
    if isnan(log_loss) or isnan(base_rate):
        return ["no snapshot whose period had ended could be judged"]
    objections = []
    if log_loss >= base_rate:
        objections.append(f"log loss {log_loss:.4f} is not better than the base rate's {base_rate:.4f}")
    if contest is not None and contest.candidate > contest.champion:
        objections.append(
            f"log loss {contest.candidate:.4f} is worse than the champion's {contest.champion:.4f} "
            f"on {contest.snapshots} snapshots"
        )
    return objections


def decide(objections: list[str], *, promote: Promote, has_champion: bool, is_past: bool) -> Verdict:
    """The contract's rule for moving the champion.

    Parameters
    ----------
    objections : from `find_objections`.
    promote : what the user asked for.
    is_past : the training moment lies before the data's moment.
    """
    worth = (
        "no worse than the champion's and better than the base rate" if has_champion else "better than the base rate"
    )
    findings = tuple(objections) or (f"log loss {worth}",)
    if promote == "never":
        return Verdict("kept", ("promotion was switched off", *findings))
    if not has_champion:
        decision: Decision = "forced" if promote == "always" and objections else "promoted"
        return Verdict(decision, ("there was no champion", *findings))
    if promote == "always":
        if is_past:
            return Verdict("forced", ("trained as of a past moment", *findings))
        return Verdict("forced" if objections else "promoted", findings)
    if is_past:
        return Verdict("kept", ("trained as of a past moment: it serves replays, the champion stays", *findings))
    return Verdict("kept" if objections else "promoted", findings)
