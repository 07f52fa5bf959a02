"""Small CRMs as Hypothesis makes them up: every kind of row, in any order, at instants that often coincide."""

from dataclasses import replace

import pandas as pd
from hypothesis import Phase
from hypothesis import strategies as st

from crm.calendar import Calendar
from crm.tables import CrmTables, FieldClass
from tests.spec.crm_by_hand import Row, frame

GENERATED = (Phase.explicit, Phase.generate)
"""Shrinking a whole CRM takes minutes; the counterexamples are small enough to read as they come."""

START = pd.Timestamp("2026-01-01", tz="UTC").as_unit("us")
LAST = 120
OPEN, CLOSED = ["Open A", "Open B", "Open C"], ["Won", "Lost"]
VALUES: dict[str, list[str]] = {
    "stage": [*OPEN, *CLOSED, "of another time"],
    "close_date": ["2026-01-20", "2026-02-10", "2026-04-05"],
    "amount": ["10.0", "20.0", "-5.0", "0.0"],
    "owner_id": ["u1", "u2", "u3", "nobody we know"],
    "forecast_category": ["Pipeline", "best case", "Commit", "closed"],
    "account_id": ["a1", "a2", "a3", "unheard of"],
    "pipeline": ["main", "renewals"],
    "currency": ["EUR", "USD", "XXX"],
    "deal_type": ["new", "renewal"],
    "lead_source": ["web", "event"],
    "term_months": ["12.0", "24.0"],
    "arr_change": ["5.0", "-2.0"],
    "ends_on": ["2026-06-01", "2027-01-01"],
    "partner_account_id": ["a9"],
    "plan": ["{basic}", "pro'"],
    "seats": ["3.0", "7.5"],
    "pilot_ends_on": ["2026-02-01", "2026-03-15"],
    "kick_off_at": ["2026-01-15 08:00:00+00:00", "2026-02-20 16:30:00+00:00"],
    "is_strategic": ["true", "false"],
}
OFTEN = ["stage", "stage", "stage", "close_date", "amount", "owner_id", "account_id", "forecast_category"]
OWN_FIELDS = {
    "plan": "str",
    "seats": "float64",
    "pilot_ends_on": "datetime64[us]",
    "kick_off_at": "datetime64[us, UTC]",
    "is_strategic": "boolean",
}


def instant(half_days: int) -> pd.Timestamp:
    return START + pd.Timedelta(12 * half_days, "h")


instants = st.integers(0, LAST).map(instant)


def maybe(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.none() | strategy


@st.composite
def crms(draw: st.DrawFn) -> CrmTables:
    """Deals that close, silently or not, reopen, are deleted, merged, handed over, loaded in bulk or seen late."""
    deals, history = [], []
    for number in range(draw(st.integers(4, 8))):
        deal_id = f"d{number}"
        born = draw(st.integers(0, 60))
        rows, last = _changes(draw, deal_id, max(0, born - 2))
        history += rows
        moves = [row["changed_at"] for row in rows if row["field"] == "stage"]
        deals.append(_deal(draw, deal_id, instant(born), last, max([instant(born), *moves])))
    if draw(st.integers(0, 3)) == 0:
        deals += _loaded(draw)
    ids = [deal["deal_id"] for deal in deals[:5]]
    tables = {
        "deals": _deals(deals),
        "deal_history": frame("deal_history", draw(st.permutations(history))),
        "stages": frame("stages", _STAGES),
        "accounts": frame("accounts", _ACCOUNTS),
        "users": frame("users", [{"user_id": user, "activity_from": draw(maybe(instants))} for user in ("u1", "u2")]),
        "activities": frame("activities", _rows(draw, ids, _activity, most=25)),
        "deal_contacts": frame("deal_contacts", _rows(draw, ids, _contact, most=6)),
        "line_items": frame("line_items", _rows(draw, ids, _line, most=6)),
        "exchange_rates": frame("exchange_rates", _RATES),
    }
    if draw(st.integers(0, 2)) == 0:
        del tables["users"]
    rates = draw(st.sampled_from(["plan", "dated"]))
    calendar = Calendar(base_currency="EUR", time_zone=draw(st.sampled_from(["UTC", "Asia/Kolkata"])), rates=rates)
    classes = {field: draw(st.sampled_from(_CLASSES)) for field in tables["deals"] if field not in _OUTCOME}
    named = bool(tables["deals"]["currency"].notna().any())
    classes["currency"] = replace(classes["currency"], filled=named)
    return CrmTables(tables, calendar, instant(LAST), "000001", classes, draw(maybe(instants)))


def _changes(draw: st.DrawFn, deal_id: str, earliest: int) -> tuple[list[Row], dict[str, str | None]]:
    """History of a deal, now and then contradicting itself, and the last values it tells."""
    fields = st.sampled_from(OFTEN) | st.sampled_from([*VALUES])
    asked = draw(st.lists(st.tuples(st.integers(earliest, LAST), fields), min_size=4, max_size=14))
    rows, last = [], {}
    for at, field in sorted(asked):
        values = maybe(st.sampled_from(VALUES[field]))
        old = last.get(field) if draw(st.integers(0, 3)) else draw(values)
        new = draw(st.sampled_from(VALUES[field]))
        rows.append({"deal_id": deal_id, "changed_at": instant(at), "field": field, "old_value": old, "new_value": new})
        last[field] = new
    return rows, last


def _deal(
    draw: st.DrawFn, deal_id: str, born: pd.Timestamp, last: dict[str, str | None], last_move: pd.Timestamp
) -> Row:
    """The deal as it stands; what closed it silently came after all moves on record, or they would contradict it."""
    values = {}
    for field, possible in VALUES.items():
        told = field in last and draw(st.integers(0, 3))
        values[field] = last[field] if told else draw(maybe(st.sampled_from(possible)))
    values["stage"] = values["stage"] or "Open A"
    closed = values["stage"] in CLOSED
    rarely = st.integers(0, 7).map(lambda drawn: drawn == 0)
    return {
        "deal_id": deal_id,
        "created_at": born,
        **values,
        "closed_at": draw(st.sampled_from(_instants_from(last_move))) if closed and not draw(rarely) else None,
        "deleted_at": draw(instants) if draw(rarely) else None,
        "merged_into": "d0" if draw(rarely) else None,
        "_first_seen_at": draw(instants) if draw(rarely) else None,
    }


def _instants_from(first: pd.Timestamp) -> list[pd.Timestamp]:
    return [at for at in map(instant, range(LAST + 1)) if at >= first]


def _loaded(draw: st.DrawFn) -> list[Row]:
    """A hundred deals of one instant, most of them alike."""
    born = draw(st.integers(0, 40))
    alike = {"created_at": instant(2 * born + 1), "stage": draw(st.sampled_from([*OPEN, "Won"])), "owner_id": "u1"}
    alike["closed_at"] = instant(2 * born + 20) if alike["stage"] == "Won" else None
    return [{"deal_id": f"b{number}", **alike, "account_id": f"a{number % 5}"} for number in range(100)]


def _deals(rows: list[Row]) -> pd.DataFrame:
    deals = frame("deals", [{name: row.get(name) for name in row if name not in OWN_FIELDS} for row in rows])
    flags = {"true": True, "false": False}
    for name, dtype in {**OWN_FIELDS, "_first_seen_at": "datetime64[us, UTC]"}.items():
        values = pd.Series([row.get(name) for row in rows], index=deals.index, dtype=object)
        if dtype.startswith("datetime64"):
            values = pd.to_datetime(values, utc=True, format="ISO8601")
            values = values.dt.tz_localize(None) if dtype == "datetime64[us]" else values
        deals[name] = (values.map(flags) if dtype == "boolean" else values).astype(dtype)
    return deals.drop(columns=["is_closed", "is_won", "booked_on"])


def _rows(draw: st.DrawFn, ids: list[str], kind: st.SearchStrategy, *, most: int) -> list[Row]:
    found = draw(st.lists(st.tuples(st.sampled_from(ids), kind), min_size=most // 3, max_size=most))
    return [{"activity_id": f"x{place}", "deal_id": deal_id, **row} for place, (deal_id, row) in enumerate(found)]


_activity = st.fixed_dictionaries(
    {
        "occurred_at": instants,
        "logged_at": maybe(instants),
        "type": maybe(st.sampled_from(["email", "call", "meeting"])),
        "direction": maybe(st.sampled_from(["inbound", "outbound"])),
        "contact_id": maybe(st.sampled_from(["c1", "c2"])),
        "duration_minutes": maybe(st.sampled_from([15.0, 60.0])),
    }
)
_contact = st.fixed_dictionaries(
    {
        "contact_id": st.sampled_from(["c1", "c2"]),
        "role": maybe(st.sampled_from(["user", "Economic buyer", "Executive Sponsor"])),
        "added_at": maybe(instants),
    }
)
_line = st.fixed_dictionaries(
    {
        "product": st.sampled_from(["p1", "p2"]),
        "quantity": maybe(st.sampled_from([1.0, 3.0])),
        "amount": maybe(st.sampled_from([90.0, 150.0])),
        "list_price": maybe(st.sampled_from([0.0, 100.0])),
        "added_at": maybe(instants),
    }
)
_STAGES = [
    {"stage": stage, "sort_order": order, "is_closed": stage in CLOSED, "is_won": stage == "Won", "pipeline": pipeline}
    for pipeline, stages in ((None, [*OPEN, *CLOSED]), ("renewals", ["Open C", "Open A", *CLOSED]))
    for order, stage in enumerate(stages)
]
_ACCOUNTS = [
    {"account_id": "a1", "segment": "SMB", "industry": "x", "region": "N", "employees": 10.0},
    {"account_id": "a2", "segment": "SMB"},
    {"account_id": "a3", "industry": "x"},
]
_RATES = [{"currency": "USD", "valid_from": instant(at), "rate_to_base": rate} for at, rate in ((0, 0.5), (30, 0.8))]
_CLASSES = [
    FieldClass("untracked", None, 0.0),
    FieldClass("tracked", None, 1.0),
    FieldClass("tracked", instant(20), 1.0),
]
_OUTCOME = ("deal_id", "created_at", "closed_at", "deleted_at", "merged_into", "_first_seen_at")
