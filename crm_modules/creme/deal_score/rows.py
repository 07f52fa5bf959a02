"""Pages of what Creme holds, as rows of dealcast's tables.

Each function gives a page: rows by table, and what to ask for the next one; a page begins after the last id of the one
before.

Licence: AGPL-3.0-or-later.
"""

from creme.activities import constants as kinds
from creme.activities import get_activity_model
from creme.creme_core.models import CremeEntity, HistoryLine, Relation
from creme.opportunities import constants as ties
from creme.opportunities import get_opportunity_model
from creme.opportunities.models import SalesPhase
from creme.persons import get_contact_model, get_organisation_model
from django.contrib.auth import get_user_model
from django.db.models import Q

from deal_score.lives import Words, read_lives
from deal_score.models import Gone

ROWS = 500
ACTIVITY_TIES = (kinds.REL_SUB_ACTIVITY_SUBJECT, kinds.REL_SUB_LINKED_2_ACTIVITY)
ACTIVITY_TYPES = {
    kinds.UUID_TYPE_PHONECALL: "call",
    kinds.UUID_TYPE_MEETING: "meeting",
    kinds.UUID_TYPE_GATHERING: "meeting",
    kinds.UUID_TYPE_SHOW: "meeting",
    kinds.UUID_TYPE_DEMO: "meeting",
    kinds.UUID_TYPE_TASK: "task",
}
DIRECTIONS = {kinds.UUID_SUBTYPE_PHONECALL_INCOMING: "inbound", kinds.UUID_SUBTYPE_PHONECALL_OUTGOING: "outbound"}


def page_of(query, after, key="id"):
    """The records after an id, and the last id if there may be more."""
    found = list(query.filter(**{f"{key}__gt": after}).order_by(key)[:ROWS])
    return found, getattr(found[-1], key) if len(found) == ROWS else None


def phases(since, until, after):
    """The phases in their order; a phase that neither won nor lost is open."""
    rows = [
        {
            "stage": phase.name,
            "sort_order": str(place),
            "is_closed": text(phase.won or phase.lost),
            "is_won": text(phase.won),
        }
        for place, phase in enumerate(SalesPhase.objects.order_by("order", "id"), start=1)
    ]
    return {"stages": rows}, None


def users(since, until, after):
    """Users and, because an opportunity may belong to one, teams."""
    found, then = page_of(get_user_model().objects.prefetch_related("teams_set"), after)
    rows = [
        {
            "user_id": str(user.id),
            "name": user.username if user.is_team else f"{user.first_name} {user.last_name}".strip() or user.username,
            "email": user.email or None,
            "team": user.username
            if user.is_team
            else min((team.username for team in user.teams_set.all()), default=None),
            "left_at": text(user.deactivated_on),
        }
        for user in found
    ]
    return {"users": rows}, then


def organisations(since, until, after):
    """Organisations."""
    query = get_organisation_model().objects.select_related("sector", "billing_address")
    found, then = page_of(changed(query, since), after)
    rows = [
        account(each, each.sector and each.sector.name, each.billing_address and each.billing_address.country)
        for each in found
    ]
    return {"accounts": rows}, then


def persons(since, until, after):
    """Contacts that an opportunity is for, as accounts."""
    targets = Relation.objects.filter(type=ties.REL_SUB_TARGETS).values("object_entity")
    found, then = page_of(get_contact_model().objects.filter(id__in=targets), after)
    return {"accounts": [account(each) for each in found]}, then


def account(entity, industry=None, country=None):
    """A row of accounts."""
    return {
        "account_id": str(entity.id),
        "name": str(entity),
        "industry": industry or None,
        "country": country or None,
        "created_at": entity.created.isoformat(),
    }


def opportunities(since, until, after):
    """Opportunities with their past; those of which something was written, their account changed, or a line tells."""
    query = get_opportunity_model().objects.filter(created__lte=until)
    if since is not None:
        told = HistoryLine.objects.filter(date__gte=since, entity__isnull=False).values("entity")
        query = query.filter(Q(modified__gte=since) | Q(id__in=told))
    found, then = page_of(query, after)
    lives = list(read_lives(found, Words(), until=until))
    deals = [life.row() for life in lives]
    history = [row for life in lives for state, row in life.changes() if since is None or state.at >= since]
    return {"deals": deals, "deal_history": history}, then


def contacts(since, until, after):
    """Who is linked to which opportunity."""
    query = Relation.objects.filter(type=ties.REL_SUB_LINKED_CONTACT)
    if since is not None:
        query = query.filter(created__gte=since)
    found, then = page_of(query, after)
    people = get_contact_model().objects.select_related("position").in_bulk([each.subject_entity_id for each in found])
    rows = [
        {
            "deal_id": str(each.object_entity_id),
            "contact_id": str(each.subject_entity_id),
            "role": people[each.subject_entity_id].position.name if people[each.subject_entity_id].position else None,
            "added_at": each.created.isoformat(),
        }
        for each in found
    ]
    return {"deal_contacts": rows}, then


def activities(since, until, after):
    """What has happened by the moment: entered, changed, linked or come to pass since the start."""
    links = Relation.objects.filter(
        type__in=ACTIVITY_TIES, subject_entity__in=get_opportunity_model().objects.values("id")
    )
    query = happened(until).filter(id__in=links.values("object_entity"))
    if since is not None:
        linked = links.filter(created__gte=since).values("object_entity")
        query = query.filter(Q(modified__gte=since) | Q(start__gte=since) | Q(id__in=linked))
    found, then = page_of(query, after)
    return {"activities": activity_rows(found)}, then


def happened(until):
    """Activities that have begun, but for those that were called off."""
    cancelled = Q(status__uuid=kinds.UUID_STATUS_CANCELLED)
    query = get_activity_model().objects.select_related("type", "sub_type").exclude(cancelled)
    return query.filter(start__lte=until)


def activity_rows(found):
    """Rows of activities, each for the first opportunity that it is about or linked to; of others none."""
    ids = get_opportunity_model().objects.values("id")
    links = Relation.objects.filter(type__in=ACTIVITY_TIES, subject_entity__in=ids, object_entity__in=found)
    deals = dict(links.order_by("-id").values_list("object_entity_id", "subject_entity_id"))
    targets = Relation.objects.filter(type=ties.REL_SUB_TARGETS, subject_entity__in=deals.values())
    accounts = dict(targets.values_list("subject_entity_id", "object_entity_id"))
    return [
        {
            "activity_id": str(each.id),
            "occurred_at": each.start.isoformat(),
            "deal_id": str(deals[each.id]),
            "account_id": text(accounts.get(deals[each.id])),
            "user_id": str(each.user_id),
            "type": ACTIVITY_TYPES.get(str(each.type.uuid), "other"),
            "direction": DIRECTIONS.get(str(each.sub_type.uuid)),
            "logged_at": each.created.isoformat(),
            "duration_minutes": str(round((each.end - each.start).total_seconds() / 60)) if each.end else None,
        }
        for each in found
        if each.id in deals
    ]


def gone(since, until, after):
    """Opportunities that were deleted for good."""
    query = Gone.objects.all() if since is None else Gone.objects.filter(at__gte=since)
    found, then = page_of(query, after, key="deal_id")
    return {"gone": [{"deal_id": str(each.deal_id)} for each in found]}, then


def changed(query, since):
    """Those of the entities that were written to since a moment."""
    return query if since is None else query.filter(modified__gte=since)


def text(value):
    """A value as text; None stays."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


PAGES = {
    each.__name__: each for each in (phases, users, organisations, persons, opportunities, contacts, activities, gone)
}
"""What can be asked for, in the order in which a sync asks."""


def counted():
    """Rows there are for each of dealcast's tables."""
    links = Relation.objects.filter(
        type__in=ACTIVITY_TIES, subject_entity__in=get_opportunity_model().objects.values("id")
    )
    return {
        "deals": get_opportunity_model().objects.count(),
        "accounts": get_organisation_model().objects.count(),
        "users": get_user_model().objects.count(),
        "activities": CremeEntity.objects.filter(id__in=links.values("object_entity")).count(),
        "deal_contacts": Relation.objects.filter(type=ties.REL_SUB_LINKED_CONTACT).count(),
        "stages": SalesPhase.objects.count(),
    }
