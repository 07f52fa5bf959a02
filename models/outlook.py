"""What a period looked like from a moment: the forecast that stood then, and how it came there, week by week.

What the ledger published stands before what was replayed later, and each says which it is; the two are never mixed in
one row, nor one row made of both.
"""

from dataclasses import dataclass

import pandas as pd

from crm.calendar import Period
from ledger.ledger import Ledger, Publication

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


def outlook_then(ledger: Ledger, period: Period, at: pd.Timestamp) -> Outlook | None:
    """What stood at a past moment: what was published last by then, else what was replayed for the last moment by then.

    None where the ledger holds neither.
    """
    for basis in ("published", "replayed"):
        heads = ledger.publications("forecast", basis=basis, period_start=pd.Timestamp(period.start), at=at)
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
