"""A change in Tryton as events of dealcast: told from Tryton's own history, so that telling it again says the same.

Licence: GPL-3.0-or-later.
"""

import datetime

from trytond.pool import Pool
from trytond.transaction import Transaction

from deal_score.stage import CLOSED

OPPORTUNITY, ACTIVITY = "sale.opportunity", "sale.opportunity.activity"
INSTANT = datetime.timedelta(microseconds=1)


def events_of(model, record_id, at):
    """The events of one revision of a record; none if another of the same instant told them, or nothing is told of it.

    Parameters
    ----------
    at : when it was written, as its `write_date` has it; None for a deletion.
    """
    if at is None:
        return deletion(record_id) if model == OPPORTUNITY else []
    after = state_at(model, record_id, at)
    if after is None:
        return []
    if model == ACTIVITY:
        return [event(f"activity-{record_id}", at, "activities", activity(after))]
    born = after.create_date == at
    before = None if born else state_at(model, record_id, at - INSTANT)
    old, new = (fields_of(before) if before else {}), fields_of(after)
    rows = [
        event(f"deal-{record_id}", at, "deal_history", change(after, at, name, old.get(name), value), name)
        for name, value in new.items()
        if old.get(name) != value
    ]
    was_closed, is_closed = (one is not None and one.state in CLOSED for one in (before, after))
    if born or was_closed != is_closed:
        head = {"deal_id": str(record_id), "created_at": instant(after.create_date), "stage": new["stage"]}
        closed_at = instant(at) if is_closed else None
        rows.insert(0, event(f"deal-{record_id}", at, "deals", {**head, **new, "closed_at": closed_at}))
    return rows


def event(name, at, table, row, *parts):
    """An event. Its id says which revision of which record it tells of, so that a second telling is a duplicate."""
    database = Transaction().database.name
    return {"event_id": ":".join([database, name, instant(at), table, *parts]), "table": table, "row": row}


def state_at(model, record_id, moment):
    """The record as it stood; None if it did not exist, or does no more."""
    with Transaction().set_context(_datetime=moment):
        found = Pool().get(model).search([("id", "=", record_id)], limit=1)
        if found and found[0].create_date:
            return found[0]
    return None


def fields_of(opportunity):
    """What dealcast's connector reads of an opportunity, as text, by the names it has there.

    Not its conversion probability: where scores are written there, each would be told as if a seller had changed it.
    """
    party, employee = opportunity.party, opportunity.employee
    amount = opportunity.amount
    values = {
        "stage": opportunity.stage_told,
        "name": opportunity.description,
        "account_id": party and party.id,
        "owner_id": employee and employee.id,
        "currency": opportunity.currency.code,
        "amount": amount,
        "close_date": opportunity.end_date,
        "loss_reason": opportunity.lost_reason if opportunity.state == "lost" else None,
        "start_date": opportunity.start_date,
    }
    return {name: None if value in (None, "") else str(value) for name, value in values.items()}


def change(opportunity, at, field, old, new):
    """A row of deal_history."""
    user = opportunity.write_uid or opportunity.create_uid
    employee = user and user.employee
    return {
        "deal_id": str(opportunity.id),
        "changed_at": instant(at),
        "field": field,
        "old_value": old,
        "new_value": new,
        "changed_by": str(employee.id) if employee else None,
    }


def activity(record):
    """A row of activities."""
    party = record.opportunity.party
    return {
        "activity_id": str(record.id),
        "occurred_at": instant(record.occurred_at),
        "deal_id": str(record.opportunity.id),
        "account_id": str(party.id) if party else None,
        "user_id": str(record.employee.id) if record.employee else None,
        "type": record.type,
        "direction": record.direction,
        "logged_at": instant(record.create_date),
        "duration_minutes": record.duration,
    }


def deletion(record_id):
    """The event that an opportunity is gone, dated by the tombstone that Tryton's history has of it."""
    revisions = Pool().get(OPPORTUNITY).history_revisions([record_id])
    if not revisions:
        return []
    at = revisions[0][0]
    last = state_at(OPPORTUNITY, record_id, at - INSTANT)
    if last is None:
        return []
    head = {"deal_id": str(record_id), "created_at": instant(last.create_date), "stage": last.stage_told}
    return [event(f"deal-{record_id}", at, "deals", {**head, "deleted_at": instant(at)})]


def instant(at):
    """An instant of Tryton, which are UTC without saying so, in ISO 8601."""
    return at.replace(tzinfo=datetime.UTC).isoformat()
