"""References of the family deal."""

from plain_company import Known, Value, count, known, log, reference


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


def up(rows: list | None, more_than: float = 0.0) -> list | None:
    return None if rows is None else [row for row in rows if row["moved"] > more_than]


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
def amount_cuts(deal: Known) -> Value:
    return count(down(deal.changes("amount")))


@reference
def owner_changes(deal: Known) -> Value:
    return count(deal.changes("owner_id"))
