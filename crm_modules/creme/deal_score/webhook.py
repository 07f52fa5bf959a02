"""Tells dealcast what changed: noted with the line in Creme's history, sent after it, kept until dealcast has it.

A note is written in the transaction of the change, so there is one for every change that was committed and none for
another. It goes once dealcast has accepted what it says. Whoever is killed in between tells it again, which dealcast
knows for a duplicate.

Licence: AGPL-3.0-or-later.
"""

import hashlib
import json
import logging
import threading
import urllib.request

from creme.activities import get_activity_model
from creme.creme_core.models import HistoryLine
from creme.creme_core.models import history as kinds
from creme.opportunities import get_opportunity_model
from creme.opportunities.constants import REL_SUB_TARGETS
from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.db import close_old_connections
from django.db.models.signals import post_delete, post_save
from django.db.transaction import on_commit
from django.utils.timezone import now

from deal_score.lives import TOLD_BY, Words, read_lives
from deal_score.models import Change, Gone
from deal_score.rows import activity_rows, happened

AT_ONCE = 50
"""Lines sent in one call; each is a dozen events at most, and dealcast takes 1000."""
TIMEOUT_SECONDS = 10
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1, 60

logger = logging.getLogger(__name__)


def listen():
    """Hear of every line that the history gets, and of opportunities that are deleted for good."""
    post_save.connect(note, sender=HistoryLine, dispatch_uid="deal_score-note")
    post_delete.connect(note_gone, sender=get_opportunity_model(), dispatch_uid="deal_score-gone")


def note(sender, instance, **_others):
    """Write down that a line is to be told, and wake the sender once this is committed."""
    if instance.entity_id is not None and service() and is_to_be_told(instance):
        Change.objects.get_or_create(line=instance)
        on_commit(wake)


def note_gone(sender, instance, **_others):
    """Remember an opportunity that is no more: Creme's own history forgets which one it was."""
    Gone.objects.get_or_create(deal_id=instance.pk or instance.cremeentity_ptr_id)


def is_to_be_told(line):
    """Whether a line is of an opportunity's fields or account, or of an activity."""
    if line.entity_ctype_id == ContentType.objects.get_for_model(get_activity_model()).id:
        return line.type in (kinds.TYPE_CREATION, kinds.TYPE_EDITION, kinds.TYPE_SYM_RELATION)
    if line.entity_ctype_id != ContentType.objects.get_for_model(get_opportunity_model()).id:
        return False
    return line.type in TOLD_BY or (line.type == kinds.TYPE_RELATION and names_the_target(line))


def names_the_target(line):
    """Whether a line of a relation is that of the account; it is saved once before it says what it is of."""
    return REL_SUB_TARGETS in json.loads(line.value)[2:]


# -- telling -----------------------------------------------------------------------------------------------------------


def events_of(line):
    """The events of one line; none if the record is no more, or dealcast does not want to know."""
    if line.entity_id is None:
        return []
    if line.entity_ctype_id == ContentType.objects.get_for_model(get_activity_model()).id:
        rows = activity_rows(list(happened(now()).filter(id=line.entity_id)))
        return [event(line, "activities", row) for row in rows]
    deals = list(get_opportunity_model().objects.filter(id=line.entity_id))
    for life in read_lives(deals, Words()):
        return deal_events(line, life.upto(line.id))
    return []


def deal_events(line, life):
    """What a line changed, and the row of the opportunity where it is its birth, an ending, a beginning anew."""
    events = [event(line, "deal_history", row, row["field"]) for state, row in life.changes() if state.line == line]
    last, *before = reversed(life.states)
    is_head = not before or line.type in (kinds.TYPE_TRASH, kinds.TYPE_RELATION)
    if is_head or life.words.is_closed(last.values) != life.words.is_closed(before[0].values):
        events.insert(0, event(line, "deals", life.row()))
    return events


def event(line, table, row, *parts):
    """An event. Its id says which line it tells of, and how: the same words a second time are a duplicate."""
    words = hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:12]
    return {"event_id": ":".join(["creme", f"line-{line.id}", table, *parts, words]), "table": table, "row": row}


def service():
    """Address and key of dealcast; None unless the settings have both."""
    url, key = (getattr(settings, name, "") for name in ("DEAL_SCORE_URL", "DEAL_SCORE_KEY"))
    return (url.rstrip("/"), key) if url and key else None


def post(document):
    """Send a document to dealcast; its answer."""
    url, key = service()
    body = json.dumps(document).encode()
    headers = {"content-type": "application/json", "x-api-key": key}
    request = urllib.request.Request(f"{url}/v1/events", body, headers, method="POST")
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        return json.load(answer)


def send_some():
    """Send the oldest lines that wait; whether there were any. No transaction is open while dealcast answers."""
    told, kept = {}, {}
    for change in Change.objects.filter(refused="").select_related("line").order_by("line")[:AT_ONCE]:
        try:
            told[change.line_id] = events_of(change.line)
        except Exception as failure:  # or it would stand in the way of all that come after it
            logger.exception("line %s of the history cannot be told", change.line_id)
            kept[change.line_id] = str(failure) or type(failure).__name__
    if not told and not kept:
        return False
    events = [each for group in told.values() for each in group]
    refused = refusals(post({"events": events})["results"]) if events else {}
    for number, group in told.items():
        if reasons := [refused[each["event_id"]] for each in group if each["event_id"] in refused]:
            kept[number] = "\n".join(reasons)
    Change.objects.filter(line__in=[number for number in told if number not in kept]).delete()
    for number, reason in kept.items():
        logger.warning("line %s of the history was not taken: %s", number, reason)
        Change.objects.filter(line=number).update(refused=reason)
    return True


def refusals(results):
    """Why dealcast refused events, by their ids."""
    return {
        result["event_id"]: "; ".join(f"{each['where']} {each['value']}: {each['rule']}" for each in result["details"])
        for result in results
        if result["status"] == "refused"
    }


# -- the thread that sends ---------------------------------------------------------------------------------------------

_woken, _lock = threading.Event(), threading.Lock()
_sender = None


def wake(*, again=False):
    """Something was noted, or (`again`) dealcast was heard of: send, those refused before too. Returns at once."""
    global _sender
    if not service():
        return
    if again:
        Change.objects.exclude(refused="").update(refused="")
    with _lock:
        _woken.set()
        if _sender is None:
            _sender = threading.Thread(target=run, name="deal_score", daemon=True)
            _sender.start()


def run():
    """Send until nothing is left; after a failure wait, twice as long each time, or for the next change."""
    global _sender
    pause = FIRST_PAUSE_SECONDS
    while True:
        _woken.clear()
        try:
            while send_some():
                pause = FIRST_PAUSE_SECONDS
        except Exception as failure:  # whatever it is, the changes are kept and the users go on
            logger.warning("dealcast was not told yet: %s", failure)
            close_old_connections()
            _woken.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            continue
        with _lock:
            if not _woken.is_set():
                close_old_connections()
                _sender = None
                return
