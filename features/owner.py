"""The owner: record, load, tenure. What a rep may not see of another is a reason for the management chain only.

Records stand against the company's of the same moment: as they are, they would tell good times from bad ones, and a
model would take the times it learned from for those to come.
"""

from features.records import company_rate, shrunk_mean, win_rate
from features.spec import Deal, Term, feature

PRIOR_DEALS = 20.0
"""A company-wide win rate counts as much as so many of the owner's own closed deals."""

FEW_DEALS = 10.0
"""A company-wide mean counts as much as so many of the owner's own deals."""


@feature(
    unit="ratio",
    higher_is="better",
    audience="chain",
    reason="the owner wins {value:.1f} times as often as the company",
)
def owner_wins_to_company(deal: Deal) -> Term:
    """Share of the owner's closed deals that were won, shrunk to the company's, against the company's."""
    company = company_rate(deal)
    return win_rate(deal.owner, toward=company, worth=PRIOR_DEALS) / company


@feature(unit="count", audience="chain", reason="the owner has {value:.0f} open {deal|deals}", missing="no owner")
def owner_open_deals(deal: Deal) -> Term:
    """Deals the owner has open, those handed over included."""
    return deal.owner.open_deals()


@feature(
    unit="count",
    higher_is="better",
    audience="chain",
    reason="the owner won {value:.0f} {deal|deals} in 90 days",
    missing="no owner",
)
def owner_wins_90d(deal: Deal) -> Term:
    """Deals the owner won in the last 90 days."""
    return deal.owner.won().within(days=90).count()


@feature(
    unit="days",
    audience="chain",
    controlled_by="clock",
    reason="the owner has been here for {value:.0f} {day|days}",
    missing="no hire date",
)
def owner_tenure_days(deal: Deal) -> Term:
    """Days since the owner was hired."""
    return deal.clock("as_of_day") - deal.owner.attribute("hired_at")


@feature(unit="0 or 1", reason="a person owns the deal", at_zero="no person owns the deal", audience="everyone")
def owner_known(deal: Deal) -> Term:
    """Whether the deal is known to have an owner."""
    return deal.value("owner_id").is_known()


@feature(
    unit="ratio",
    audience="chain",
    reason="the owner takes {value:.1f} times as long to win as the company",
    missing="no deal won yet",
)
def owner_cycle_to_company(deal: Deal) -> Term:
    """Mean days from opening to winning over the owner's won deals, shrunk to the company's, against the company's."""
    company = deal.company.won().mean("days_open")
    return shrunk_mean(deal.owner.won(), "days_open", toward=company, worth=FEW_DEALS) / company


@feature(
    unit="ratio",
    audience="chain",
    reason="the owner pushes a deal {value:.1f} times as often as the company",
    missing="no push yet",
)
def owner_pushes_to_company(deal: Deal) -> Term:
    """Mean pushes of the owner's ended deals, shrunk to the company's, against the company's.

    Deals count whose close date was recorded all along.
    """
    company = deal.company.ended().followed("close_date").mean("pushes")
    own = shrunk_mean(deal.owner.ended().followed("close_date"), "pushes", toward=company, worth=FEW_DEALS)
    return own / company
