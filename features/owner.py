"""The owner: record, load, tenure. What a rep may not see of another is a reason for the management chain only."""

from features.spec import Deal, Term, feature

PRIOR_DEALS = 20.0
"""A company-wide win rate counts as much as so many of the owner's own closed deals."""


def company_rate(deal: Deal) -> Term:
    """Share of all closed deals of the company that were won, as known at the moment, with a faint prior of 1 in 4."""
    return (deal.company.won().count().or_else(0.0) + 1.0) / (deal.company.ended().count().or_else(0.0) + 4.0)


@feature(
    unit="share",
    higher_is="better",
    audience="chain",
    reason="a win rate of {value:.0%} by the record of the owner and the company",
)
def owner_win_rate(deal: Deal) -> Term:
    """Share of the owner's closed deals that were won, shrunk to the company's."""
    won, ended = deal.owner.won().count(), deal.owner.ended().count()
    return (won.or_else(0.0) + company_rate(deal) * PRIOR_DEALS) / (ended.or_else(0.0) + PRIOR_DEALS)


@feature(unit="count", audience="chain", reason="the owner has {value:.0f} open deals", missing="no owner")
def owner_open_deals(deal: Deal) -> Term:
    """Deals the owner has open, those handed over included."""
    return deal.owner.open_deals()


@feature(
    unit="count",
    higher_is="better",
    audience="chain",
    reason="the owner won {value:.0f} deals in 90 days",
    missing="no owner",
)
def owner_wins_90d(deal: Deal) -> Term:
    """Deals the owner won in the last 90 days."""
    return deal.owner.won().within(days=90).count()


@feature(
    unit="days",
    audience="chain",
    controlled_by="clock",
    reason="the owner has been here for {value:.0f} days",
    missing="no hire date",
)
def owner_tenure_days(deal: Deal) -> Term:
    """Days since the owner was hired."""
    return deal.clock("as_of_day") - deal.owner.attribute("hired_at")


@feature(unit="0 or 1", reason="a person owns the deal", audience="everyone")
def owner_known(deal: Deal) -> Term:
    """Whether the deal is known to have an owner."""
    return deal.value("owner_id").is_known()
