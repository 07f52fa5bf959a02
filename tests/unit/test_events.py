"""Rows that systems send one by one: what they change, from when on, and that their order does not matter."""

import tempfile
from itertools import permutations
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from importing_company import DEALS, Company

from crm.errors import DataUnusable
from crm.events import CrmEvent, check_rows
from crm.history import build_history, open_deals, values_at
from crm.overlay import fold_events
from crm.store import read_tables
from crm.tables import CrmTables
from crm.versions import current_version, read_manifest

NOW = pd.Timestamp("2026-06-01", tz="UTC").as_unit("us")
CREATED = {"A": "2026-01-01", "B": "2026-01-02"}


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC").as_unit("us")


@pytest.fixture
def company(tmp_path: Path) -> Company:
    return imported(tmp_path)


def imported(folder: Path) -> Company:
    """Two deals as of 1 March."""
    company = Company(folder).write(deals=DEALS).calendar(as_of="2026-03-01")
    company.run()
    return company


def sent(company: Company, *rows: tuple[str, dict], first: int = 1) -> list[CrmEvent]:
    """Rows as the inbox numbers them, each checked as the service does."""
    tables, events = read_tables(company.workspace), []
    for number, (table, row) in enumerate(rows, start=first):
        (checked,) = check_rows(tables, table, [row], now=NOW)
        assert checked.details == []
        events.append(CrmEvent(number, f"e{number}", table, row, checked.moment))
    return events


def fold(company: Company, *rows: tuple[str, dict], first: int = 1) -> CrmTables:
    fold_events(company.workspace, sent(company, *rows, first=first))
    return read_tables(company.workspace)


def deal(deal_id: str, stage: str = "Open", **given) -> tuple[str, dict]:
    return "deals", {"deal_id": deal_id, "created_at": CREATED.get(deal_id), "stage": stage, **given}


def change(deal_id: str, when: str, field: str, old: str | None, new: str) -> tuple[str, dict]:
    row = {"deal_id": deal_id, "changed_at": when, "field": field, "old_value": old, "new_value": new}
    return "deal_history", row


def history_of(company: Company) -> list[tuple]:
    table = read_tables(company.workspace).get("deal_history")
    rows = table[["deal_id", "changed_at", "field", "old_value", "new_value", "changed_by"]]
    plain = rows.astype(object).where(rows.notna(), None)
    return [(d, f"{t:%m-%d}", *rest) for d, t, *rest in plain.itertuples(index=False, name=None)]


# -- what a row changes ----------------------------------------------------------------------------------------------


def test_a_deal_s_row_is_upserted_and_its_unannounced_changes_are_dated_by_its_latest_timestamp(company: Company):
    tables = fold(company, deal("A", "Demo", amount=30, updated_at="2026-03-04T10:00:00Z"))
    assert (company.deal("A")["stage"], company.deal("A")["amount"]) == ("Demo", 30.0)
    assert history_of(company) == [
        ("A", "03-04", "amount", "10", "30", "sync"),
        ("A", "03-04", "stage", "Open", "Demo", "sync"),
        ("A", "03-04", "updated_at", None, "2026-03-04T10:00:00Z", "sync"),
    ]
    assert tables.as_of == at("2026-03-04T10:00:00")
    assert company.deal("B")["amount"] == 20.0


def test_what_a_row_does_not_give_stays_and_what_it_gives_as_null_is_unknown(company: Company):
    fold(company, deal("A", name="Acme"), deal("B", amount=None))
    assert company.deal("A")["amount"] == 10.0 and company.deal("A")["name"] == "Acme"
    assert pd.isna(company.deal("B")["amount"])


def test_a_row_that_tells_of_nothing_later_counts_from_the_import_on(company: Company):
    tables = fold(company, deal("A", amount=30))
    assert tables.as_of == at("2026-03-01")
    assert history_of(company) == [("A", "03-01", "amount", "10", "30", "sync")]


def test_of_rows_without_a_timestamp_the_last_one_stands_also_after_one_that_has_a_later_one(company: Company):
    closed = deal("A", "Lost", closed_at="2026-03-05", is_closed=True)
    fold(company, closed, deal("A", "Demo", closed_at=None, is_closed=False))
    assert company.deal("A")["stage"] == "Demo" and pd.isna(company.deal("A")["closed_at"])
    assert [row[1:5] for row in history_of(company)] == [
        ("03-05", "stage", "Open", "Lost"),
        ("03-05", "stage", "Lost", "Demo"),
    ]


def test_every_row_of_a_deal_is_a_change_of_its_own(company: Company):
    rows = [deal("A", amount=n, updated_at=f"2026-03-0{n}T10:00:00Z") for n in (3, 5, 4)]
    fold(company, *rows)
    told = [row[1:5] for row in history_of(company) if row[2] == "amount"]
    assert told == [("03-03", "amount", "10", "3"), ("03-04", "amount", "3", "4"), ("03-05", "amount", "4", "5")]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_change_told_by_a_row_and_by_history_is_one_change_in_any_order(tmp_path: Path, order):
    company = imported(tmp_path)
    rows = [deal("A", "Demo", amount=30), change("A", "2026-03-03", "stage", "Open", "Demo")]
    rows += [change("A", "2026-03-04", "amount", "10.0", "30.00")]
    for number, place in enumerate(order, start=1):
        fold(company, rows[place], first=number)
    assert [row[:5] for row in history_of(company)] == [
        ("A", "03-03", "stage", "Open", "Demo"),
        ("A", "03-04", "amount", "10.0", "30.00"),
    ]
    assert (company.deal("A")["stage"], company.deal("A")["amount"]) == ("Demo", 30.0)


def test_what_history_tells_last_is_the_deal_s_value_now(company: Company):
    tables = fold(
        company,
        change("A", "2026-03-03", "stage", "Demo", "Won"),
        change("A", "2026-03-02", "stage", "Open", "Demo"),
        change("B", "2026-02-02", "stage", "Open", "Demo"),
        change("B", "2026-03-02", "amount", "20", "a lot"),
        change("nobody's", "2026-03-02", "amount", "1", "2"),
    )
    assert company.deal("A")["stage"] == "Won"
    assert (company.deal("B")["stage"], company.deal("B")["amount"]) == ("Demo", 20.0)
    history = build_history(tables)
    assert history.wins["won_at"].tolist() == [at("2026-03-03")]
    assert open_deals(history, tables.as_of)["deal_id"].tolist() == ["B"]


def test_flags_of_a_deal_follow_a_stage_that_comes_without_them(tmp_path: Path):
    company = Company(tmp_path).without("stages").calendar(as_of="2026-03-01")
    rows = "".join(f"W{n},2026-01-01,Won,true,true,2026-02-01\n" for n in range(3))
    company.write(deals=f"deal_id,created_at,stage,is_closed,is_won,closed_at\nA,2026-01-01,Open,false,false,\n{rows}")
    company.run()
    tables = fold(company, deal("A", "Won", updated_at="2026-03-02T00:00:00Z"))
    assert company.deal("A")["is_closed"] and company.deal("A")["is_won"]
    assert len(open_deals(build_history(tables), tables.as_of)) == 0


def test_a_new_deal_is_known_from_its_first_event_on_and_has_no_change_yet(company: Company):
    born = {"created_at": "2026-03-02T10:00:00Z"}
    tables = fold(company, deal("C", amount=5, **born), deal("C", amount=7, owner_id="u", **born))
    assert company.deal("C")["_first_seen_at"] == tables.as_of == at("2026-03-02T10:00:00")
    assert [row[2:5] for row in history_of(company)] == [("amount", "5", "7"), ("owner_id", None, "u")]
    spine = pd.DataFrame({"deal_id": ["C"], "as_of": [tables.as_of]})
    assert values_at(build_history(tables), spine, ["amount", "stage"]).iloc[0].tolist() == [7.0, "Open"]


def test_a_deal_merged_away_without_a_date_went_when_the_event_said_so(company: Company):
    fold(company, deal("A", merged_into="B", updated_at="2026-03-02T00:00:00Z"), deal("B", deleted_at="2026-03-03"))
    assert company.deal("A")["deleted_at"] == at("2026-03-02") and company.deal("B")["deleted_at"] == at("2026-03-03")


def test_rows_of_other_tables_are_upserted_by_their_keys(company: Company):
    activity = {"activity_id": "x", "occurred_at": "2026-03-02T10:00:00Z", "deal_id": "A"}
    planned = {"activity_id": "y", "occurred_at": "2026-09-02", "deal_id": "A", "logged_at": "2026-03-03"}
    tables = fold(
        company,
        ("activities", {**activity, "type": "call"}),
        ("activities", {**activity, "duration_minutes": 5}),
        ("activities", planned),
        ("deal_contacts", {"deal_id": "A", "contact_id": "c"}),
        ("deal_contacts", {"deal_id": "A", "contact_id": "c", "role": "champion"}),
        ("leads", {"lead_id": "l", "created_at": "2026-03-01", "status": "new", "shoe size": 43}),
    )
    rows = tables.get("activities").set_index("activity_id")
    assert (rows.loc["x", "type"], rows.loc["x", "duration_minutes"]) == ("call", 5.0)
    assert tables.as_of == at("2026-03-03")
    assert tables.get("deal_contacts")["role"].tolist() == ["champion"]
    assert tables.get("leads")["shoe size"].tolist() == [43.0]


def test_what_is_folded_is_not_folded_again(company: Company):
    events = sent(company, deal("A", amount=30))
    first = fold_events(company.workspace, events)
    assert fold_events(company.workspace, events) is None and current_version(company.workspace) == first
    assert read_manifest(company.workspace).folded.through == 1


def test_only_the_tables_that_an_event_touches_are_written(company: Company):
    before = read_manifest(company.workspace).tables
    fold(company, ("activities", {"activity_id": "x", "occurred_at": "2026-03-02", "deal_id": "A"}))
    after = read_manifest(company.workspace).tables
    assert {name: after[name] for name in before} == before and after.keys() - before.keys() == {"activities"}


# -- events and imports ----------------------------------------------------------------------------------------------


def test_an_import_does_not_undo_what_events_told_after_its_moment(company: Company):
    fold(company, deal("A", "Demo", amount=30, updated_at="2026-03-04T10:00:00Z"), deal("C", created_at="2026-03-05"))
    company.write(deals=DEALS.replace("A,2026-01-01,Open,10", "A,2026-01-01,Open,12")).calendar(as_of="2026-03-02")
    report = company.run()
    assert report.changed and report.as_of == at("2026-03-05")
    assert (company.deal("A")["stage"], company.deal("A")["amount"]) == ("Demo", 30.0)
    assert [row[:5] for row in history_of(company) if row[2] == "amount"] == [
        ("A", "03-02", "amount", "10", "12"),
        ("A", "03-04", "amount", "12", "30"),
    ]
    assert set(company.table("deals")["deal_id"]) == {"A", "B", "C"}


def test_the_same_export_again_changes_nothing_and_undoes_nothing(company: Company):
    fold(company, deal("A", amount=30), deal("B", amount=40, updated_at="2026-03-04T10:00:00Z"))
    version = current_version(company.workspace)
    report = company.run()
    assert not report.changed and report.data_version == version == current_version(company.workspace)
    assert company.deal("A")["amount"] == 30.0


def test_an_export_of_later_than_an_event_knows_better(company: Company):
    fold(company, deal("A", amount=30, updated_at="2026-03-04T10:00:00Z"), deal("C", created_at="2026-03-05"))
    report = company.calendar(as_of="2026-03-10").run()
    assert report.as_of == at("2026-03-10") and company.deal("A")["amount"] == 10.0
    assert [row[1:5] for row in history_of(company) if row[2] == "amount"] == [
        ("03-04", "amount", "10", "30"),
        ("03-10", "amount", "30", "10"),
    ]
    assert "C" in set(company.table("deals")["deal_id"])
    assert read_manifest(company.workspace).folded.base is None
    assert fold(company, deal("B", amount=1), first=3).get("deals").set_index("deal_id").loc["B", "amount"] == 1.0


def test_an_export_older_than_the_last_import_is_refused_however_much_events_told(company: Company):
    fold(company, deal("A", amount=30, updated_at="2026-03-04T10:00:00Z"))

    with pytest.raises(DataUnusable, match="older than the last one"):
        company.calendar(as_of="2026-02-28").run()


def test_history_that_an_import_delivers_later_replaces_what_an_event_noted(company: Company):
    fold(company, deal("A", "Demo"))
    assert history_of(company) == [("A", "03-01", "stage", "Open", "Demo", "sync")]
    rows = "deal_id,changed_at,field,old_value,new_value\nA,2026-03-03T10:00:00Z,stage,Open,Demo\n"
    company.write(deals=DEALS.replace("A,2026-01-01,Open", "A,2026-01-01,Demo"), deal_history=rows)
    company.calendar(as_of="2026-03-10").run()
    assert history_of(company) == [("A", "03-03", "stage", "Open", "Demo", None)]


# -- the order does not matter ---------------------------------------------------------------------------------------

DAYS = st.integers(2, 28).map(lambda day: f"2026-03-{day:02d}T10:00:00Z")
STAGES = st.sampled_from(["Open", "Demo", "Won", "Lost"])


@st.composite
def event_rows(draw) -> tuple[str, dict]:
    deal_id, when = draw(st.sampled_from(["A", "B", "C"])), draw(DAYS)
    kind = draw(st.sampled_from(["deal", "deal", "history", "activity", "contact", "lead"]))
    if kind == "deal":
        fields = {"amount": draw(st.sampled_from([None, 1, 2])), "owner_id": draw(st.sampled_from(["u", "v"]))}
        chosen = {name: value for name, value in fields.items() if draw(st.booleans())}
        return deal(deal_id, draw(STAGES), created_at="2026-01-02", **chosen, updated_at=when)
    if kind == "history":
        return change(deal_id, when, "stage", draw(STAGES), draw(STAGES))
    if kind == "activity":
        row = {"activity_id": draw(st.sampled_from(["x", "y"])), "occurred_at": when, "deal_id": deal_id}
        return "activities", row
    if kind == "contact":
        return "deal_contacts", {"deal_id": deal_id, "contact_id": "c", "added_at": when}
    return "leads", {"lead_id": "l", "created_at": "2026-01-01", "first_response_at": when, "status": when[8:10]}


def stands(company: Company) -> dict[str, object]:
    tables = read_tables(company.workspace)
    frames = {name: frame.sort_index(axis=1) for name, frame in tables.tables.items()}
    return {"as_of": tables.as_of, "classes": tables.field_classes, **frames}


def assert_same(one: dict[str, object], other: dict[str, object]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, pd.DataFrame):
            sequence = [c for c in ("_sequence",) if c in value]
            left, right = (
                frame.drop(columns=sequence).sort_values(
                    list(frame.columns.drop(sequence)), key=lambda c: c.astype("str"), ignore_index=True
                )
                for frame in (value, other[name])
            )
            pd.testing.assert_frame_equal(left, right)
        else:
            assert value == other[name]


def told_apart(rows: list[tuple[str, dict]]) -> list[tuple[str, dict]]:
    """Rows of which no two tell of the same key at the same instant: which of those came last nobody could say."""
    keys, kept = set(), []
    for table, row in rows:
        moment = max(str(value) for name, value in row.items() if name.endswith("_at"))
        key = (table, row.get("deal_id") or row.get("lead_id"), row.get("activity_id"), moment)
        if key not in keys:
            keys.add(key)
            kept.append((table, row))
    return kept


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(event_rows(), min_size=2, max_size=6).map(told_apart), data=st.data())
def test_events_in_any_order_and_in_any_parts_end_in_the_same_tables(rows, data):
    order = data.draw(st.permutations(range(len(rows))))
    cut = data.draw(st.integers(0, len(rows)))
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        whole, parts = imported(Path(one)), imported(Path(other))
        fold(whole, *rows)
        shuffled = sent(parts, *(rows[place] for place in order))
        for part in (shuffled[:cut], shuffled, shuffled[:1]):
            fold_events(parts.workspace, part)
        assert_same(stands(whole), stands(parts))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(event_rows(), min_size=1, max_size=5).map(told_apart))
def test_an_import_before_or_after_later_events_ends_in_the_same_tables(rows):
    newer = DEALS.replace("B,2026-01-02,Demo,20", "B,2026-01-02,Open,25")
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        first, last = imported(Path(one)), imported(Path(other))
        fold(last, *rows)
        for company in (first, last):
            company.write(deals=newer).calendar(as_of="2026-03-02").run()
        fold(first, *rows)
        assert_same(stands(first), stands(last))
