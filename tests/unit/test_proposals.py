"""Proposed deals are read by the rules of files; each test's company is small enough to check by hand."""

from dataclasses import replace

import pandas as pd
import pytest

from crm.calendar import Calendar
from crm.proposals import Proposals, read_proposals
from crm.tables import CrmTables

AS_OF = pd.Timestamp("2026-01-05 12:00", tz="UTC")
DAY = "2026-01-02"


@pytest.fixture
def tables() -> CrmTables:
    """One deal of one owner with one account, a custom number, and the stages."""
    deals = pd.DataFrame(
        {
            "deal_id": pd.Series(["D1"], dtype="str"),
            "created_at": pd.Series([pd.Timestamp("2025-12-01", tz="UTC")], dtype="datetime64[us, UTC]"),
            "stage": pd.Series(["Talk"], dtype="str"),
            "owner_id": pd.Series(["U1"], dtype="str"),
            "account_id": pd.Series(["A1"], dtype="str"),
            "seats": pd.Series([12.0]),
            "_first_seen_at": pd.Series([pd.NaT], dtype="datetime64[us, UTC]"),
        }
    )
    stages = pd.DataFrame({"stage": ["Talk", "Won"], "sort_order": [1.0, 2.0], "is_closed": [False, True]})
    stages = stages.assign(is_won=stages["is_closed"]).astype({"is_closed": "boolean", "is_won": "boolean"})
    return CrmTables({"deals": deals, "stages": stages}, Calendar("EUR"), AS_OF, "v", {}, AS_OF)


def read(tables: CrmTables, *deals: dict, **rows: list[dict]) -> Proposals:
    """Read proposals, `rows` being those of the first one; U1 and deal D1 are known."""
    proposed = [{"deal": deal, "history": [], "activities": [], "contacts": []} for deal in deals]
    proposed[0] |= rows
    return read_proposals(tables, proposed, AS_OF, known={"D1"}, owners={"U1"})


def deal(deal_id: str = "D2", **fields: object) -> dict:
    return {"deal_id": deal_id, "created_at": DAY, "stage": "Talk", **fields}


def test_a_new_deal_is_seen_at_the_moment_asked_about_and_a_known_one_when_it_was(tables):
    proposals = read(tables, deal("D1"), deal("D2"))
    first, second = proposals.tables.get("deals")["_first_seen_at"]
    assert pd.isna(first) and second == AS_OF
    assert proposals.place_of == {"D1": 0, "D2": 1} and not proposals.errors and not proposals.warnings


def test_rows_are_typed_as_the_store_has_them_and_get_the_deal_s_id(tables):
    proposals = read(tables, deal(seats="7"), activities=[{"activity_id": 1, "occurred_at": DAY}])
    stored, read_now = tables.get("deals"), proposals.tables.get("deals")
    assert dict(read_now.dtypes) == dict(stored.dtypes) and read_now["seats"].tolist() == [7.0]
    activities = proposals.tables.get("activities")
    assert activities["deal_id"].tolist() == ["D2"] and activities["activity_id"].tolist() == ["1"]


def test_a_custom_value_that_does_not_fit_leaves_the_other_deals_as_they_are(tables):
    proposals = read(tables, deal("D2", seats="many"), deal("D3", seats=3))
    assert proposals.tables.get("deals")["seats"].tolist() == [3.0]
    (detail,) = proposals.errors[0]
    assert (detail.where, detail.value) == ("deals[0].deal.seats", "many")


def test_one_wrong_row_and_the_whole_deal_is_left_out(tables):
    late = [{"changed_at": "2026-01-05 12:00:01", "field": "stage", "new_value": "Won"}]
    proposals = read(tables, deal("D2"), deal("D3"), history=[{**late[0], "changed_at": DAY}, *late])
    assert proposals.place_of == {"D3": 1} and proposals.tables.get("deal_history").empty
    assert proposals.errors[0][0].where == "deals[0].history[1].changed_at"


@pytest.mark.parametrize("deal_id", [None, "", 7, ["D2"], {"id": "D2"}])
def test_what_is_no_id_is_refused(tables, deal_id):
    proposals = read(tables, deal(deal_id), deal("D3"))
    assert proposals.errors[0][0].where == "deals[0].deal.deal_id" and proposals.place_of == {"D3": 1}


def test_a_deal_stands_in_a_call_once(tables):
    proposals = read(tables, deal("D2"), deal("D2"))
    assert proposals.place_of == {"D2": 0} and "deals[0]" in proposals.errors[1][0].rule


def test_a_row_at_the_moment_itself_is_not_too_late(tables):
    edit = {"changed_at": AS_OF.isoformat(), "field": "seats", "old_value": "1", "new_value": "2"}
    assert len(read(tables, deal(), history=[edit]).tables.get("deal_history")) == 1


def test_owners_and_accounts_that_nobody_knows_are_unknown_in_the_past_too(tables):
    handed = {"changed_at": DAY, "field": "owner_id", "old_value": "U1", "new_value": "U9"}
    proposals = read(tables, deal(owner_id="U9", account_id="A9"), history=[handed])
    row = proposals.tables.get("deals").iloc[0]
    assert pd.isna(row["owner_id"]) and pd.isna(row["account_id"]) and len(proposals.warnings[0]) == 2
    history = proposals.tables.get("deal_history").iloc[0]
    assert history["old_value"] == "U1" and pd.isna(history["new_value"])


def test_a_field_the_store_does_not_have_is_not_used_and_named(tables):
    proposals = read(tables, deal(colour="red", _first_seen_at=DAY))
    assert len(proposals.warnings[0]) == 2 and "colour" in proposals.warnings[0][0]
    assert list(proposals.tables.get("deals")) == list(tables.get("deals"))


def test_a_store_without_history_still_reads_a_proposal(tables):
    without = replace(tables, tables={name: tables.tables[name] for name in ("deals", "stages")})
    assert read(without, deal()).place_of == {"D2": 0}
