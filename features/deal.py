"""The deal's own state and history: what it is worth, where it stands, how often its story changed."""

from features.spec import Deal, Term, feature


@feature(
    unit="log of base currency", controlled_by="buyer", reason="amount of {value}", missing="no amount, or no rate"
)
def log_amount(deal: Deal) -> Term:
    """Natural logarithm of the amount in base currency; unknown for amounts of zero or less."""
    return deal.amount_base.log()


@feature(unit="category", reason="in stage {value}")
def stage(deal: Deal) -> Term:
    """The deal's stage."""
    return deal.value("stage")


@feature(unit="rank", higher_is="better", reason="stage number {value:.0f} of the pipeline")
def stage_rank(deal: Deal) -> Term:
    """Sort order of the deal's stage in its pipeline."""
    return deal.stage("sort_order")


@feature(unit="category", reason="forecast category {value}")
def forecast_category(deal: Deal) -> Term:
    """The rep's own forecast category."""
    return deal.value("forecast_category")


@feature(unit="category", controlled_by="buyer", reason="a deal of type {value}")
def deal_type(deal: Deal) -> Term:
    """New business, expansion, renewal, or as the company calls it."""
    return deal.value("deal_type")


@feature(unit="category", controlled_by="buyer", reason="came from {value}")
def lead_source(deal: Deal) -> Term:
    """Where the deal came from."""
    return deal.value("lead_source")


@feature(unit="category", controlled_by="clock", reason="in pipeline {value}")
def pipeline(deal: Deal) -> Term:
    """The pipeline the deal runs through."""
    return deal.value("pipeline")


@feature(unit="count", reason="{value:.0f} stage moves so far")
def stage_moves(deal: Deal) -> Term:
    """Recorded stage changes so far."""
    return deal.changes("stage").count()


@feature(unit="count", higher_is="worse", reason="moved back a stage {value:.0f} times")
def stage_regressions(deal: Deal) -> Term:
    """Times the deal moved to an earlier stage."""
    return deal.changes("stage").where("new_number < old_number").count()


@feature(unit="count", higher_is="better", reason="{value:.0f} stages forward in the last 30 days")
def stage_advances_30d(deal: Deal) -> Term:
    """Moves to a later stage in the last 30 days."""
    return deal.changes("stage").where("new_number > old_number").within(days=30).count()


@feature(unit="count", higher_is="worse", reason="close date pushed {value:.0f} times")
def close_date_pushes(deal: Deal) -> Term:
    """Times the close date moved later, as known at the as-of moment."""
    return deal.changes("close_date").where("new_number > old_number").count()


@feature(unit="days", higher_is="worse", reason="close date moved by {value:.0f} days in all")
def close_date_days_pushed(deal: Deal) -> Term:
    """Days by which all changes together moved the close date; negative when it was pulled in."""
    return deal.changes("close_date").sum("new_number - old_number")


@feature(unit="count", higher_is="better", reason="close date pulled in {value:.0f} times in 30 days")
def close_date_pulls_30d(deal: Deal) -> Term:
    """Times the close date moved earlier in the last 30 days."""
    return deal.changes("close_date").where("new_number < old_number").within(days=30).count()


@feature(unit="count", reason="amount changed {value:.0f} times")
def amount_changes(deal: Deal) -> Term:
    """Recorded changes of the amount."""
    return deal.changes("amount").count()


@feature(unit="count", higher_is="worse", reason="amount cut {value:.0f} times")
def amount_cuts(deal: Deal) -> Term:
    """Times the amount was lowered."""
    return deal.changes("amount").where("new_number < old_number").count()


@feature(unit="count", reason="handed to another owner {value:.0f} times")
def owner_changes(deal: Deal) -> Term:
    """Times the deal changed its owner."""
    return deal.changes("owner_id").count()
