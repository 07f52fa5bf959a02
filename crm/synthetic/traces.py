"""What deals leave behind beside their fields: activities, the buyer's people, and the calls made for the quarter."""

import numpy as np

from crm.synthetic.config import CATEGORIES
from crm.synthetic.deals import OPEN, WON, typical_quarter
from crm.synthetic.journal import Workday
from crm.synthetic.law import DayEvents

ACTIVITY_TYPES = ("email", "call", "meeting", "task")
CONTACT_ROLES = ("user", "champion", "decision maker", "procurement", "legal")
CONTACTS_PER_ACCOUNT = 8

_EMAIL, _CALL, _MEETING, _TASK = range(len(ACTIVITY_TYPES))
_OUTBOUND, _INBOUND, _NEITHER = 0, 1, -1
_DECISION_MAKER = CONTACT_ROLES.index("decision maker")
# Of a cumulative call: its category, the share counted of its deals due this quarter, and the share of a typical
# quarter that is hoped for on top, by the time left.
_CALLED = (("commit", 0.65, 0.45), ("most_likely", 0.35, 0.2), ("best_case", 0.25, 0.2))


def log_activities(today: Workday, happened: DayEvents) -> None:
    """Emails, calls and meetings: theirs tell of momentum, ours of the rep's effort; a zombie answers nobody."""
    rows = today.deals
    working = rows["status"] == OPEN
    working[happened.won] = working[happened.lost] = True
    working[happened.created] = False
    deal = np.flatnonzero(working)
    momentum, dead = rows["momentum"][deal], rows["dead"][deal]
    busy = 1.25 if today.quarter[1] - today.day <= 14 else 1.0
    ours = 0.17 * busy * np.exp(0.2 * momentum + today.company.effort[rows["owner"][deal]]) * np.where(dead, 0.35, 1.0)
    theirs = 0.15 * np.exp(1.0 * momentum) * np.where(dead, 0.08, 1.0)
    meetings = 0.045 * np.exp(0.6 * momentum) * (1 + (rows["stage"][deal] > 1)) * np.where(dead, 0.1, 1.0)
    for rate, types, direction in (
        (ours, (_EMAIL, _EMAIL, _EMAIL, _CALL, _TASK), _OUTBOUND),
        (theirs, (_EMAIL, _EMAIL, _EMAIL, _CALL), _INBOUND),
        (meetings, (_MEETING,), _NEITHER),
    ):
        _log(today, deal.repeat(today.rng.poisson(rate)), np.array(types, np.int8), direction)


def _log(today: Workday, deal: np.ndarray, types: np.ndarray, direction: int) -> None:
    """One activity per entry of `deal`; what a rep does before the mailbox is connected stays unknown."""
    rng, seen, n = today.rng, today.seen, len(deal)
    at, kind = today.hours(8.5, 17.5, n), rng.choice(types, n)
    minutes = np.select([kind == _MEETING, kind == _CALL], [rng.choice([30, 45, 60, 90], n), rng.integers(2, 40, n)], 0)
    delay_seconds = rng.integers(1, 10 * 86_400, n) * (rng.random(n) < 0.1)
    contact = (rng.random(n) * seen["contacts"][deal]).astype(int)
    user = today.deals["owner"][deal].astype(np.int32)
    columns = {
        "deal": deal,
        "at": at,
        "delay": delay_seconds * 1_000_000,
        "type": kind,
        "direction": np.full(n, direction, np.int8),
        "user": user,
        "contact": seen["account"][deal] * CONTACTS_PER_ACCOUNT + contact,
        "minutes": minutes.astype(float),
    }
    known = today.company.mailbox_day[user] <= today.day
    today.journal.append("activities", **{name: values[known] for name, values in columns.items()})


def meet_contacts(today: Workday) -> None:
    """Further people of the buyer join where there is momentum."""
    rows = today.deals
    deal = np.flatnonzero((rows["status"] == OPEN) & (today.seen["contacts"] < CONTACTS_PER_ACCOUNT) & ~rows["dead"])
    deal = deal[today.rng.random(len(deal)) < 0.014 * np.exp(0.5 * rows["momentum"][deal])]
    add_contacts(today, deal, today.hours(13.0, 17.0, len(deal)))


def add_contacts(today: Workday, deal: np.ndarray, at: np.ndarray) -> None:
    """The account's next person on each deal; deciders show up where the offer fits."""
    n = len(deal)
    decides = today.rng.random(n) < 1 / (1 + np.exp(1.2 - 1.0 * today.deals["fit"][deal]))
    role = np.where(decides, _DECISION_MAKER, today.rng.choice([0, 0, 1, 3, 4], n)).astype(np.int8)
    contact = today.seen["account"][deal] * CONTACTS_PER_ACCOUNT + today.seen["contacts"][deal]
    today.journal.append("contacts", deal=deal, at=at, contact=contact, role=role)
    today.seen["contacts"][deal] += 1


def submit_calls(today: Workday) -> None:
    """Reps, managers and directors call the quarter on Friday afternoon, the executive on Monday before nine."""
    company, weekday = today.company, (today.day + 3) % 7
    if weekday not in (0, 4):
        return
    won, expected = _expected_by_rep(today)
    for person, who in enumerate(company.people):
        is_rep, is_executive = person < company.config.n_reps, who.manager < 0
        if is_executive != (weekday == 0) or who.hired_day > today.day:
            continue
        reps = company.reps_under(person, today.day)
        mood = company.call_bias[person] + today.rng.normal(0.0, 0.15 if is_rep else 0.08)
        first, last = (8.0, 8.5) if is_executive else (15.0, 16.4) if is_rep else (16.5, 17.4)
        today.journal.append(
            "calls",
            person=np.full(len(_CALLED), person),
            period_start=today.quarter[0],
            at=today.hours(first, last, 1)[0],
            category=np.array([CATEGORIES.index(category) for category, _, _ in _CALLED]),
            amount=np.round(won[reps].sum() + expected[reps].sum(axis=0) * np.exp(mood), -2),
        )


def _expected_by_rep(today: Workday) -> tuple[np.ndarray, np.ndarray]:
    """(reps,) won this quarter, and (reps, categories) what more is expected, cumulative; in base currency."""
    rows, seen, company, (start, end) = today.deals, today.seen, today.company, today.quarter
    n_reps, rate = company.config.n_reps, company.rate(start)[rows["currency"]]
    booked = (rows["status"] == WON) & (rows["closed_day"] >= start)
    won = np.bincount(rows["owner"][booked], (rows["amount"] * rate)[booked], n_reps)
    due = (rows["status"] == OPEN) & (seen["close_date"] < end)
    shown = np.nan_to_num(seen["amount"]) * rate
    to_come = (end - today.day) / (end - start) * typical_quarter(company)
    expected = []
    for category, counted, hoped in _CALLED:
        chosen = due & (seen["category"] == CATEGORIES.index(category))
        expected.append(counted * np.bincount(rows["owner"][chosen], shown[chosen], n_reps) + hoped * to_come)
    return won, np.cumsum(np.stack(expected, axis=1), axis=1)
