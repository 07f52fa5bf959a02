"""A company's worth of opportunities, entered through Tryton's own API and then dated back over two years."""

import random
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tryton_here import Tryton

YEARS = timedelta(days=730)
AT_ONCE = 200
STAGES = ("Qualification", "Proposal", "Negotiation")
STAMP = "%Y-%m-%d %H:%M:%S.%f"


@dataclass
class Life:
    """An opportunity: its first values, what was written when, and whether it was deleted at the end."""

    first: dict[str, Any]
    created_at: datetime
    writes: list[tuple[datetime, dict[str, Any]]] = field(default_factory=list)
    is_deleted: bool = False
    activities: list[dict[str, Any]] = field(default_factory=list)
    id: int = 0

    @property
    def stamps(self) -> list[datetime]:
        """When each row of its history was written."""
        return [self.created_at, *(at for at, _ in self.writes)]


def decimal(amount: float) -> dict[str, str]:
    return {"__class__": "Decimal", "decimal": f"{amount:.2f}"}


def day(on: date) -> dict[str, Any]:
    return {"__class__": "date", "year": on.year, "month": on.month, "day": on.day}


def instant(at: datetime) -> dict[str, Any]:
    return {
        **day(at.date()),
        "__class__": "datetime",
        **{name: getattr(at, name) for name in ("hour", "minute", "second", "microsecond")},
    }


def found_company(crm: Tryton) -> dict[str, list[int]]:
    """Currencies with rates, the company, its customers and its sales people; the login works for the company.

    With our module also stages of the company's own.
    """
    rates = [
        {"date": day(date(2020, 1, 1)), "rate": decimal(1.1)},
        {"date": day(date(2025, 6, 1)), "rate": decimal(1.25)},
    ]
    euro, dollar = crm.call(
        "currency.currency.create",
        [
            {"name": "Euro", "code": "EUR", "symbol": "€", "rates": [["create", [{**rates[0], "rate": decimal(1)}]]]},
            {"name": "Dollar", "code": "USD", "symbol": "$", "rates": [["create", rates]]},
        ],
        {},
    )
    names = ["The company", *(f"Seller {n}" for n in range(4)), *(f"Customer {n}" for n in range(25))]
    company_party, *others = crm.call("party.party.create", [{"name": name} for name in names], {})
    company = {"party": company_party, "currency": euro, "timezone": "Europe/Berlin"}
    (company_id,) = crm.call("company.company.create", [company], {})
    sellers = crm.call("company.employee.create", [{"party": p, "company": company_id} for p in others[:4]], {})
    crm.call("company.employee.write", sellers[1:], {"supervisor": sellers[0]}, {})
    mine = {"companies": [["add", [company_id]]], "company": company_id}
    crm.call("res.user.write", [1], {**mine, "employees": [["add", sellers]], "employee": sellers[0]}, {})
    crm.context = crm.call("res.user.get_preferences", True, {})
    stages = []
    if crm.rows("ir.model", ["name"], [["name", "=", "sale.opportunity.stage"]]):
        named = [{"name": name, "sequence": place} for place, name in enumerate(STAGES, start=1)]
        stages = crm.call("sale.opportunity.stage.create", named, {})
    there = {"currencies": [euro, dollar], "customers": others[4:], "sellers": sellers, "company": [company_id]}
    return {**there, "stages": stages}


def invent_lives(there: dict[str, list[int]], count: int, *, now: datetime, seed: int) -> list[Life]:
    """Opportunities over two years up to now. Small ones that are rarely put off tend to be won."""
    chance = random.Random(seed)
    lives = []
    for number in range(count):
        created_at = now - YEARS * chance.random() - timedelta(hours=2)
        seller = chance.choice(there["sellers"])
        amount = chance.lognormvariate(9, 0.8)
        close_on = created_at.date() + timedelta(days=chance.randint(20, 120))
        first = {
            "party": chance.choice(there["customers"]),
            "employee": seller,
            "company": there["company"][0],
            "currency": chance.choice(there["currencies"]),
            "amount": decimal(amount),
            "description": f"Deal {number}, Größe {chance.randint(1, 9)}",
            "end_date": day(close_on),
            "start_date": day(created_at.date()),
        }
        life = Life(first, created_at)
        at, pushes = created_at, 0
        own = [{"stage": stage} for stage in there["stages"]]
        for step in ({"state": "opportunity"}, *own, {"state": "converted"}, None):
            while chance.random() < 0.35:
                at += timedelta(days=chance.expovariate(1 / 9))
                life.writes.append((at, something_else(chance, there, close_on, amount)))
                pushes += "end_date" in life.writes[-1][1]
                close_on += timedelta(days=14 * ("end_date" in life.writes[-1][1]))
            at += timedelta(days=chance.expovariate(1 / 25))
            life.writes.append((at, step or ending(chance, at, amount, pushes)))
        end = life.writes[-1][1]["state"]
        life.writes = [(when, values) for when, values in life.writes if when < now - timedelta(hours=1)]
        life.is_deleted = end == "cancelled" and bool(life.writes) and "cancelled" in life.writes[-1][1].values()
        if life.is_deleted and (gone_at := at + timedelta(days=3)) < now - timedelta(hours=1):
            life.writes.append((gone_at, {}))
        else:
            life.is_deleted = False
        if own:
            life.activities = talk(chance, life, is_lively=end == "won", until=min(at, now - timedelta(hours=1)))
        lives.append(life)
    return lives


def talk(chance: random.Random, life: Life, *, is_lively: bool, until: datetime) -> list[dict[str, Any]]:
    """Calls, meetings and mails while a deal is open; more of them where it is going to be won."""
    talks, at = [], life.created_at
    while (at := at + timedelta(days=chance.expovariate(1 / (9 if is_lively else 25)))) < until:
        kind = chance.choice(["call", "meeting", "email"])
        when = {"occurred_at": instant(at.replace(microsecond=0)), "duration": chance.choice([None, 15, 60])}
        talks.append({"type": kind, "direction": chance.choice(["inbound", "outbound"]), "subject": "Offer", **when})
    return talks


def something_else(chance: random.Random, there: dict[str, list[int]], close_on: date, amount: float) -> dict[str, Any]:
    """A close date put off, another amount, another owner, or a value taken away."""
    return chance.choice(
        [
            {"end_date": day(close_on + timedelta(days=14))},
            {"end_date": day(close_on + timedelta(days=14))},
            {"amount": decimal(amount * chance.uniform(0.6, 1.5))},
            {"employee": chance.choice(there["sellers"])},
            {"conversion_probability": round(chance.random(), 2)},
            {"end_date": None, "description": None},
        ]
    )


def ending(chance: random.Random, at: datetime, amount: float, pushes: int) -> dict[str, Any]:
    """Won, or lost with its reason; losing sets the close date to that day, as Tryton's button does."""
    if chance.random() < 0.85 - 0.2 * pushes - 0.25 * (amount > 9_000):
        return {"state": "won"}
    if chance.random() < 0.2:
        return {"state": "cancelled", "end_date": day(at.date())}
    return {"state": "lost", "end_date": day(at.date()), "lost_reason": 'too dear,\n"they say"'}


def enter(crm: Tryton, lives: list[Life]) -> None:
    """Enter the lives through the API, write by write; their dates come afterwards."""
    for some in chunks(lives):
        numbers = crm.call("sale.opportunity.create", [life.first for life in some], crm.context)
        for life, number in zip(some, numbers, strict=True):
            life.id = number
    for place in range(max(len(life.writes) for life in lives)):
        writing = [life for life in lives if place < len(life.writes) and life.writes[place][1]]
        for some in chunks(writing):
            pairs = [part for life in some for part in ([life.id], life.writes[place][1])]
            crm.call("sale.opportunity.write", *pairs, crm.context)
    talks = [{**each, "opportunity": life.id} for life in lives for each in life.activities]
    for place in range(0, len(talks), 10 * AT_ONCE):
        crm.call("sale.opportunity.activity.create", talks[place : place + 10 * AT_ONCE], crm.context)
    if gone := [life.id for life in lives if life.is_deleted]:
        crm.call("sale.opportunity.delete", gone, crm.context)


def date_back(crm: Tryton, lives: list[Life]) -> None:
    """Give every row of the history its date, while no server runs."""
    connection = crm.sql()
    for life in lives:
        query = "SELECT __id FROM sale_opportunity__history WHERE id = ? ORDER BY __id"
        rows = [number for (number,) in connection.execute(query, [life.id])]
        born = life.created_at.strftime(STAMP)
        for number, at in zip(rows, life.stamps, strict=True):
            written = None if at == life.created_at else at.strftime(STAMP)
            created = "create_date" if life.is_deleted and number == rows[-1] else f"'{born}'"  # a tombstone has none
            update = f"UPDATE sale_opportunity__history SET create_date = {created}, write_date = ? WHERE __id = ?"
            connection.execute(update, [written, number])
        last = None if len(life.stamps) == 1 else life.stamps[-1].strftime(STAMP)
        connection.execute("UPDATE sale_opportunity SET create_date=?, write_date=? WHERE id=?", [born, last, life.id])
    if any(life.activities for life in lives):  # entered when they happened
        for table in ("sale_opportunity_activity", "sale_opportunity_activity__history"):
            connection.execute(f"UPDATE {table} SET create_date = occurred_at || '.000000'")
    connection.commit()
    connection.close()


def chunks(lives: list[Life]) -> list[list[Life]]:
    return [lives[place : place + AT_ONCE] for place in range(0, len(lives), AT_ONCE)]


def utc_now() -> datetime:
    return datetime.now(UTC)
