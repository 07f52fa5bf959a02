"""References of the family deal."""

from plain_company import Value, known
from plain_known import Known, count, log, mean, reference


@reference
def log_amount(deal: Known) -> Value:
    return log(amount_base(deal))


def amount_base(deal: Known) -> float | None:
    amount, rate = deal.value("amount"), deal.company.rate_to_base(deal.value("currency"), deal.as_of)
    return amount * rate if known(amount) and known(rate) else None


@reference
def stage(deal: Known) -> Value:
    return deal.value("stage")


@reference
def stage_rank(deal: Known) -> Value:
    stages, pipeline = deal.company.tables.get("stages"), deal.value("pipeline")
    stages = stages[stages["stage"] == deal.value("stage")]
    its_own = stages[stages["pipeline"] == pipeline] if known(pipeline) else stages.head(0)
    chosen = its_own if len(its_own) else stages.sort_values("sort_order")
    return float(chosen["sort_order"].iloc[0]) if len(chosen) else None


@reference
def forecast_category(deal: Known) -> Value:
    return deal.value("forecast_category")


@reference
def deal_type(deal: Known) -> Value:
    return deal.value("deal_type")


@reference
def lead_source(deal: Known) -> Value:
    return deal.value("lead_source")


@reference
def pipeline(deal: Known) -> Value:
    return deal.value("pipeline")


@reference
def stage_moves(deal: Known) -> Value:
    return count(deal.changes("stage"))


def up(rows: list | None) -> list | None:
    return None if rows is None else [row for row in rows if row["moved"] > 0]


def down(rows: list | None) -> list | None:
    return None if rows is None else [row for row in rows if row["moved"] < 0]


@reference
def stage_regressions(deal: Known) -> Value:
    return count(down(deal.changes("stage")))


@reference
def stage_advances_30d(deal: Known) -> Value:
    return count(up(deal.changes("stage", days=30)))


@reference
def close_date_pushes(deal: Known) -> Value:
    return count(up(deal.changes("close_date")))


@reference
def close_date_days_pushed(deal: Known) -> Value:
    moves = deal.changes("close_date")
    return None if moves is None else sum(row["moved"] for row in moves)


@reference
def close_date_pulls_30d(deal: Known) -> Value:
    return count(down(deal.changes("close_date", days=30)))


@reference
def amount_changes(deal: Known) -> Value:
    return count(deal.changes("amount"))


@reference
def owner_changes(deal: Known) -> Value:
    return count(deal.changes("owner_id"))


def days_since_last(deal: Known, rows: list | None) -> float | None:
    return deal.days_since(rows[-1]["at"]) if rows else None


@reference
def days_since_stage_advance(deal: Known) -> Value:
    return days_since_last(deal, up(deal.changes("stage", all_of_them=False)))


@reference
def amount_to_first(deal: Known) -> Value:
    amount, moves = deal.value("amount"), deal.changes("amount")
    if moves is None or not known(amount):
        return None
    first = amount - sum(row["moved"] for row in moves)
    return amount / first if round(first, 4) else None


@reference
def close_date_days_per_push(deal: Known) -> Value:
    pushes = up(deal.changes("close_date"))
    return mean([row["moved"] for row in pushes]) if pushes else None


@reference
def days_since_last_push(deal: Known) -> Value:
    return days_since_last(deal, up(deal.changes("close_date", all_of_them=False)))


@reference
def category_downgrades(deal: Known) -> Value:
    return count(down(deal.changes("forecast_category")))


@reference
def term_months(deal: Known) -> Value:
    return deal.value("term_months")


@reference
def partner_involved(deal: Known) -> Value:
    return 1.0 if known(deal.value("partner_account_id")) else 0.0


@reference
def arr_change_share(deal: Known) -> Value:
    amount, change = deal.value("amount"), deal.value("arr_change")
    return change / amount if known(change) and known(amount) and amount else None


@reference
def days_to_contract_end(deal: Known) -> Value:
    ends_on = deal.value("ends_on")
    return float((ends_on - deal.today).days) if known(ends_on) else None


@reference
def products(deal: Known) -> Value:
    lines = deal.lines()
    return None if lines is None else float(len({line["product"] for line in lines}))


@reference
def mean_discount(deal: Known) -> Value:
    discounts = []
    for line in deal.lines() or []:
        if known(line["amount"]) and known(line["quantity"]) and known(line["list_price"]):
            listed = line["quantity"] * line["list_price"]
            discounts += [1 - line["amount"] / listed] if listed > 0 else []
    return mean(discounts)
