"""References of the family engagement."""

from itertools import pairwise

import pandas as pd
from plain_company import Value, days_between, in_order, known
from plain_known import Known, count, mean, reference


def contacts_in(rows: list | None) -> float | None:
    return None if rows is None else float(len({row["contact_id"] for row in rows if known(row["contact_id"])}))


@reference
def days_since_last_activity(deal: Known) -> Value:
    if deal.activities() is None:
        return None
    rows = deal.activities(all_of_them=False)
    return deal.days_since(rows[-1]["known_from"] if rows else deal.created_at)


def last_inbound(deal: Known) -> object:
    rows = deal.activities(direction="inbound", all_of_them=False)
    return rows[-1]["known_from"] if rows else None


@reference
def days_since_last_inbound(deal: Known) -> Value:
    return deal.days_since(last_inbound(deal))


@reference
def activities_7d(deal: Known) -> Value:
    return count(deal.activities(days=7))


@reference
def activities_30d(deal: Known) -> Value:
    return count(deal.activities(days=30))


@reference
def activities_so_far(deal: Known) -> Value:
    return count(deal.activities())


@reference
def inbound_14d(deal: Known) -> Value:
    return count(deal.activities(days=14, direction="inbound"))


@reference
def inbound_60d(deal: Known) -> Value:
    return count(deal.activities(days=60, direction="inbound"))


@reference
def reply_ratio_60d(deal: Known) -> Value:
    written = count(deal.activities(days=60, direction="outbound"))
    answered = count(deal.activities(days=60, direction="inbound"))
    return answered / written if written and answered is not None else None


@reference
def meetings_60d(deal: Known) -> Value:
    return count(deal.activities("meeting", days=60))


@reference
def engagement_trend(deal: Known) -> Value:
    recent, longer = count(deal.activities(days=14)), count(deal.activities(days=56))
    return None if recent is None or longer is None else (recent + 1) / (longer / 4 + 1)


@reference
def contacts_known(deal: Known) -> Value:
    return contacts_in(deal.contacts())


@reference
def people_engaged(deal: Known) -> Value:
    return contacts_in(deal.activities(having="contact_id"))


def since_stage_move(deal: Known, **asked: str) -> list | None:
    if deal.changes("stage") is None:
        return None
    return deal.activities(after=deal.last_change("stage") or deal.created_at, **asked)


@reference
def activities_since_stage_move(deal: Known) -> Value:
    return count(since_stage_move(deal))


@reference
def inbound_since_stage_move(deal: Known) -> Value:
    return count(since_stage_move(deal, direction="inbound"))


def turns(deal: Known) -> tuple[dict[int, float], int]:
    """Days until each answer, by its place among the deal's activities, and what is unanswered now."""
    rows = in_order(deal.company.activities.get(deal.deal_id, []), "known_from")
    answered, waiting = {}, []
    for row in rows:
        if row["known_from"] > deal.as_of:
            continue
        if row["direction"] == "outbound":
            waiting.append(row["known_from"])
        elif row["direction"] == "inbound":
            if waiting:
                answered[row["activity_id"]] = days_between(waiting[0], row["known_from"])
            waiting = []
    return answered, len(waiting)


@reference
def reply_days_60d(deal: Known) -> Value:
    answers = deal.activities(days=60, direction="inbound")
    answered, _ = turns(deal)
    return mean([answered.get(row["activity_id"]) for row in answers or []])


@reference
def unanswered_messages(deal: Known) -> Value:
    if deal.activities(direction="inbound") is None or deal.activities(direction="outbound") is None:
        return None
    return float(turns(deal)[1])


@reference
def silence_rhythm(deal: Known) -> Value:
    words = deal.activities(direction="inbound")
    if words is None or len(words) < 2:
        return None
    gaps = [days_between(one["known_from"], other["known_from"]) for one, other in pairwise(words)]
    return (deal.days_since(words[-1]["known_from"]) + 1) / (mean(gaps) + 1)


@reference
def days_since_last_meeting(deal: Known) -> Value:
    meetings = deal.activities("meeting", all_of_them=False)
    return deal.days_since(meetings[-1]["known_from"]) if meetings else None


@reference
def minutes_30d(deal: Known) -> Value:
    rows = deal.activities(days=30, having="duration_minutes")
    return None if rows is None else float(sum(row["duration_minutes"] for row in rows))


@reference
def people_engaged_30d(deal: Known) -> Value:
    return contacts_in(deal.activities(days=30, having="contact_id"))


@reference
def days_since_contact_added(deal: Known) -> Value:
    first: dict[str, pd.Timestamp] = {}
    for row in deal.contacts(all_of_them=False) or []:
        first.setdefault(row["contact_id"], row["known_from"])
    return deal.days_since(max(first.values())) if first else None


@reference
def decision_makers(deal: Known) -> Value:
    rows = deal.contacts(("role",))
    words = ("decision", "economic", "executive", "sponsor", "signatory")
    if rows is None:
        return None
    return contacts_in([row for row in rows if any(word in str(row["role"]).lower() for word in words)])


@reference
def roles_covered(deal: Known) -> Value:
    rows = deal.contacts(("role",))
    return None if rows is None else float(len({row["role"] for row in rows if known(row["role"])}))
