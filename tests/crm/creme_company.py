"""Run inside Creme's own process: enters a company's worth of opportunities through its models, dated back.

Creme has no interface for machines to enter anything. Reads {"count", "now", "seed"}; prints what stood in each
opportunity after each write, as [deal, moment, field, value].
"""

import json
import random
import sys
from datetime import datetime, timedelta

from creme.activities import constants as kinds
from creme.activities import get_activity_model
from creme.activities.models import ActivitySubType
from creme.creme_core.global_info import set_global_info
from creme.creme_core.models import CremeEntity, HistoryLine, Relation, UserRole
from creme.opportunities import constants as ties
from creme.opportunities import get_opportunity_model
from creme.opportunities.models import Origin, SalesPhase
from creme.persons import get_contact_model, get_organisation_model
from django.contrib.auth import get_user_model
from django.db import transaction

Deal, Activity = get_opportunity_model(), get_activity_model()
asked = json.load(sys.stdin)
chance, NOW = random.Random(asked["seed"]), datetime.fromisoformat(asked["now"])

SalesPhase.objects.filter(name="Abandoned").update(lost=True)
OPEN = list(SalesPhase.objects.filter(won=False, lost=False).order_by("order"))
WON, LOST = SalesPhase.objects.get(won=True), SalesPhase.objects.filter(lost=True).order_by("order").last()
ORIGINS = list(Origin.objects.order_by("id"))
CALL = ActivitySubType.objects.get(uuid=kinds.UUID_SUBTYPE_PHONECALL_OUTGOING)
MEETING = ActivitySubType.objects.get(uuid=kinds.UUID_SUBTYPE_MEETING_MEETING)
TOLD = []
ROOT = get_user_model().objects.get(username="root")


def dated(entity, at, *, born):
    """What was just written of an entity was written then."""
    if born:
        CremeEntity.objects.filter(id=entity.id).update(created=at)
        Relation.objects.filter(subject_entity=entity.id).update(created=at)
        Relation.objects.filter(object_entity=entity.id).update(created=at)
    CremeEntity.objects.filter(id=entity.id).update(modified=at)
    HistoryLine.objects.filter(entity=entity.id, date__gt=NOW).update(date=at)


def found():
    """Sellers, customers, and who is asked there."""
    role = UserRole.objects.first()
    names = [(f"seller{n}", "Sally", f"Seller {n}") for n in range(4)]
    sellers = [
        get_user_model().objects.create_user(login, first, last, f"{login}@example.com", role=role)
        for login, first, last in names
    ]
    ours = get_organisation_model().objects.filter_managed_by_creme()[0]
    customers = [get_organisation_model().objects.create(user=ROOT, name=f"Customer {n}") for n in range(25)]
    people = [
        get_contact_model().objects.create(user=ROOT, first_name="Pat", last_name=f"Buyer {n}") for n in range(25)
    ]
    for entity in (*customers, *people):
        dated(entity, NOW - timedelta(days=800), born=True)
    return sellers, ours, customers, people


def live(number, sellers, ours, customers, people):
    """One opportunity from its birth to now."""
    at = NOW - timedelta(days=730) * chance.random() - timedelta(hours=2)
    deal = Deal(user=chance.choice(sellers), name=f"Deal {number}, Größe {chance.randint(1, 9)}", sales_phase=OPEN[0])
    deal.estimated_sales, deal.origin = round(chance.lognormvariate(9, 0.8)), chance.choice(ORIGINS)
    deal.expected_closing_date = at.date() + timedelta(days=chance.randint(20, 120))
    deal.emitter, deal.target = ours, customers[number % 25]
    set_global_info(user=deal.user)
    deal.save()
    link(people[number % 25], ties.REL_SUB_LINKED_CONTACT, deal)
    dated(deal, at, born=True)
    tell(deal, at)
    writes = list(planned(at, deal.estimated_sales, deal.expected_closing_date))
    ends_at, ending = writes[-1]
    talk(deal, at, until=min(ends_at, NOW - timedelta(hours=1)), is_lively=ending["sales_phase"] == WON)
    for when, values in writes:
        if when < NOW - timedelta(hours=1):
            fresh = Deal.objects.get(id=deal.id)  # Creme keeps one line for all that happens to one object
            for name, value in values.items():
                setattr(fresh, name, value)
            fresh.save()
            dated(fresh, when, born=False)
            tell(fresh, when)


def planned(at, amount, close_on):
    """What is written of an opportunity, and when. Small ones that are rarely put off tend to be won."""
    pushes = 0
    for step in (*OPEN[1:], None):
        while chance.random() < 0.35:
            at += timedelta(days=chance.expovariate(1 / 9))
            if chance.random() < 0.6:
                pushes, close_on = pushes + 1, close_on + timedelta(days=14)
                yield at, {"expected_closing_date": close_on}
            else:
                yield at, {"estimated_sales": round(amount * chance.uniform(0.6, 1.5))}
        at += timedelta(days=chance.expovariate(1 / 25))
        if step is not None:
            yield at, {"sales_phase": step}
        elif chance.random() < 0.85 - 0.2 * pushes - 0.25 * (amount > 9_000):
            yield at, {"sales_phase": WON, "made_sales": round(amount * 0.95), "closing_date": at.date()}
        else:
            yield at, {"sales_phase": LOST}


def link(subject, kind, entity):
    """A relation of Creme's."""
    Relation.objects.create(user=ROOT, subject_entity=subject, type_id=kind, object_entity=entity)


def tell(deal, at):
    """What now stands in an opportunity, for the test to hold against what is synced."""
    amount = deal.made_sales if deal.sales_phase.won else deal.estimated_sales
    values = {"stage": deal.sales_phase.name, "amount": amount, "close_date": deal.expected_closing_date}
    TOLD.extend([str(deal.id), at.isoformat(), field, str(value)] for field, value in values.items())


def talk(deal, at, *, until, is_lively):
    """Calls and meetings while an opportunity is open; more of them where it is going to be won."""
    while (at := at + timedelta(days=chance.expovariate(1 / (9 if is_lively else 25)))) < until:
        kind = chance.choice([CALL, MEETING])
        what = {"title": "Offer", "type": kind.type, "sub_type": kind}
        activity = Activity.objects.create(user=deal.user, start=at, end=at + timedelta(minutes=30), **what)
        link(deal, kinds.REL_SUB_ACTIVITY_SUBJECT, activity)
        dated(activity, at, born=True)
        HistoryLine.objects.filter(entity=deal.id, date__gt=NOW).update(date=at)


with transaction.atomic():
    known = found()
    for number in range(asked["count"]):
        live(number, *known)
sys.stdout.write(json.dumps(TOLD))
