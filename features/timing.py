"""Time: the deal's age, its pace, the promised close date and the fiscal period."""

from features.spec import Deal, Term, feature


@feature(unit="days", controlled_by="clock", reason="open for {value:.0f} days")
def deal_age_days(deal: Deal) -> Term:
    """Days since the deal was opened (or opened again)."""
    return deal.days_since(deal.opened_at)


@feature(unit="days", controlled_by="clock", reason="{value:.0f} days in this stage")
def days_in_stage(deal: Deal) -> Term:
    """Days since the last recorded stage change, else since the deal was created."""
    moves = deal.changes("stage")
    return deal.days_since(moves.last_at().or_else(deal.created_at)).where_known(moves.count())


@feature(unit="days", controlled_by="seller", reason="close date {value:.0f} days ahead", missing="no close date")
def days_to_close_date(deal: Deal) -> Term:
    """Days from today to the promised close date; negative when it has passed."""
    return deal.value("close_date") - deal.clock("as_of_day")


@feature(unit="days", controlled_by="clock", reason="close date {value:.0f} days before the end of the period")
def close_date_before_period_end(deal: Deal) -> Term:
    """Days from the promised close date to the end of the fiscal period that holds today; negative: after it."""
    return deal.clock("period_end_day") - deal.value("close_date")


@feature(unit="days", controlled_by="clock", reason="{value:.0f} days left in the period", audience="none")
def days_to_period_end(deal: Deal) -> Term:
    """Days to the end of the fiscal period that holds the moment."""
    return deal.clock("period_end_day") - deal.clock("as_of_day")


@feature(unit="share", controlled_by="clock", reason="close date moved by {value:.1f} of the deal's age")
def push_share_of_age(deal: Deal) -> Term:
    """Days by which the close date moved, as a share of the deal's age in days plus 30."""
    return deal.changes("close_date").sum("new_number - old_number") / (deal.days_since(deal.opened_at) + 30.0)


@feature(unit="days", controlled_by="seller", reason="nothing changed on the deal for {value:.0f} days")
def days_since_last_edit(deal: Deal) -> Term:
    """Days since the stage, close date or amount last changed, else since the deal was created."""
    edits = [deal.changes(field).last_at().or_else(deal.created_at) for field in ("stage", "close_date", "amount")]
    return deal.days_since(Term("GREATEST({0}, {1}, {2})", tuple(edits))).where_known(deal.changes("stage").count())
