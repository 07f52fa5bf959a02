"""The deal's own state and history: what it is worth, where it stands, how often its story changed."""

from features.running import MONEY
from features.spec import Deal, Term, feature, number
from features.stages import FORECAST_CATEGORIES

NO_HISTORY = "the field's changes were not recorded all the time"

_RANKS = " ".join(f"WHEN '{name}' THEN {rank!r}" for name, rank in FORECAST_CATEGORIES.items())
CATEGORY_RANK = f"CASE REPLACE(REPLACE(LOWER(TRIM({{0}})), ' ', '_'), '-', '_') {_RANKS} END"


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


@feature(unit="count", reason="{value:.0f} stage {move|moves} so far")
def stage_moves(deal: Deal) -> Term:
    """Recorded stage changes so far."""
    return deal.changes("stage").count()


@feature(unit="count", higher_is="worse", reason="moved back a stage {value:.0f} {time|times}")
def stage_regressions(deal: Deal) -> Term:
    """Times the deal moved to an earlier stage."""
    return deal.changes("stage").where("new_number < old_number").count()


@feature(unit="count", higher_is="better", reason="{value:.0f} {stage|stages} forward in the last 30 days")
def stage_advances_30d(deal: Deal) -> Term:
    """Moves to a later stage in the last 30 days."""
    return deal.changes("stage").where("new_number > old_number").within(days=30).count()


@feature(unit="count", higher_is="worse", reason="close date pushed {value:.0f} {time|times}")
def close_date_pushes(deal: Deal) -> Term:
    """Times the close date moved later, as known at the as-of moment."""
    return deal.changes("close_date").where("new_number > old_number").count()


@feature(
    unit="days",
    higher_is="worse",
    reason="close date moved later by {value:.0f} {day|days} in all",
    at_zero="close date where it was at first",
    below="close date moved earlier by {value:.0f} {day|days} in all",
)
def close_date_days_pushed(deal: Deal) -> Term:
    """Days by which all changes together moved the close date; negative when it was pulled in."""
    return deal.changes("close_date").sum("new_number - old_number")


@feature(unit="count", higher_is="better", reason="close date pulled in {value:.0f} {time|times} in 30 days")
def close_date_pulls_30d(deal: Deal) -> Term:
    """Times the close date moved earlier in the last 30 days."""
    return deal.changes("close_date").where("new_number < old_number").within(days=30).count()


@feature(unit="count", reason="amount changed {value:.0f} {time|times}")
def amount_changes(deal: Deal) -> Term:
    """Recorded changes of the amount."""
    return deal.changes("amount").count()


@feature(unit="count", reason="handed to another owner {value:.0f} {time|times}")
def owner_changes(deal: Deal) -> Term:
    """Times the deal changed its owner."""
    return deal.changes("owner_id").count()


@feature(
    unit="days",
    higher_is="worse",
    reason="last moved forward {value:.0f} {day|days} ago",
    missing="no move forward recorded",
)
def days_since_stage_advance(deal: Deal) -> Term:
    """Days since the deal last moved to a later stage; unknown if it never did."""
    return deal.days_since(deal.changes("stage").where("new_number > old_number").last_at())


@feature(
    unit="ratio",
    reason="the amount is {value:.1f} times what it was at first",
    missing="no amount, or its changes were not recorded all the time",
)
def amount_to_first(deal: Deal) -> Term:
    """The amount over what it was before its recorded changes; 1 without changes."""
    # Rounded like the changes that are summed: else what came from nothing is left with a trace of a cent.
    amount = Term(f"(ROUND({{0}} * {number(MONEY)}) / {number(MONEY)})", (deal.value("amount"),))
    return amount / (amount - deal.changes("amount").sum("new_number - old_number"))


@feature(
    unit="days",
    higher_is="worse",
    reason="pushed by {value:.0f} {day|days} at a time",
    missing="never pushed, or not recorded all the time",
)
def close_date_days_per_push(deal: Deal) -> Term:
    """Mean days by which the close date moved when it moved later; unknown if it never did."""
    return deal.changes("close_date").where("new_number > old_number").mean("new_number - old_number")


@feature(unit="days", reason="close date last pushed {value:.0f} {day|days} ago", missing="no push recorded")
def days_since_last_push(deal: Deal) -> Term:
    """Days since the close date last moved later; unknown if it never did."""
    return deal.days_since(deal.changes("close_date").where("new_number > old_number").last_at())


@feature(unit="count", higher_is="worse", reason="category lowered {value:.0f} {time|times}", missing=NO_HISTORY)
def category_downgrades(deal: Deal) -> Term:
    """Times the rep lowered the forecast category."""
    return deal.changes("forecast_category").where("new_number < old_number").count()


@feature(unit="months", controlled_by="buyer", reason="a term of {value:.0f} {month|months}")
def term_months(deal: Deal) -> Term:
    """Length of the contract on offer."""
    return deal.value("term_months")


@feature(
    unit="0 or 1", reason="a partner is involved", at_zero="no partner is known to be involved", missing="never unknown"
)
def partner_involved(deal: Deal) -> Term:
    """Whether a partner is known to be involved."""
    return deal.value("partner_account_id").is_known()


@feature(
    unit="share",
    controlled_by="buyer",
    reason="{value:.0%} of the amount is recurring growth",
    at_zero="no recurring growth",
    below="recurring revenue shrinks by {value:.0%} of the amount",
    missing="no amount, or none of the two given",
)
def arr_change_share(deal: Deal) -> Term:
    """Change of annual recurring revenue as a share of the amount."""
    return deal.value("arr_change") / deal.value("amount")


@feature(
    unit="days",
    controlled_by="buyer",
    reason="the contract on offer ends in {value:.0f} {day|days}",
    at_zero="the contract on offer ends today",
    below="the contract on offer ended {value:.0f} {day|days} ago",
    missing="no end given",
)
def days_to_contract_end(deal: Deal) -> Term:
    """Days from today to the end of the contract on offer."""
    return deal.value("ends_on") - deal.clock("as_of_day")


@feature(
    unit="count", controlled_by="buyer", reason="{value:.0f} {product|products} on offer", missing="no dated line items"
)
def products(deal: Deal) -> Term:
    """Different products on the deal, from when each was added."""
    return deal.lines().distinct("product")


@feature(
    unit="share",
    reason="{value:.0%} off the list price",
    at_zero="at the list price",
    below="{value:.0%} above the list price",
    missing="no dated line items with a list price",
)
def mean_discount(deal: Deal) -> Term:
    """Mean share of the list price that the deal's lines leave out; unknown without list prices."""
    return deal.lines().mean("discount")
