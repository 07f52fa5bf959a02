"""Run inside Creme's own process: what people do to opportunities there, each step as one of Creme's forms would.

Reads a list of steps, [name, opportunity, …]; prints the ids of what they made.
"""

import json
import sys
from datetime import timedelta

from creme.activities import constants as kinds
from creme.activities import get_activity_model
from creme.activities.models import ActivitySubType
from creme.creme_core.global_info import set_global_info
from creme.creme_core.models import Relation
from creme.opportunities import get_opportunity_model
from creme.opportunities.models import SalesPhase
from creme.persons import get_organisation_model
from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils.timezone import now

Deal = get_opportunity_model()
ROOT = get_user_model().objects.get(username="root")
OURS = get_organisation_model().objects.filter_managed_by_creme()[0]


def move(deal, phase):
    deal.sales_phase = SalesPhase.objects.get(name=phase)
    deal.save()


def change(deal, amount, name):
    deal.estimated_sales, deal.name = amount, name
    deal.save()


def trash(deal):
    deal.trash()


def restore(deal):
    deal.restore()


def delete(deal):
    deal.delete()


def retarget(deal, customer):
    deal.target = get_organisation_model().objects.get(name=customer)
    deal.save()


def copy(deal):
    new = Deal(user=deal.user, name=f"{deal.name} again", sales_phase=deal.sales_phase)
    new.emitter, new.target = OURS, deal.target
    new.save()
    return new.id


def meet(deal):
    kind = ActivitySubType.objects.get(uuid=kinds.UUID_SUBTYPE_MEETING_MEETING)
    begin = now() - timedelta(hours=1)
    what = {"title": "Offer", "type": kind.type, "sub_type": kind, "start": begin, "end": begin + timedelta(minutes=45)}
    activity = get_activity_model().objects.create(user=ROOT, **what)
    link = {"subject_entity": deal, "type_id": kinds.REL_SUB_ACTIVITY_SUBJECT, "object_entity": activity}
    Relation.objects.create(user=ROOT, **link)
    return activity.id


def fail(deal):
    """What is written is rolled back."""
    try:
        with transaction.atomic():
            change(deal, 1, "never")
            raise ValueError
    except ValueError:
        return None


made = []
for name, number, *words in json.load(sys.stdin):
    set_global_info(user=ROOT)
    with transaction.atomic():
        made.append(globals()[name](Deal.objects.get(id=number), *words))
sys.stdout.write(json.dumps(made))
