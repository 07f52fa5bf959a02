"""What dealcast asks of Creme, over HTTP with a token: what is there, pages of it, and a place for scores.

Licence: AGPL-3.0-or-later.
"""

import hmac
import json
from datetime import datetime
from functools import wraps

import creme
from creme.creme_core.models import Currency, HistoryLine
from creme.opportunities import get_opportunity_model
from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.db.models import Min
from django.db.transaction import atomic
from django.http import JsonResponse
from django.utils.timezone import now
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from deal_score import webhook
from deal_score.lives import COLUMNS
from deal_score.models import Score
from deal_score.rows import PAGES, counted


def for_dealcast(view):
    """A view that takes a JSON document by POST and gives one, for whoever has the token and nobody else."""

    @csrf_exempt
    @require_POST
    @wraps(view)
    def guarded(request, **parts):
        token = getattr(settings, "DEAL_SCORE_TOKEN", "")
        given = request.headers.get("Authorization", "")
        if not token or not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return JsonResponse({"error": "the token is not DEAL_SCORE_TOKEN of Creme's settings"}, status=401)
        return JsonResponse(view(json.loads(request.body or b"{}"), **parts))

    return guarded


@for_dealcast
def about(asked):
    """What is there, and what time it is here."""
    webhook.wake(again=True)  # whatever dealcast has not taken yet: now it is there
    deals = ContentType.objects.get_for_model(get_opportunity_model())
    oldest = HistoryLine.objects.filter(entity_ctype=deals).aggregate(oldest=Min("date"))["oldest"]
    return {
        "system": f"Creme {creme.__version__}",
        "now": now().isoformat(),
        "base_currency": Currency.objects.default().international_symbol,
        "time_zone": settings.TIME_ZONE,
        "pages": list(PAGES),
        "fields": list(COLUMNS),
        "tables": counted(),
        "history_since": oldest.isoformat() if oldest else None,
    }


@for_dealcast
def page(asked, name):
    """A page of what is asked for: `since` (null: everything), `until`, and `after`, what the page before said."""
    since = asked.get("since")
    start = datetime.fromisoformat(since) if since else None
    tables, then = PAGES[name](start, datetime.fromisoformat(asked["until"]), asked.get("after") or 0)
    return {"tables": tables, "next": then}


@for_dealcast
def scores(asked):
    """Take scores, each replacing the one of its opportunity; tells of those it does not take, why."""
    refused = {}
    with atomic():
        there = {
            str(number)
            for number in get_opportunity_model()
            .objects.filter(id__in=[each["deal_id"] for each in asked["scores"] if each["deal_id"].isdigit()])
            .values_list("id", flat=True)
        }
        for score in asked["scores"]:
            values = {name: value for name, value in score.items() if name != "deal_id"}
            if score["deal_id"] not in there:
                refused[score["deal_id"]] = "no such opportunity"
            elif not 0 <= score["probability"] <= 1:
                refused[score["deal_id"]] = "a probability is 0 to 1"
            else:
                values["as_of"] = datetime.fromisoformat(values["as_of"])
                Score.objects.update_or_create(deal_id=int(score["deal_id"]), defaults=values)
    return {"refused": refused}


@for_dealcast
def withdraw(asked):
    """Take scores away again, whether there are any or not."""
    numbers = [each for each in asked["deals"] if each.isdigit()]
    return {"withdrawn": Score.objects.filter(deal_id__in=numbers).delete()[0]}
