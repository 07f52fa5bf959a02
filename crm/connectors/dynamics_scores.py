"""Where scores go in Dynamics: the table that is meant for them, or columns of opportunities of our own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from crm.connectors.base import OutgoingScore
from crm.connectors.dynamics_client import Part, Record, Table

IMPROVING, STEADY, DECLINING, NOT_KNOWN = range(4)
LONGEST_TEXT = 10_000

COLUMNS: dict[str, Callable[[OutgoingScore], object]] = {
    "dealcast_winprobability": lambda score: round(score.win_probability * 100, 2),
    "dealcast_winprobabilitylow": lambda score: _percent(score.win_probability_low),
    "dealcast_winprobabilityhigh": lambda score: _percent(score.win_probability_high),
    "dealcast_winprobabilitychange": lambda score: score.score_change,
    "dealcast_winprobabilityreasons": lambda score: "\n".join(score.reasons),
    "dealcast_winprobabilityasof": lambda score: f"{score.as_of:%Y-%m-%dT%H:%M:%SZ}",
    "dealcast_winprobabilitymodel": lambda score: score.model_version,
}
"""The columns of crm_modules/dynamics and what goes into them; never `closeprobability`, which sellers fill in."""

PREDICTIVE: dict[str, Callable[[OutgoingScore], object]] = {
    "msdyn_name": lambda score: "dealcast",
    "msdyn_score": lambda score: round(score.win_probability * 100),
    "msdyn_scoretrend": lambda score: _trend(score.score_change),
    "msdyn_scorereasons": lambda score: "\n".join([_provenance(score), *score.reasons])[:LONGEST_TEXT],
    "msdyn_scoredon": lambda score: f"{score.as_of:%Y-%m-%dT%H:%M:%SZ}",
}
"""Columns of msdyn_predictivescore; it has none for the range and the model: the reasons begin with them."""


@dataclass(frozen=True)
class Place:
    """Where scores go.

    Attributes
    ----------
    name : as it is told to people.
    fields : what is written, from a score.
    path : of the row that holds a deal's score.
    makes : whether the row is made where it is not there yet.
    """

    name: str
    fields: Mapping[str, Callable[[OutgoingScore], object]]
    path: str
    makes: bool
    needs: Callable[[Mapping[str, Table], Mapping[str, Record]], str | None] = field(repr=False)

    def lacking(self, tables: Mapping[str, Table], columns: Mapping[str, Record]) -> str | None:
        """What the environment lacks, among its tables and the columns of opportunities; None if nothing."""
        return self.needs(tables, columns)

    def part(self, score: OutgoingScore) -> Part:
        """The request that writes a score."""
        document = {name: value(score) for name, value in self.fields.items()}
        return Part("PATCH", self.path.format(score.deal_id), document, makes=self.makes)

    def removal(self, deal_id: str) -> Part:
        """The request that takes a score away: its row, or what stands in the columns."""
        if self.makes:
            return Part("DELETE", self.path.format(deal_id))
        return Part("PATCH", self.path.format(deal_id), dict.fromkeys(self.fields))


def _no_table(tables: Mapping[str, Table], columns: Mapping[str, Record]) -> str | None:
    there = "msdyn_predictivescore" in tables
    return None if there else "there is no table msdyn_predictivescore (it comes with Sales Enterprise or Premium)"


def _no_columns(tables: Mapping[str, Table], columns: Mapping[str, Record]) -> str | None:
    names = [name for name in COLUMNS if name not in columns]
    return f"opportunities have no {', '.join(names)} (crm_modules/dynamics)" if names else None


PLACES = {
    "predictive_score": Place(
        "msdyn_predictivescores.msdyn_score",
        PREDICTIVE,
        "msdyn_predictivescores(msdyn_entityid='{}',msdyn_entitytype='opportunity')",
        makes=True,
        needs=_no_table,
    ),
    "columns": Place(
        f"opportunity.{next(iter(COLUMNS))}", COLUMNS, "opportunities({})", makes=False, needs=_no_columns
    ),
}


def _percent(share: float | None) -> float | None:
    return None if share is None else round(share * 100, 2)


def _trend(change: float | None) -> int:
    if change is None:
        return NOT_KNOWN
    return STEADY if abs(change) < 1 else IMPROVING if change > 0 else DECLINING


def _provenance(score: OutgoingScore) -> str:
    low, high = score.win_probability_low, score.win_probability_high
    span = "" if low is None or high is None else f" ({low:.0%} to {high:.0%})"
    change = "" if score.score_change is None else f", {score.score_change:+.1f} points"
    return f"{score.win_probability:.0%}{span}{change}; {score.model_version}, as of {score.as_of:%Y-%m-%d %H:%M} UTC"
