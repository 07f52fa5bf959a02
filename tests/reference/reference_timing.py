"""References of the family timing."""

from plain_company import Known, Value, known, reference
from reference_deal import close_date_days_pushed


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
def push_share_of_age(deal: Known) -> Value:
    pushed, age = close_date_days_pushed(deal), deal_age_days(deal)
    return None if pushed is None or age is None else pushed / (age + 30)


@reference
def days_since_last_edit(deal: Known) -> Value:
    if deal.changes("stage") is None:
        return None
    edits = [deal.last_change(field) or deal.created_at for field in ("stage", "close_date", "amount")]
    return deal.days_since(max(edit for edit in edits if edit is not None))
