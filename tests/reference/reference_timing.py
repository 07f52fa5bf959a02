"""References of the family timing."""

import pandas as pd
from plain_company import Value, known
from plain_known import Known, mean, reference, wins_with


@reference
def deal_age_days(deal: Known) -> Value:
    return deal.days_since(deal.opened_at)


@reference
def days_in_stage(deal: Known) -> Value:
    if deal.changes("stage") is None:
        return None
    return deal.days_since(deal.last_change("stage") or deal.created_at)


@reference
def days_to_close_date(deal: Known) -> Value:
    promised = deal.value("close_date")
    return float((promised - deal.today).days) if known(promised) else None


@reference
def close_date_before_period_end(deal: Known) -> Value:
    promised = deal.value("close_date")
    return float((deal.period[1] - promised).days) if known(promised) else None


@reference
def days_to_period_end(deal: Known) -> Value:
    return float((deal.period[1] - deal.today).days)


@reference
def days_since_last_edit(deal: Known) -> Value:
    if deal.changes("stage") is None:
        return None
    edits = [deal.last_change(field) or deal.created_at for field in ("stage", "close_date", "amount")]
    return deal.days_since(max(edit for edit in edits if edit is not None))


@reference
def business_days_left(deal: Known) -> Value:
    return float(len(pd.bdate_range(deal.today, deal.period[1], inclusive="left")))


@reference
def stage_pace(deal: Known) -> Value:
    days = days_in_stage(deal)
    spent = [spent for won, spent in deal.passages() if won and spent is not None]
    if days is None or sum(spent) + 5 * days == 0:
        return None
    return days / ((sum(spent) + 5 * days) / (len(spent) + 5))


@reference
def age_pace(deal: Known) -> Value:
    cycles = wins_with(deal.closings(), "days_open")
    of_segment = wins_with(deal.closings("segment"), "days_open")
    age = deal_age_days(deal)
    if age is None or not cycles:
        return None
    return age / ((sum(of_segment) + 10 * mean(cycles)) / (len(of_segment) + 10))
