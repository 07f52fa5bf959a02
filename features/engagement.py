"""Engagement: who talked to whom, how recently, and how broadly. Unknown before the first activity ever recorded.

What the seller alone logs (outbound) is never declared `better` on its own: it can be typed in at will.
"""

from features.spec import Deal, Term, feature

NO_LOG = "no activities recorded"


@feature(
    unit="days", higher_is="worse", controlled_by="seller", reason="no activity for {value:.0f} days", missing=NO_LOG
)
def days_since_last_activity(deal: Deal) -> Term:
    """Days since the last activity of any kind, else since the deal was created."""
    last = deal.activities().last_at().or_else(deal.created_at)
    return deal.days_since(last).where_known(deal.activities().count())


@feature(
    unit="days",
    higher_is="worse",
    controlled_by="buyer",
    reason="no word from the buyer for {value:.0f} days",
    missing=NO_LOG,
)
def days_since_last_inbound(deal: Deal) -> Term:
    """Days since the buyer last wrote, called or met; unknown if never."""
    return deal.days_since(deal.activities(direction="inbound").last_at())


@feature(unit="count", controlled_by="seller", reason="{value:.0f} activities in 7 days", missing=NO_LOG)
def activities_7d(deal: Deal) -> Term:
    """Activities of the last 7 days."""
    return deal.activities().within(days=7).count()


@feature(unit="count", controlled_by="seller", reason="{value:.0f} activities in 30 days", missing=NO_LOG)
def activities_30d(deal: Deal) -> Term:
    """Activities of the last 30 days."""
    return deal.activities().within(days=30).count()


@feature(unit="count", controlled_by="seller", reason="{value:.0f} activities so far", missing=NO_LOG)
def activities_so_far(deal: Deal) -> Term:
    """Activities since the deal began."""
    return deal.activities().count()


@feature(
    unit="count",
    higher_is="better",
    controlled_by="buyer",
    reason="{value:.0f} messages from the buyer in 14 days",
    missing=NO_LOG,
)
def inbound_14d(deal: Deal) -> Term:
    """Inbound activities of the last 14 days."""
    return deal.activities(direction="inbound").within(days=14).count()


@feature(
    unit="count",
    higher_is="better",
    controlled_by="buyer",
    reason="{value:.0f} messages from the buyer in 60 days",
    missing=NO_LOG,
)
def inbound_60d(deal: Deal) -> Term:
    """Inbound activities of the last 60 days."""
    return deal.activities(direction="inbound").within(days=60).count()


@feature(unit="count", controlled_by="seller", reason="{value:.0f} outbound activities in 14 days", missing=NO_LOG)
def outbound_14d(deal: Deal) -> Term:
    """Outbound activities of the last 14 days."""
    return deal.activities(direction="outbound").within(days=14).count()


@feature(
    unit="share",
    higher_is="better",
    controlled_by="buyer",
    reason="the buyer answers {value:.0%} as often as we write",
    missing=NO_LOG,
)
def reply_ratio_60d(deal: Deal) -> Term:
    """Inbound activities per outbound one in the last 60 days; unknown without outbound ones."""
    inbound = deal.activities(direction="inbound").within(days=60).count()
    return inbound / deal.activities(direction="outbound").within(days=60).count()


@feature(
    unit="count", higher_is="better", controlled_by="buyer", reason="{value:.0f} meetings in 60 days", missing=NO_LOG
)
def meetings_60d(deal: Deal) -> Term:
    """Meetings of the last 60 days."""
    return deal.activities("meeting").within(days=60).count()


@feature(unit="count", controlled_by="seller", reason="{value:.0f} calls in 14 days", missing=NO_LOG)
def calls_14d(deal: Deal) -> Term:
    """Calls of the last 14 days."""
    return deal.activities("call").within(days=14).count()


@feature(
    unit="ratio",
    higher_is="better",
    controlled_by="buyer",
    reason="engagement at {value:.1f} times its level of before",
    missing=NO_LOG,
)
def engagement_trend(deal: Deal) -> Term:
    """Activities of the last 14 days against their average per 14 days of the last 56, each plus one."""
    recent, longer = deal.activities().within(days=14).count(), deal.activities().within(days=56).count()
    return (recent + 1.0) / (longer * 0.25 + 1.0)


@feature(
    unit="count",
    higher_is="better",
    controlled_by="buyer",
    reason="{value:.0f} contacts on the deal",
    missing="no dated contacts",
)
def contacts_known(deal: Deal) -> Term:
    """Different contacts added to the deal so far."""
    return deal.contacts().sum("is_first")


@feature(
    unit="count",
    higher_is="better",
    controlled_by="buyer",
    reason="{value:.0f} people of the buyer took part so far",
    missing=NO_LOG,
)
def people_engaged(deal: Deal) -> Term:
    """Different contacts of the buyer who ever took part in an activity."""
    return deal.people().sum("is_first")
