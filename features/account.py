"""The account: who the customer is, and what happened with them before."""

from features.owner import company_rate
from features.spec import DAY, Deal, Term, feature

PRIOR_DEALS = 3.0
"""A company-wide win rate counts as much as so many closed deals of the account."""

NO_ACCOUNT = "no account"


@feature(unit="category", controlled_by="buyer", reason="segment {value}", missing=NO_ACCOUNT)
def segment(deal: Deal) -> Term:
    """The account's segment."""
    return deal.account.attribute("segment")


@feature(unit="category", controlled_by="buyer", reason="industry {value}", missing=NO_ACCOUNT)
def industry(deal: Deal) -> Term:
    """The account's industry."""
    return deal.account.attribute("industry")


@feature(unit="category", controlled_by="buyer", reason="region {value}", missing=NO_ACCOUNT)
def region(deal: Deal) -> Term:
    """The account's region."""
    return deal.account.attribute("region")


@feature(unit="log of people", controlled_by="buyer", reason="a customer of this size", missing=NO_ACCOUNT)
def log_employees(deal: Deal) -> Term:
    """Natural logarithm of the account's number of employees."""
    return deal.account.attribute("employees").log()


@feature(
    unit="share",
    higher_is="better",
    controlled_by="buyer",
    reason="a win rate of {value:.0%} by the record of this account and the company",
)
def account_win_rate(deal: Deal) -> Term:
    """Share of the account's closed deals that were won, shrunk to the company's."""
    won, ended = deal.account.won().count(), deal.account.ended().count()
    return (won.or_else(0.0) + company_rate(deal) * PRIOR_DEALS) / (ended.or_else(0.0) + PRIOR_DEALS)


@feature(
    unit="count",
    higher_is="better",
    controlled_by="buyer",
    reason="{value:.0f} deals won with this account before",
    missing=NO_ACCOUNT,
)
def account_wins(deal: Deal) -> Term:
    """Deals won with the account so far."""
    return deal.account.won().count()


@feature(
    unit="days",
    higher_is="worse",
    controlled_by="clock",
    reason="last win with this account {value:.0f} days ago",
    missing="no win yet",
)
def days_since_account_win(deal: Deal) -> Term:
    """Days since a deal with the account was won; unknown if none was."""
    return (deal.as_of - deal.account.won().last_at()) / DAY


@feature(
    unit="count", controlled_by="buyer", reason="{value:.0f} other open deals with this account", missing=NO_ACCOUNT
)
def account_open_siblings(deal: Deal) -> Term:
    """Other deals open with the account."""
    return deal.account.open_deals() - 1.0
