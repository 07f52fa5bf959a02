"""Time: the deal's age, its pace, the promised close date and the fiscal period."""

from features.records import shrunk_mean
from features.spec import Deal, Term, feature

CYCLE_WORTH = 10.0
"""The company's mean cycle counts as much as so many won deals of the segment."""

PASSAGE_WORTH = 5.0
"""The deal's own days in its stage count as much as those of so many won deals."""


@feature(unit="days", controlled_by="clock", reason="open for {value:.0f} {day|days}")
def deal_age_days(deal: Deal) -> Term:
    """Days since the deal was opened (or opened again)."""
    return deal.days_since(deal.opened_at)


@feature(unit="days", controlled_by="clock", reason="{value:.0f} {day|days} in this stage")
def days_in_stage(deal: Deal) -> Term:
    """Days since the last recorded stage change, else since the deal was created."""
    moves = deal.changes("stage")
    return deal.days_since(moves.last_at().or_else(deal.created_at)).where_known(moves.count())


@feature(
    unit="days",
    controlled_by="seller",
    reason="close date {value:.0f} {day|days} ahead",
    at_zero="close date today",
    below="close date passed {value:.0f} {day|days} ago",
    missing="no close date",
)
def days_to_close_date(deal: Deal) -> Term:
    """Days from today to the promised close date; negative when it has passed."""
    return deal.value("close_date") - deal.clock("as_of_day")


@feature(
    unit="days",
    controlled_by="clock",
    reason="close date {value:.0f} {day|days} before the end of the period",
    at_zero="close date on the first day of the next period",
    below="close date {value:.0f} {day|days} after the end of the period",
)
def close_date_before_period_end(deal: Deal) -> Term:
    """Days from the promised close date to the end of the fiscal period that holds today; negative: after it."""
    return deal.clock("period_end_day") - deal.value("close_date")


@feature(unit="days", controlled_by="clock", reason="{value:.0f} {day|days} left in the period", audience="none")
def days_to_period_end(deal: Deal) -> Term:
    """Days to the end of the fiscal period that holds the moment."""
    return deal.clock("period_end_day") - deal.clock("as_of_day")


@feature(unit="days", controlled_by="seller", reason="nothing changed on the deal for {value:.0f} {day|days}")
def days_since_last_edit(deal: Deal) -> Term:
    """Days since the stage, close date or amount last changed, else since the deal was created."""
    edits = [deal.changes(field).last_at().or_else(deal.created_at) for field in ("stage", "close_date", "amount")]
    return deal.days_since(Term("GREATEST({0}, {1}, {2})", tuple(edits))).where_known(deal.changes("stage").count())


@feature(
    unit="days",
    controlled_by="clock",
    audience="none",
    reason="{value:.0f} working {day|days} left in the period",
    missing="never unknown",
)
def business_days_left(deal: Deal) -> Term:
    """Weekdays from today to the end of the fiscal period; holidays are counted as any day."""
    return deal.clock("business_days_left")


@feature(
    unit="ratio",
    controlled_by="clock",
    reason="{value:.1f} times as long in this stage as won deals",
    missing="stage changes were not recorded all the time",
)
def stage_pace(deal: Deal) -> Term:
    """Days in the stage against the mean of the won deals that had been in it; drawn toward 1 where they are few."""
    days, passed = days_in_stage.term, deal.passed_stage.won()
    return days / shrunk_mean(passed, "days", toward=days, worth=PASSAGE_WORTH)


@feature(
    unit="ratio",
    controlled_by="clock",
    reason="{value:.1f} times as old as deals are when won",
    missing="no deal won yet, or the age is unknown",
)
def age_pace(deal: Deal) -> Term:
    """The deal's age against the mean cycle of the segment's won deals, drawn toward the company's if they are few."""
    company = deal.company.won().mean("days_open")
    return deal_age_days.term / shrunk_mean(deal.segment.won(), "days_open", toward=company, worth=CYCLE_WORTH)
