"""The deal's own state and history: what it is worth, where it stands, how often its story changed."""

from features.spec import Deal, Term, feature
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


@feature(unit="rank", higher_is="better", reason="stage {value:.0f} along the pipeline")
def stage_position(deal: Deal) -> Term:
    """Place of the deal's stage among those of its pipeline: 1, 2, …, whatever their sort order."""
    return deal.stage("position")


@feature(unit="count", reason="skipped stages {value:.0f} times", missing=NO_HISTORY)
def stages_skipped(deal: Deal) -> Term:
    """Times the deal moved up by more than one stage."""
    return deal.changes("stage").where("new_number > old_number + 1").count()


@feature(
    unit="days", higher_is="worse", reason="last moved forward {value:.0f} days ago", missing="no move forward recorded"
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
    amount, changed = deal.value("amount"), deal.changes("amount").sum("new_number - old_number")
    return amount / (amount - changed)


@feature(
    unit="days",
    higher_is="worse",
    reason="pushed by {value:.0f} days at a time",
    missing="never pushed, or not recorded all the time",
)
def close_date_days_per_push(deal: Deal) -> Term:
    """Mean days by which the close date moved when it moved later; unknown if it never did."""
    return deal.changes("close_date").where("new_number > old_number").mean("new_number - old_number")


@feature(
    unit="count",
    higher_is="worse",
    reason="close date moved the same way {value:+.0f} times running",
    missing=NO_HISTORY,
)
def close_date_streak(deal: Deal) -> Term:
    """Times in a row the close date last moved the same way: later or, as a negative number, earlier; 0 if never."""
    moves = deal.changes("close_date")
    return moves.last("streak").or_else(0.0).where_known(moves.count())


@feature(unit="count", higher_is="worse", reason="close date pushed {value:.0f} times in 90 days", missing=NO_HISTORY)
def close_date_pushes_90d(deal: Deal) -> Term:
    """Times the close date moved later in the last 90 days."""
    return deal.changes("close_date").where("new_number > old_number").within(days=90).count()


@feature(unit="days", reason="close date last pushed {value:.0f} days ago", missing="no push recorded")
def days_since_last_push(deal: Deal) -> Term:
    """Days since the close date last moved later; unknown if it never did."""
    return deal.days_since(deal.changes("close_date").where("new_number > old_number").last_at())


@feature(
    unit="rank",
    higher_is="better",
    reason="the rep's category ranks {value:.0f} of 4",
    missing="no category, or one of the company's own",
)
def forecast_category_rank(deal: Deal) -> Term:
    """Rank of the rep's forecast category: omitted 0, pipeline 1, best case 2, most likely 3, commit 4."""
    return Term(CATEGORY_RANK, (deal.value("forecast_category"),))


@feature(unit="count", higher_is="worse", reason="category lowered {value:.0f} times", missing=NO_HISTORY)
def category_downgrades(deal: Deal) -> Term:
    """Times the rep lowered the forecast category."""
    return deal.changes("forecast_category").where("new_number < old_number").count()


@feature(unit="days", reason="category unchanged for {value:.0f} days", missing="no change recorded")
def days_since_category_change(deal: Deal) -> Term:
    """Days since the forecast category last changed; unknown if it never did."""
    return deal.days_since(deal.changes("forecast_category").last_at())


@feature(unit="count", reason="{value:.0f} fields filled in")
def fields_known(deal: Deal) -> Term:
    """Fields of the deal that are known to be filled in, the CRM's own ones included."""
    return deal.state("fields_known")


@feature(unit="months", controlled_by="buyer", reason="a term of {value:.0f} months")
def term_months(deal: Deal) -> Term:
    """Length of the contract on offer."""
    return deal.value("term_months")


@feature(unit="0 or 1", reason="partner involved: {value:.0f} (1 yes, 0 no)", missing="never unknown")
def partner_involved(deal: Deal) -> Term:
    """Whether a partner is known to be involved."""
    return deal.value("partner_account_id").is_known()


@feature(
    unit="share",
    controlled_by="buyer",
    reason="{value:.0%} of the amount is recurring growth",
    missing="no amount, or none of the two given",
)
def arr_change_share(deal: Deal) -> Term:
    """Change of annual recurring revenue as a share of the amount."""
    return deal.value("arr_change") / deal.value("amount")


@feature(
    unit="days", controlled_by="buyer", reason="the contract on offer ends in {value:.0f} days", missing="no end given"
)
def days_to_contract_end(deal: Deal) -> Term:
    """Days from today to the end of the contract on offer."""
    return deal.value("ends_on") - deal.clock("as_of_day")


@feature(unit="count", controlled_by="buyer", reason="{value:.0f} products on offer", missing="no dated line items")
def products(deal: Deal) -> Term:
    """Different products on the deal, from when each was added."""
    return deal.lines().distinct("product")


@feature(unit="share", reason="{value:.0%} off the list price", missing="no dated line items with a list price")
def mean_discount(deal: Deal) -> Term:
    """Mean share of the list price that the deal's lines leave out; unknown without list prices."""
    return deal.lines().mean("discount")
