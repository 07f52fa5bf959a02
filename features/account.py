"""The account: who the customer is, and what happened with them before."""

from features.records import company_rate, shrunk_mean, win_rate
from features.spec import DAY, Deal, Party, Term, feature

PRIOR_DEALS = 3.0
"""A company-wide win rate counts as much as so many closed deals of the account."""

GROUP_WORTH = 20.0
"""A company-wide win rate or mean amount counts as much as so many deals of a segment, an industry, a stage …"""

NO_ACCOUNT = "no account"


def group_win_rate(deal: Deal, group: Party) -> Term:
    """Share of a group's ended deals that were won, shrunk to the company's."""
    return win_rate(group, toward=company_rate(deal), worth=GROUP_WORTH)


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
    unit="count",
    higher_is="better",
    controlled_by="buyer",
    reason="{value:.0f} {deal|deals} won with this account before",
    missing=NO_ACCOUNT,
)
def account_wins(deal: Deal) -> Term:
    """Deals won with the account so far."""
    return deal.account.won().count()


@feature(
    unit="days",
    higher_is="worse",
    controlled_by="clock",
    reason="last win with this account {value:.0f} {day|days} ago",
    missing="no win yet",
)
def days_since_account_win(deal: Deal) -> Term:
    """Days since a deal with the account was won; unknown if none was."""
    return (deal.as_of - deal.account.won().last_at()) / DAY


@feature(
    unit="count",
    controlled_by="buyer",
    reason="{value:.0f} other open {deal|deals} with this account",
    missing=NO_ACCOUNT,
)
def account_open_siblings(deal: Deal) -> Term:
    """Other deals open with the account."""
    return deal.account.open_deals() - 1.0


@feature(
    unit="ratio",
    controlled_by="buyer",
    reason="{value:.1f} times what such deals were won at",
    missing="no amount, or no deal won yet",
)
def amount_to_usual(deal: Deal) -> Term:
    """The amount against the mean amount won with the account, drawn toward the segment's and the company's."""
    company = deal.company.won().mean("amount_base")
    of_segment = shrunk_mean(deal.segment.won(), "amount_base", toward=company, worth=GROUP_WORTH)
    return deal.amount_base / shrunk_mean(deal.account.won(), "amount_base", toward=of_segment, worth=PRIOR_DEALS)


@feature(
    unit="share",
    higher_is="better",
    reason="{value:.0%} of the deals that came to this stage were won",
    missing="never unknown",
)
def stage_win_rate(deal: Deal) -> Term:
    """Share of the ended deals that had been in this stage that were won, shrunk to the company's win rate."""
    return group_win_rate(deal, deal.passed_stage)
