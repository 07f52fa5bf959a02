"""References of the family owner."""

import pandas as pd
from plain_company import Value, known
from plain_known import Known, mean, reference, wins_with


def company_rate(deal: Known) -> float:
    ends = deal.closings()
    return (sum(end["won"] for end in ends) + 1) / (len(ends) + 4)


def against(everybody: list[float], own: list[float]) -> Value:
    """The owner's mean, drawn to the company's as by ten deals, against the company's."""
    if not everybody or not mean(everybody):
        return None
    return (sum(own) + 10 * mean(everybody)) / (len(own) + 10) / mean(everybody)


@reference
def owner_wins_to_company(deal: Known) -> Value:
    ends = deal.closings("owner_id")
    return (sum(end["won"] for end in ends) + 20 * company_rate(deal)) / (len(ends) + 20) / company_rate(deal)


@reference
def owner_open_deals(deal: Known) -> Value:
    owner = deal.value("owner_id")
    return float(deal.company.open_with("owner_id", owner, deal.as_of)) if known(owner) else None


@reference
def owner_wins_90d(deal: Known) -> Value:
    ends = deal.closings("owner_id", days=90)
    return float(sum(end["won"] for end in ends)) if known(deal.value("owner_id")) and deal.covers(90) else None


@reference
def owner_tenure_days(deal: Known) -> Value:
    hired_at = deal.owner("hired_at")
    if not known(hired_at):
        return None
    return float((deal.today - pd.Timestamp(deal.company.tables.calendar.local_day(hired_at))).days)


@reference
def owner_known(deal: Known) -> Value:
    return 1.0 if known(deal.value("owner_id")) else 0.0


@reference
def owner_cycle_to_company(deal: Known) -> Value:
    cycles, own = (wins_with(deal.closings(party), "days_open") for party in (None, "owner_id"))
    return against(cycles, own)


@reference
def owner_pushes_to_company(deal: Known) -> Value:
    pushes, own = ([end["pushes"] for end in deal.closings(party)] for party in (None, "owner_id"))
    pushes, own = ([value for value in values if known(value)] for values in (pushes, own))
    return against(pushes, own)
