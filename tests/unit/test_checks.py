"""Each check on the smallest company that offends it, beside a deal that does not."""

from typing import Any

import pandas as pd
import pytest

from crm.calendar import Calendar
from crm.checks import CHECKS, Finding, run_checks
from crm.contract import TABLES, parse_values
from crm.history import build_history
from crm.tables import CrmTables, FieldClass

NOW = pd.Timestamp("2026-07-01", tz="UTC")
CALENDAR = Calendar(base_currency="EUR")
STAGES = [
    {"stage": "Open", "sort_order": 1, "is_closed": False, "is_won": False},
    {"stage": "Won", "sort_order": 2, "is_closed": True, "is_won": True},
    {"stage": "Lost", "sort_order": 3, "is_closed": True, "is_won": False},
]
FINE = {
    "deal_id": "fine",
    "created_at": "2026-05-20",
    "stage": "Open",
    "owner_id": "u1",
    "account_id": "a1",
    "name": "Pumps",
    "amount": 100,
    "currency": "EUR",
    "close_date": "2026-08-01",
    "closed_at": None,
}


def frame(table: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as an import would type them; columns are those that any row names."""
    columns = {name: spec for name, spec in TABLES[table].columns.items() if any(name in row for row in rows)}
    texts = {n: pd.Series([None if row.get(n) is None else str(row[n]) for row in rows], dtype="str") for n in columns}
    return pd.DataFrame({name: parse_values(texts[name], spec.kind, CALENDAR).values for name, spec in columns.items()})


def company(*deals: dict[str, Any], classes: dict[str, FieldClass] | None = None, **others: list) -> CrmTables:
    """A company of one fine deal and the given ones, each written as what differs from the fine one."""
    rows = [
        FINE,
        *({**FINE, "deal_id": f"d{place}", "name": f"Deal {place}", **deal} for place, deal in enumerate(deals)),
    ]
    written = {"deals": rows, "stages": STAGES, **others}
    tables = {name: frame(name, rows) for name, rows in written.items()}
    tables["deals"]["_first_seen_at"] = pd.Series(pd.NaT, index=tables["deals"].index, dtype="datetime64[us, UTC]")
    return CrmTables(tables, CALENDAR, NOW, "000001", classes or {}, None)


def findings(tables: CrmTables) -> dict[str, Finding]:
    return {finding.code: finding for finding in run_checks(tables, build_history(tables))}


def examples(tables: CrmTables) -> dict[str, tuple[str, ...]]:
    return {code: finding.examples for code, finding in findings(tables).items()}


def history(deal_id: str, at: str, old: str, new: str) -> dict[str, str]:
    return {"deal_id": deal_id, "changed_at": at, "field": "stage", "old_value": old, "new_value": new}


def test_nothing_is_found_where_nothing_is_wrong():
    assert findings(company()) == {}


@pytest.mark.parametrize(
    ("code", "deal"),
    [
        ("D01", {"stage": "Won"}),
        ("D02", {"close_date": "2026-06-30"}),
        ("D03", {"amount": None}),
        ("D04", {"currency": "USD"}),
        ("D04", {"currency": None}),
        ("D05", {"stage": "Limbo"}),
        ("D13", {"stage": "Lost", "closed_at": "2026-05-19"}),
        ("D14", {"amount": -5}),
        ("D15", {"stage": "Won", "closed_at": "2026-06-01", "amount": 0}),
    ],
)
def test_a_deal_that_breaks_one_rule_is_found_by_that_check_alone(code: str, deal: dict[str, Any]):
    assert examples(company(deal)) == {code: ("d0",)}


def test_an_open_deal_larger_than_a_usual_period_is_found_once_two_periods_have_passed():
    def sold(day):
        return {"stage": "Won", "created_at": "2025-11-01", "closed_at": day, "close_date": day}

    mega, before, latest = {"amount": 1000}, sold("2025-12-01"), sold("2026-02-01")
    assert examples(company(before, latest, mega)) == {"D17": ("d2",)}
    assert findings(company(latest, mega)) == {}
    assert findings(company(before, latest, {"amount": 99})) == {}


def test_a_close_date_today_has_not_passed():
    assert findings(company({"close_date": "2026-07-01"})) == {}


def test_a_close_in_history_needs_no_closed_at():
    closed = [history("d0", "2026-06-01T10:00:00Z", "Open", "Won")]
    assert "D01" not in findings(company({"stage": "Won"}, deal_history=closed))


def test_history_of_a_deal_that_is_not_there_counts_its_rows():
    rows = [history("ghost", f"2026-06-0{day}", "Open", "Won") for day in (1, 2)]
    finding = findings(company(deal_history=rows))["D06"]
    assert (finding.rows, finding.examples, finding.amount_base) == (2, ("ghost",), None)


def test_fields_without_a_trustworthy_past_are_named():
    classes = {"close_date": FieldClass("untracked", None, 0.4), "stage": FieldClass("tracked", NOW, 1.0)}
    assert examples(company(classes=classes)) == {"D07": ("close_date",)}


def test_an_old_open_deal_without_recent_activity_is_silent():
    activities = [
        {"activity_id": "1", "occurred_at": "2026-06-20", "deal_id": "fine"},
        {"activity_id": "2", "occurred_at": "2026-04-01", "deal_id": "d0"},
    ]
    old, young = {"created_at": "2026-01-05"}, {"created_at": "2026-06-10"}
    assert examples(company(old, young, activities=activities)) == {"D08": ("d0",)}


def test_without_activities_at_all_no_deal_is_called_silent():
    assert "D08" not in findings(company({"created_at": "2026-01-05"}))


def test_owners_who_left_or_were_never_exported_are_found():
    users = [{"user_id": "u1", "left_at": None}, {"user_id": "u2", "left_at": "2026-06-30"}]
    deals = [{"owner_id": "u2", "amount": 5}, {"owner_id": "u3"}, {"owner_id": None}]
    finding = findings(company(*deals, users=users))["D09"]
    assert set(finding.examples) == {"d0", "d1", "d2"} and finding.amount_base == 205


def test_two_open_deals_alike_are_a_duplicate_and_a_closed_one_is_not():
    twins = [{"name": "PUMPS "}, {"name": "Pumps", "stage": "Lost", "closed_at": "2026-06-01"}]
    assert set(examples(company(*twins))["D10"]) == {"fine", "d0"}


def test_twenty_deals_at_one_instant_are_a_migration_and_nineteen_are_not():
    at = {"created_at": "2026-06-01T08:00:00Z"}
    assert findings(company(*[at] * 20))["D11"].rows == 20
    assert "D11" not in findings(company(*[at] * 19))


def test_a_win_taken_back_is_found():
    rows = [history("d0", "2026-06-01", "Open", "Won"), history("d0", "2026-06-10", "Won", "Open")]
    assert examples(company({}, deal_history=rows))["D12"] == ("d0",)


def test_an_activity_logged_a_week_later_is_late():
    activities = [
        {"activity_id": "late", "occurred_at": "2026-06-01", "logged_at": "2026-06-09", "deal_id": "fine"},
        {"activity_id": "soon", "occurred_at": "2026-06-01", "logged_at": "2026-06-08", "deal_id": "fine"},
    ]
    assert examples(company(activities=activities)) == {"D16": ("late",)}


def test_deleted_and_merged_deals_are_not_judged():
    gone = [{"amount": None, "deleted_at": "2026-06-01"}, {"amount": None, "deleted_at": None, "merged_into": "fine"}]
    assert "D03" not in findings(company(*gone))


def test_a_column_that_was_never_exported_is_no_finding():
    tables = company({})
    bare = tables.with_tables(deals=tables.get("deals").drop(columns=["amount", "close_date", "currency", "closed_at"]))
    assert findings(bare) == {}
    empty = bare.get("deals").reindex(columns=tables.get("deals").columns).astype(tables.get("deals").dtypes)
    assert findings(bare.with_tables(deals=empty)) == {}


def test_money_adds_up_in_base_currency_and_the_largest_deals_come_first():
    rates = [{"currency": "USD", "valid_from": "2026-01-01", "rate_to_base": 0.5}]
    late = {"close_date": "2026-06-01"}
    deals = [{**late, "amount": 300, "currency": "USD"}, *[{**late, "amount": 10 * n} for n in range(1, 7)]]
    finding = findings(company(*deals, exchange_rates=rates))["D02"]
    assert (finding.rows, finding.amount_base) == (7, 150 + 210)
    assert finding.examples == ("d0", "d6", "d5", "d4", "d3")


def test_errors_come_before_warnings_and_warnings_before_hints():
    found = findings(company({"amount": -1}, {"amount": None}, {"stage": "Limbo"}))
    assert [finding.severity for finding in found.values()] == ["error", "warning", "info"]


def test_every_check_says_why_and_what_to_do_next():
    assert len(CHECKS) >= 12
    for check in CHECKS.values():
        assert check.why and check.next_step.endswith(".") and check.title[0].isupper()
