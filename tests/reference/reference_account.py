"""References of the family account."""

from plain_company import Value, known
from plain_known import Known, log, mean, reference, wins_with
from reference_deal import amount_base
from reference_owner import company_rate


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


@reference
def amount_to_usual(deal: Known) -> Value:
    amount, of_all = amount_base(deal), wins_with(deal.closings(), "amount_base")
    of_segment, own = (wins_with(deal.closings(party), "amount_base") for party in ("segment", "account_id"))
    if not known(amount) or not of_all:
        return None
    usual = (sum(of_segment) + 20 * mean(of_all)) / (len(of_segment) + 20)
    return amount / ((sum(own) + 3 * usual) / (len(own) + 3))


@reference
def stage_win_rate(deal: Known) -> Value:
    passed = deal.passages()
    return (sum(won for won, _ in passed) + 20 * company_rate(deal)) / (len(passed) + 20)
