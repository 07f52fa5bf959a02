"""Opportunities through their past, which Creme keeps as a log: a state at every line, and the changes between.

A line tells what a field was and became. Walking back from what stands now gives every earlier state, the first too.

Licence: AGPL-3.0-or-later.
"""

from collections import defaultdict
from dataclasses import dataclass

from creme.creme_core.models import Currency, HistoryLine, Relation
from creme.creme_core.models import history as kinds
from creme.opportunities.constants import REL_SUB_TARGETS
from creme.opportunities.models import Origin, SalesPhase
from django.contrib.auth import get_user_model

FIELDS = (
    "name",
    "reference",
    "estimated_sales",
    "made_sales",
    "currency_id",
    "sales_phase_id",
    "chance_to_win",
    "expected_closing_date",
    "closing_date",
    "first_action_date",
    "origin_id",
    "user_id",
    "is_deleted",
)
COLUMNS = (
    "stage",
    "name",
    "owner_id",
    "currency",
    "amount",
    "close_date",
    "lead_source",
    "reference",
    "chance_to_win",
    "first_action_date",
)
"""What is told of an opportunity, and has a past."""

TOLD_BY = (kinds.TYPE_CREATION, kinds.TYPE_EDITION, kinds.TYPE_TRASH)


class Words:
    """What the numbers in opportunities and their log stand for, as it is called now."""

    def __init__(self):
        self.phases = SalesPhase.objects.in_bulk()
        self.origins = dict(Origin.objects.values_list("id", "name"))
        self.currencies = dict(Currency.objects.values_list("id", "international_symbol"))
        self.users = dict(get_user_model().objects.values_list("username", "id"))

    def is_closed(self, values):
        """Whether the phase is one of those that won or lost."""
        phase = self.phases.get(values["sales_phase_id"])
        return phase is not None and (phase.won or phase.lost)

    def told(self, values):
        """The fields of a state as dealcast knows them, all of them text.

        The amount is what was made of it once it is won and that is known. A phase that is no more has a number alone.
        """
        phase = self.phases.get(values["sales_phase_id"])
        made = values["made_sales"] if phase is not None and phase.won else None
        told = {
            **values,
            "stage": phase.name if phase else f"phase {values['sales_phase_id']}",
            "owner_id": values["user_id"],
            "currency": self.currencies.get(values["currency_id"]),
            "amount": values["estimated_sales"] if made is None else made,
            "close_date": values["expected_closing_date"],
            "lead_source": self.origins.get(values["origin_id"]),
        }
        return {name: None if told[name] in (None, "") else str(told[name]) for name in COLUMNS}


@dataclass(frozen=True)
class State:
    """An opportunity from a moment on: the line that tells so (None: it never told of its birth), and its fields."""

    at: object
    line: object
    values: dict


@dataclass(frozen=True)
class Life:
    """One opportunity through its states, the oldest first, and the account it is for now."""

    deal: object
    states: list
    account_id: int | None
    words: Words

    def row(self):
        """The opportunity as it stands at its last state."""
        last = self.states[-1].values
        closed_at = self._since(self.words.is_closed)
        return {
            "deal_id": str(self.deal.id),
            "created_at": self.deal.created.isoformat(),
            **self.words.told(last),
            "account_id": None if self.account_id is None else str(self.account_id),
            "closed_at": closed_at,
            "booked_on": last["closing_date"] if closed_at else None,
            "deleted_at": self._since(lambda values: values["is_deleted"]),
        }

    def changes(self):
        """For each state, the rows of what changed; of the first one, its values."""
        before = None
        for state in self.states:
            after = self.words.told(state.values)
            by = self.words.users.get(state.line.username) if state.line else None
            for field, new in after.items():
                old = before[field] if before else None
                if old != new:
                    yield (
                        state,
                        {
                            "deal_id": str(self.deal.id),
                            "changed_at": state.at.isoformat(),
                            "field": field,
                            "old_value": old,
                            "new_value": new,
                            "changed_by": None if by is None else str(by),
                        },
                    )
            before = after

    def upto(self, line_id):
        """The life as it was when a line was written."""
        known = [state for state in self.states if state.line is None or state.line.id <= line_id]
        return Life(self.deal, known, self.account_id, self.words)

    def _since(self, holds):
        """Since when something holds without a break; None if it does not."""
        since = None
        for state in self.states:
            since = (since or state.at) if holds(state.values) else None
        return since.isoformat() if since else None


def read_lives(deals, words, *, until=None):
    """The lives of opportunities up to a moment (None: now).

    The lines are read after the opportunities: one that came in between is walked back although it does not show yet.
    """
    ids = [deal.id for deal in deals]
    lines = defaultdict(list)
    for line in HistoryLine.objects.filter(entity__in=ids, type__in=TOLD_BY).order_by("date", "id"):
        lines[line.entity_id].append(line)
    targets = Relation.objects.filter(type=REL_SUB_TARGETS, subject_entity__in=ids).order_by("id")
    accounts = dict(targets.values_list("subject_entity_id", "object_entity_id"))
    for deal in deals:
        states = [state for state in states_of(deal, lines[deal.id]) if until is None or state.at <= until]
        if states:
            yield Life(deal, states, accounts.get(deal.id), words)


def states_of(deal, lines):
    """Every state of an opportunity, the oldest first."""
    values = {name: plain(getattr(deal, name)) for name in FIELDS}
    birth, states = None, []
    for line in reversed(lines):
        if line.type == kinds.TYPE_CREATION:
            birth = line
            continue
        states.append(State(line.date, line, values))
        values = undone(line, values)
    return [State(deal.created, birth, values), *reversed(states)]


def undone(line, values):
    """What the fields were before a line."""
    if line.type == kinds.TYPE_TRASH:
        return {**values, "is_deleted": not line.modifications[0]}
    # [field, new] where there was nothing before, else [field, old, new].
    before = {each[0]: each[1] if len(each) == 3 else None for each in line.modifications if len(each) > 1}
    return {name: before.get(name, value) for name, value in values.items()}


def plain(value):
    """A value as the log has it: days as text."""
    return value.isoformat() if hasattr(value, "isoformat") else value
