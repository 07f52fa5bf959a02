"""References of the family account."""

from plain_company import Known, Value, known, log, reference
from reference_owner import win_rate


@reference
def segment(deal: Known) -> Value:
    return deal.account("segment")


@reference
def industry(deal: Known) -> Value:
    return deal.account("industry")


@reference
def region(deal: Known) -> Value:
    return deal.account("region")


@reference
def log_employees(deal: Known) -> Value:
    return log(deal.account("employees"))


@reference
def account_win_rate(deal: Known) -> Value:
    return win_rate(deal, "account_id", 3)


@reference
def account_wins(deal: Known) -> Value:
    return float(sum(e["won"] for e in deal.closings("account_id"))) if known(deal.value("account_id")) else None


@reference
def days_since_account_win(deal: Known) -> Value:
    wins = [end["at"] for end in deal.closings("account_id") if end["won"]]
    return deal.days_since(max(wins)) if wins else None


@reference
def account_open_siblings(deal: Known) -> Value:
    account = deal.value("account_id")
    return deal.company.open_with("account_id", account, deal.as_of) - 1.0 if known(account) else None
