"""What a period looked like from a moment: the forecast that stood then, and how it came there, week by week.

What the ledger published stands before what was replayed later, and each says which it is; the two are never mixed in
one row, nor one row made of both.
"""

from dataclasses import dataclass

import pandas as pd

from crm.calendar import Period
from crm.hierarchy import OrgChart
from ledger.ledger import Basis, Ledger, Publication

LINE_COLUMNS = ("as_of", "basis", "won_to_date", "p10", "p50", "p90", "mean", "call_commit", "quota")


@dataclass(frozen=True)
class Outlook:
    """One period as it stood.

    Attributes
    ----------
    basis : `published`, `replayed`, or `live` for what has not been published yet.
    published_at : when it was said (published) or computed (replayed); None if live.
    nodes : the contract's forecast rows.
    """

    period: Period
    as_of: pd.Timestamp
    basis: str
    published_at: pd.Timestamp | None
    model_version: str
    nodes: pd.DataFrame

    def scopes(self) -> list[str]:
        """The breakdowns that it holds besides everything: `deal_type=renewal`."""
        return [scope for scope in sorted(self.nodes["scope"].unique()) if scope != "all"]


def outlook_then(ledger: Ledger, period: Period, at: pd.Timestamp, basis: Basis | None = None) -> Outlook | None:
    """What stood at a past moment: what was published last by then, else what was replayed for the last moment by then.

    None where the ledger holds neither; with a basis, where it holds nothing of that one.
    """
    bases: tuple[Basis, ...] = ("published", "replayed") if basis is None else (basis,)
    for each in bases:
        heads = ledger.publications("forecast", basis=each, period_start=pd.Timestamp(period.start), at=at)
        if heads:
            head = heads[-1]
            return outlook_of(head, period, ledger.nodes_of(head))
    return None


def outlook_of(head: Publication, period: Period, nodes: pd.DataFrame) -> Outlook:
    """A publication as an outlook."""
    return Outlook(period, head.as_of, head.basis, head.published_at, head.model_version, nodes)


def line_through(
    ledger: Ledger,
    period: Period,
    node_type: str,
    node_id: str,
    *,
    at: pd.Timestamp,
    scope: str = "all",
) -> pd.DataFrame:
    """What was said of a node through a period up to a moment: `LINE_COLUMNS`, oldest first.

    A replay fills in only the moments before the first publication: from then on what was published is the record.
    """
    about = {"period_start": pd.Timestamp(period.start), "at": at, "scope": scope}
    published = ledger.node_history(node_type, node_id, basis="published", **about).assign(basis="published")
    replayed = ledger.node_history(node_type, node_id, basis="replayed", **about).assign(basis="replayed")
    if len(published):
        replayed = replayed[replayed["as_of"] < published["as_of"].min()]
    line = pd.concat([replayed, published], ignore_index=True)
    return line[line["as_of"] <= at].reset_index(drop=True)[list(LINE_COLUMNS)]


def won_by_day(booked: pd.DataFrame, node: tuple[str, str], *, scope: str = "all") -> pd.DataFrame:
    """What a node had won of a period by each day.

    Parameters
    ----------
    booked : the wins of the period, from `crm.bookings.bookings`.

    Returns
    -------
    Frame: booked_on, won_to_date (base currency, cumulative), a row for each day with a win, oldest first.
    """
    won = booked[of_node(booked, *node)]
    if scope != "all":
        field, _, value = scope.partition("=")
        won = won[won[field].fillna("(none)") == value]
    by_day = won["amount_base"].fillna(0.0).groupby(won["booked_on"]).sum().sort_index()
    return by_day.cumsum().rename("won_to_date").rename_axis("booked_on").reset_index()


def of_node(placed: pd.DataFrame, node_type: str, node_id: str) -> pd.Series:
    """Which placed rows (`crm.hierarchy.place_owners`) belong to a node."""
    if node_type == "company":
        return pd.Series(True, index=placed.index)
    if node_type == "manager":
        return placed["managers"].map(lambda managers: node_id in managers).astype(bool)
    return placed[node_type] == node_id


def in_todays_teams(nodes: pd.DataFrame, chart: OrgChart) -> pd.DataFrame:
    """The rows of reps as they stood, under the teams and regions of today; what adds up is added up anew.

    Ranges, calls and quotas of teams and regions do not add up: they are missing. The company is as it stood.
    """
    reps = nodes[nodes["node_type"] == "rep"]
    team = reps["node_id"].map(chart.users["team"]).fillna("(none)")
    region_of = chart.users.dropna(subset=["team", "region"]).groupby("team")["region"].agg(lambda r: r.mode().iloc[0])
    reps = reps.assign(parent_type="team", parent_id=team)
    teams = _summed(reps, "team", team).pipe(
        lambda rows: rows.assign(parent_type="region", parent_id=rows["node_id"].map(region_of).fillna("(none)"))
    )
    regions = _summed(teams, "region", teams["parent_id"]).assign(parent_type="company", parent_id="company")
    company = nodes[nodes["node_type"] == "company"]
    return pd.concat([company, regions, teams, reps], ignore_index=True).reindex(columns=nodes.columns)


def _summed(rows: pd.DataFrame, node_type: str, node_id: pd.Series) -> pd.DataFrame:
    money = ["won_to_date", "open_pipeline", "not_yet_created", "mean"]
    sums = rows.groupby(["scope", node_id.rename("node_id")])[money].sum().reset_index()
    head = rows[["as_of", "period_start", "period_end", "model_version", "data_version"]].head(1)
    return sums.assign(node_type=node_type, node_name=sums["node_id"], **{n: head[n].iloc[0] for n in head})
