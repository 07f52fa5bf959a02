"""Tells dealcast what changed: noted in the user's own transaction, sent after it, kept until dealcast has it.

A note is written with the change itself, so there is one for every change that was committed and none for another. It
goes once dealcast has accepted what it says. Whoever is killed in between tells it again, which dealcast knows for a
duplicate.

Licence: GPL-3.0-or-later.
"""

import json
import logging
import threading
import urllib.request

from trytond import config
from trytond.model import ModelSQL, ModelView, fields
from trytond.pool import Pool, PoolMeta
from trytond.transaction import Transaction, without_check_access

from deal_score.changes import ACTIVITY, OPPORTUNITY, events_of

AT_ONCE = 80
"""Changes sent in one call; each is a dozen events at most, and dealcast takes 1000."""
TIMEOUT_SECONDS = 10
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1, 60

logger = logging.getLogger(__name__)


class Change(ModelSQL, ModelView):
    """A change that dealcast has not taken yet."""

    __name__ = "deal_score.change"
    model = fields.Char("Model", required=True)
    record = fields.Integer("Record", required=True)
    at = fields.Timestamp("At", help="When it was written, in UTC; empty for a deletion.")
    refused = fields.Text("Refused Because", help="What dealcast said; tried again by the scheduled action.")

    @classmethod
    def note(cls, mode, records):
        """Write down that records changed, and wake the sender once this is committed."""
        if not service():
            return
        transaction = Transaction()
        only = config.getint("deal_score", "company", default=0)
        notes = []
        for record in records:
            opportunity = record if record.__name__ == OPPORTUNITY else record.opportunity
            if not only or opportunity.company.id == only:
                at = None if mode == "delete" else record.write_date or record.create_date
                notes.append({"model": record.__name__, "record": record.id, "at": at})
        if notes:
            with transaction.set_user(0), without_check_access():
                cls.create(notes)
            transaction.atexit(Sender.wake, transaction.database.name)

    @classmethod
    def sweep(cls):
        """Send what is left, of old calls and of refused ones too: the scheduled action."""
        cls.write(cls.search([("refused", "!=", None)]), {"refused": None})
        Transaction().atexit(Sender.wake, Transaction().database.name)

    @classmethod
    def waiting(cls):
        """The events of the oldest changes to send, by the change's id; of one that cannot be told, why not."""
        told, untold = {}, {}
        for change in cls.search([("refused", "=", None)], limit=AT_ONCE, order=[("id", "ASC")]):
            try:
                told[change.id] = events_of(change.model, change.record, change.at)
            except Exception as failure:  # or it would stand in the way of all that come after it
                logger.exception("%s %s cannot be told", change.model, change.record)
                untold[change.id] = str(failure) or type(failure).__name__
        return told, untold

    @classmethod
    def settle(cls, taken, refused):
        """Forget what was taken; keep what was not, with the reason. Another process may have done so already."""
        table = cls.__table__()
        cursor = Transaction().connection.cursor()
        if taken:
            cursor.execute(*table.delete(where=table.id.in_(taken)))
        for number, reason in refused.items():
            cursor.execute(*table.update([table.refused], [reason], where=table.id == number))


class Opportunity(metaclass=PoolMeta):
    """The opportunity, whose changes are told."""

    __name__ = OPPORTUNITY

    @classmethod
    def on_modification(cls, mode, opportunities, field_names=None):
        """Note it; a write that could not be noted is not made, so nothing is lost."""
        super().on_modification(mode, opportunities, field_names=field_names)
        Pool().get("deal_score.change").note(mode, opportunities)


class Activity(metaclass=PoolMeta):
    """The activity, whose making and changing is told. What happened stays known: a deletion is not."""

    __name__ = ACTIVITY

    @classmethod
    def on_modification(cls, mode, activities, field_names=None):
        """Note it."""
        super().on_modification(mode, activities, field_names=field_names)
        if mode != "delete":
            Pool().get("deal_score.change").note(mode, activities)


class Cron(metaclass=PoolMeta):
    """Scheduled actions, with ours among them."""

    __name__ = "ir.cron"

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.method.selection.append(("deal_score.change|sweep", "Tell dealcast what it has not taken yet"))


class Sender:
    """Sends what waits in one database: at most one thread each in a process, which ends when nothing is left."""

    _senders = {}
    _lock = threading.Lock()

    def __init__(self, database):
        self.database = database
        self.woken = threading.Event()

    @classmethod
    def wake(cls, database):
        """Something was noted; returns at once."""
        with cls._lock:
            sender = cls._senders.get(database)
            if sender is None:
                sender = cls._senders[database] = cls(database)
                threading.Thread(target=sender.run, name=f"deal_score {database}", daemon=True).start()
            sender.woken.set()

    def run(self):
        """Send until nothing is left; after a failure wait, twice as long each time, or for the next change."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            self.woken.clear()
            try:
                while send_some(self.database):
                    pause = FIRST_PAUSE_SECONDS
            except Exception as failure:  # whatever it is, the changes are kept and the users go on
                logger.warning("dealcast was not told yet: %s", failure)
                self.woken.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                continue
            with self._lock:
                if not self.woken.is_set():
                    del self._senders[self.database]
                    return


def send_some(database):
    """Send the oldest changes that wait; whether there were any. No transaction is open while dealcast answers."""
    with Transaction().start(database, 0, readonly=True):
        told, kept = Pool(database).get("deal_score.change").waiting()
    if not told and not kept:
        return False
    events = [event for group in told.values() for event in group]
    refused = refusals(post({"events": events})["results"]) if events else {}
    for number, group in told.items():
        if reasons := [refused[event["event_id"]] for event in group if event["event_id"] in refused]:
            kept[number] = "\n".join(reasons)
    with Transaction().start(database, 0):
        Pool(database).get("deal_score.change").settle([number for number in told if number not in kept], kept)
    return True


def refusals(results):
    """Why dealcast refused events, by their ids."""
    return {
        result["event_id"]: "; ".join(f"{each['where']} {each['value']}: {each['rule']}" for each in result["details"])
        for result in results
        if result["status"] == "refused"
    }


def service():
    """Address and key of dealcast; None unless trytond.conf has both."""
    url, key = (config.get("deal_score", name, default="") for name in ("url", "key"))
    return (url.rstrip("/"), key) if url and key else None


def post(document):
    """Send a document to dealcast; its answer."""
    url, key = service()
    body = json.dumps(document).encode()
    headers = {"content-type": "application/json", "x-api-key": key}
    request = urllib.request.Request(f"{url}/v1/events", body, headers, method="POST")
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        return json.load(answer)
