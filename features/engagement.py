"""Engagement: who talked to whom, how recently, and how broadly. Unknown before the first activity ever recorded.

What the seller alone logs (outbound) is never declared `better` on its own: it can be typed in at will.
"""

from features.spec import DAY, Deal, Term, feature

NO_LOG = "no activities recorded"

DECIDES = ("decision", "economic", "executive", "sponsor", "signatory")
"""A contact whose role holds one of these words, in any case, decides on the money."""


def last_stage_move(deal: Deal) -> Term:
    """Instant of the last stage move, else of the deal's beginning."""
    return deal.changes("stage").last_at().or_else(deal.created_at)


@feature(
    unit="days",
    higher_is="worse",
    controlled_by="seller",
    reason="no activity for {value:.0f} {day|days}",
    missing=NO_LOG,
)
def days_since_last_activity(deal: Deal) -> Term:
    """Days since the last activity of any kind, else since the deal was created."""
    last = deal.activities().last_at().or_else(deal.created_at)
    return deal.days_since(last).where_known(deal.activities().count())


@feature(
    unit="days",
    higher_is="worse",
    controlled_by="buyer",
    reason="no word from the buyer for {value:.0f} {day|days}",
    missing=NO_LOG,
)
def days_since_last_inbound(deal: Deal) -> Term:
    """Days since the buyer last wrote, called or met; unknown if never."""
    return deal.days_since(deal.activities(direction="inbound").last_at())


@feature(unit="count", controlled_by="seller", reason="{value:.0f} {activity|activities} in 7 days", missing=NO_LOG)
def activities_7d(deal: Deal) -> Term:
    """Activities of the last 7 days."""
    return deal.activities().within(days=7).count()


@feature(unit="count", controlled_by="seller", reason="{value:.0f} {activity|activities} in 30 days", missing=NO_LOG)
def activities_30d(deal: Deal) -> Term:
    """Activities of the last 30 days."""
    return deal.activities().within(days=30).count()


@feature(unit="count", controlled_by="seller", reason="{value:.0f} {activity|activities} so far", missing=NO_LOG)
def activities_so_far(deal: Deal) -> Term:
    """Activities since the deal began."""
    return deal.activities().count()


@feature(
    unit="count",
    higher_is="better",
    controlled_by="buyer",
    reason="{value:.0f} {message|messages} from the buyer in 14 days",
    missing=NO_LOG,
)
def inbound_14d(deal: Deal) -> Term:
    """Inbound activities of the last 14 days."""
    return deal.activities(direction="inbound").within(days=14).count()


@feature(
    unit="count",
    higher_is="better",
    controlled_by="buyer",
    reason="{value:.0f} {message|messages} from the buyer in 60 days",
    missing=NO_LOG,
)
def inbound_60d(deal: Deal) -> Term:
    """Inbound activities of the last 60 days."""
    return deal.activities(direction="inbound").within(days=60).count()


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
    unit="count",
    higher_is="better",
    controlled_by="buyer",
    reason="{value:.0f} {meeting|meetings} in 60 days",
    missing=NO_LOG,
)
def meetings_60d(deal: Deal) -> Term:
    """Meetings of the last 60 days."""
    return deal.activities("meeting").within(days=60).count()


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
    reason="{value:.0f} {contact|contacts} on the deal",
    missing="no dated contacts",
)
def contacts_known(deal: Deal) -> Term:
    """Different contacts added to the deal so far."""
    return deal.contacts().sum("is_first")


@feature(
    unit="count",
    higher_is="better",
    controlled_by="buyer",
    reason="{value:.0f} {person|people} of the buyer took part so far",
    missing=NO_LOG,
)
def people_engaged(deal: Deal) -> Term:
    """Different contacts of the buyer who ever took part in an activity."""
    return deal.people().sum("is_first")


@feature(unit="count", reason="{value:.0f} {activity|activities} since the last stage move", missing=NO_LOG)
def activities_since_stage_move(deal: Deal) -> Term:
    """Activities later than the last stage move, else since the deal was created."""
    return deal.activities().after(last_stage_move(deal)).count().where_known(deal.changes("stage").count())


@feature(
    unit="count",
    higher_is="better",
    controlled_by="buyer",
    reason="{value:.0f} {message|messages} from the buyer since the last stage move",
    missing=NO_LOG,
)
def inbound_since_stage_move(deal: Deal) -> Term:
    """Inbound activities later than the last stage move, else since the deal was created."""
    inbound = deal.activities(direction="inbound")
    return inbound.after(last_stage_move(deal)).count().where_known(deal.changes("stage").count())


@feature(
    unit="days",
    higher_is="worse",
    controlled_by="buyer",
    reason="the buyer answers within {value:.1f} days",
    missing="no answer in 60 days",
)
def reply_days_60d(deal: Deal) -> Term:
    """Mean days from our first unanswered message to the buyer's answer, over the answers of the last 60 days."""
    return deal.activities(direction="inbound").within(days=60).mean("reply_days")


@feature(
    unit="count",
    higher_is="worse",
    controlled_by="buyer",
    reason="{value:.0f} {message|messages} of ours unanswered",
    missing=NO_LOG,
)
def unanswered_messages(deal: Deal) -> Term:
    """Our messages since the buyer's last word."""
    both = [deal.activities(direction=direction).count() for direction in ("inbound", "outbound")]
    unanswered = deal.activities().last("unanswered").or_else(0.0)
    return unanswered.where_known(both[0]).where_known(both[1])


@feature(
    unit="ratio",
    higher_is="worse",
    controlled_by="buyer",
    reason="silent for {value:.1f} times the deal's usual gap",
    missing="fewer than two words of the buyer so far",
)
def silence_rhythm(deal: Deal) -> Term:
    """Days since the buyer's last word plus one, against the mean gap between the buyer's words so far plus one."""
    inbound = deal.activities(direction="inbound")
    gap = (inbound.last_at() - inbound.first_at()) / DAY / (inbound.count() - 1.0)
    return (deal.days_since(inbound.last_at()) + 1.0) / (gap + 1.0)


@feature(
    unit="days",
    higher_is="worse",
    controlled_by="buyer",
    reason="last met {value:.0f} {day|days} ago",
    missing="no meeting recorded",
)
def days_since_last_meeting(deal: Deal) -> Term:
    """Days since the last meeting; unknown if there was none."""
    return deal.days_since(deal.activities("meeting").last_at())


@feature(unit="minutes", reason="{value:.0f} {minute|minutes} together in 30 days", missing="no lengths recorded")
def minutes_30d(deal: Deal) -> Term:
    """Minutes of the activities of the last 30 days whose length is known."""
    return deal.activities().telling("duration_minutes").within(days=30).sum("duration_minutes")


@feature(
    unit="count",
    higher_is="better",
    controlled_by="buyer",
    reason="{value:.0f} {person|people} of the buyer took part in 30 days",
    missing=NO_LOG,
)
def people_engaged_30d(deal: Deal) -> Term:
    """Different contacts of the buyer who took part in an activity of the last 30 days."""
    return deal.people().within(days=30).distinct("contact_id")


@feature(unit="days", reason="last contact added {value:.0f} {day|days} ago", missing="no dated contacts")
def days_since_contact_added(deal: Deal) -> Term:
    """Days since a new contact was last added to the deal; unknown if none was."""
    return deal.days_since(deal.contacts().where("is_first = 1").last_at())


@feature(
    unit="count",
    higher_is="better",
    reason="{value:.0f} {contact who decides|contacts who decide} on the money",
    missing="no dated contacts with a role",
)
def decision_makers(deal: Deal) -> Term:
    """Contacts whose role names a decision maker, economic buyer, executive, sponsor or signatory."""
    names = " OR ".join(f"LOWER(role) LIKE '%{word}%'" for word in DECIDES)
    return deal.contacts().telling("role").where(f"({names})").distinct("contact_id")


@feature(
    unit="count",
    higher_is="better",
    reason="{value:.0f} different {role|roles} among the contacts",
    missing="no dated contacts with a role",
)
def roles_covered(deal: Deal) -> Term:
    """Different roles among the contacts added so far."""
    return deal.contacts().telling("role").distinct("role")
