"""References of the family owner."""

import pandas as pd
from plain_company import Known, Value, known, reference


def company_rate(deal: Known) -> float:
    ends = deal.closings()
    return (sum(end["won"] for end in ends) + 1) / (len(ends) + 4)


def win_rate(deal: Known, party: str, prior_deals: int, prior: float | None = None) -> float:
    ends = deal.closings(party)
    prior = company_rate(deal) if prior is None else prior
    return (sum(end["won"] for end in ends) + prior_deals * prior) / (len(ends) + prior_deals)


@reference
def owner_win_rate(deal: Known) -> Value:
    return win_rate(deal, "owner_id", 20)


@reference
def owner_open_deals(deal: Known) -> Value:
    owner = deal.value("owner_id")
    return float(deal.company.open_with("owner_id", owner, deal.as_of)) if known(owner) else None


@reference
def owner_wins_90d(deal: Known) -> Value:
    ends = deal.closings("owner_id", days=90)
    return float(sum(end["won"] for end in ends)) if known(deal.value("owner_id")) else None


@reference
def owner_tenure_days(deal: Known) -> Value:
    hired_at = deal.owner("hired_at")
    if not known(hired_at):
        return None
    return float((deal.today - pd.Timestamp(deal.company.tables.calendar.local_day(hired_at))).days)


@reference
def owner_known(deal: Known) -> Value:
    return 1.0 if known(deal.value("owner_id")) else 0.0
