"""The walk from one moment's forecast to another's, on a company small enough to check by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from forecast_company import EURO_QUARTERS, at, company, won
from hypothesis import given, settings
from hypothesis import strategies as st

from crm.bookings import shown_deals
from crm.history import build_history, open_deals
from crm.money import RateBook
from models.amount import AmountModel
from models.creation import CreationModel, CreationStream
from models.forecast_look import look_at
from models.forecaster import forecast_nodes
from models.moves import CAUSES, MOVED_COLUMNS, explain_moves
from models.revenue import fit_revenue

THEN, NOW = at("2026-04-20"), at("2026-05-15")
QUARTER = EURO_QUARTERS.period_of(NOW)
AS_SHOWN = AmountModel(1.0, {}, {}, 0.0, {}, {}, 0.0, spread_known=0.2, spread_unknown=1.0, wins=0)
DAILY = CreationStream(
    per_day=1.0,
    won_in=(0.5, *[0.0] * 14),
    amount_in=(10.0,) * 15,
    amount_cv=1.0,
    end_factor=(1.0,) * 7,
    owners={"a": 3.0, "d": 1.0},
    mixes={"pipeline": {}, "segment": {}, "currency": {}},
)
EARLIER, LATER = 0.4, 0.5
DATED = replace(EURO_QUARTERS, rates="dated")
USD = [
    {"currency": "USD", "valid_from": "2026-01-01", "rate_to_base": 0.5},
    {"currency": "USD", "valid_from": "2026-05-01", "rate_to_base": 0.6},
]


def models(version="m1", *, creation=DAILY):
    streams = CreationModel({} if creation is None else {"new": creation}, 0.2)
    return SimpleNamespace(
        amount=AS_SHOWN, creation=streams, revenue=fit_revenue(), manifest={"model_version": version}
    )


def scored(history, moment, amounts, chance):
    spine = open_deals(history, moment)
    shown = spine["deal_id"].map(amounts).astype("float64")
    chances = {"period_win_probability": chance, "next_period_win_probability": 0.1}
    return spine.assign(**chances, expected_amount=shown.fillna(7.0), expected_close_date=pd.Timestamp("2026-05-10"))


def amounts_at(tables, history, moment):
    spine = open_deals(history, moment)
    return shown_deals(tables, history, spine).set_index("deal_id")["amount_base"]


def walk(tables, *, then=THEN, now=NOW, chances=(EARLIER, LATER), waited=None, creation=DAILY, before=None):
    """The moves between two moments, and what the forecast of each of them would be asked with."""
    history = build_history(tables)
    looks, asked_of = [], []
    for moment, chance in zip((then, now), chances, strict=True):
        scores = scored(history, moment, amounts_at(tables, history, moment), chance)
        asked = {"as_of": moment, "period": QUARTER}
        looks.append(look_at(models(creation=creation), tables, history, scores, **asked))
        asked_of.append((models(creation=creation), tables, history, scores, asked))
    earlier = looks[0]
    if before is not None:
        scores = scored(history, then, amounts_at(tables, history, then), before)
        earlier = look_at(models("m0", creation=None), tables, history, scores, as_of=then, period=QUARTER)
    waited = pd.Series(dtype="float64") if waited is None else waited
    book = RateBook.from_tables(tables)
    return explain_moves(earlier, looks[1], restated=looks[0], waited=waited, book=book), asked_of


def mean_by_node(fitted, tables, history, scores, asked):
    """What the forecast itself says at a moment."""
    return forecast_nodes(fitted, tables, history, scores, **asked).set_index(["node_type", "node_id"])["mean"]


def bars(moves, node_type="company", node_id="company"):
    rows = moves.rows()
    mine = rows[(rows["node_type"] == node_type) & (rows["node_id"] == node_id)]
    return mine.set_index("cause")["amount"].to_dict()


def changed(field, old, new, day="2026-05-02", deal="deal-0"):
    return {"deal_id": deal, "changed_at": day, "field": field, "old_value": str(old), "new_value": str(new)}


OUT, INTO = ("2026-06-20", "2026-07-20"), ("2026-07-20", "2026-06-20")
RELAPSE = [changed("stage", "Open", "Lost", "2026-04-10"), changed("stage", "Lost", "Open")]
REOPENING = [changed("stage", "Open", "Won", "2026-04-10"), changed("stage", "Won", "Open")]
LOST = {"stage": "Lost", "closed_at": "2026-05-09T12:00:00Z"}
GONE = {"deleted_at": "2026-05-09T12:00:00Z"}
DOLLARS = {"amount": 200, "currency": "USD"}
DEALS = {
    "won by the day expected: the chance it lacked": (won("2026-05-09"), [], {"won_earlier": 60}),
    "won after the day expected: the same": (won("2026-05-12"), [], {"won_later": 60}),
    "won for less: the chance it lacked, then the amount": (
        won("2026-05-09", amount=80),
        [changed("amount", 100, 80)],
        {"won_earlier": 60, "repriced": -20},
    ),
    "booked later: gone from this period": (won("2026-05-09", booked_on="2026-07-02"), [], {"slipped_out": -40}),
    "booked before: gone, too, but won": (won("2026-05-09", booked_on="2026-03-31"), [], {"won_earlier": -40}),
    "lost: what was expected": (LOST, [], {"lost": -40}),
    "deleted: what was expected": (GONE, [], {"lost": -40}),
    "merged: what was expected": ({**GONE, "merged_into": "deal-0"}, [], {"merged": -40}),
    "close date moved over the end": ({"close_date": OUT[1]}, [changed("close_date", *OUT)], {"slipped_out": 10}),
    "close date moved into the period": ({"close_date": INTO[1]}, [changed("close_date", *INTO)], {"pulled_in": 10}),
    "chance moved otherwise": ({}, [], {"edited": 10}),
    "amount changed: at the later chance": ({}, [changed("amount", 300, 100)], {"edited": 30, "repriced": -100}),
    # 40 % of 50 EUR; then 50 % of it, of 100 EUR at the old rate, of 120 EUR at the new one.
    "amount in another currency: at the old rates first": (
        DOLLARS,
        [changed("amount", 100, 200)],
        {"edited": 5, "repriced": 25, "exchange_rates": 10},
    ),
    "created since: all of it": ({"created_at": "2026-05-01"}, [], {"newly_created": 50}),
    "created and won since: all of it": (won("2026-05-09", created_at="2026-05-01"), [], {"newly_created": 100}),
    "a win reopened: what it no longer brings": ({}, REOPENING, {"reopened": -50}),
    "a lost deal reopened: what it brings again": ({}, RELAPSE, {"reopened": 50}),
    "lost before: nothing": ({"stage": "Lost", "closed_at": "2026-04-09T12:00:00Z"}, [], {}),
}


@pytest.fixture(scope="module")
def told():
    """The bars of a company with all these deals."""
    history = [{**row, "deal_id": f"deal-{place}"} for place, (_, rows, _) in enumerate(DEALS.values()) for row in rows]
    deals = [deal for deal, _, _ in DEALS.values()]
    tables = company(*deals, deal_history=history, exchange_rates=USD, calendar=DATED)
    rows = walk(tables, creation=None)[0].rows(named=len(DEALS))
    return rows[rows["node_type"] == "company"]


@pytest.mark.parametrize("what", DEALS)
def test_a_deal_is_told_under_what_became_of_it(told, what):
    deal_id, expected = f"deal-{list(DEALS).index(what)}", DEALS[what][2]
    listed = zip(told["cause"], told["deals"], strict=True)
    found = {cause: each["amount"] for cause, deals in listed for each in deals if each["deal_id"] == deal_id}
    assert found == pytest.approx({cause: float(amount) for cause, amount in expected.items()})


def test_time_moves_a_chance_as_far_as_it_would_have_gone_alone_and_what_was_recorded_the_rest():
    moves, _ = walk(company({}), creation=None, waited=pd.Series({"deal-0": 0.3}))
    assert bars(moves) == pytest.approx({"time": -10.0, "edited": 20.0})


def test_a_deal_goes_with_its_new_owner_and_people_with_their_team():
    tables = company({"owner_id": "d"}, deal_history=[changed("owner_id", "a", "d")])
    moves, _ = walk(tables, creation=None)
    assert bars(moves) == pytest.approx({"edited": 10.0})
    assert bars(moves, "team", "T1") == pytest.approx({"edited": 10.0, "owner": -50.0})
    assert bars(moves, "team", "T2") == pytest.approx({"owner": 50.0})
    place = {"user_id": "d", "changed_at": "2026-05-02", "field": "team", "old_value": "T1", "new_value": "T2"}
    moves, _ = walk(company({"owner_id": "d"}, user_history=[place]), creation=None)
    assert bars(moves, "team", "T1") == pytest.approx({"edited": 10.0, "owner": -50.0})
    assert bars(moves, "rep", "d") == pytest.approx({"edited": 10.0})


def test_another_model_is_told_by_itself_and_deals_yet_to_come_by_the_days_that_passed():
    moves, asked_of = walk(company({}), before=0.25)
    # The model before expected 25 of the deal and nothing of deals yet to come; 71.5 and 46.5 half deals a 10.
    assert bars(moves) == pytest.approx({"model": 15.0 + 357.5, "edited": 10.0, "not_yet_created": -125.0})
    company_row = moves.rows().set_index("node_type").loc["company"].iloc[0]
    assert company_row["later"] == pytest.approx(mean_by_node(*asked_of[1])["company", "company"])


def test_a_period_that_ended_meanwhile_leaves_what_is_open_behind():
    tables = company({}, won("2026-06-20"), as_of="2026-07-05")
    moves, _ = walk(tables, now=at("2026-07-05"), creation=None, chances=(0.4, 0.9))
    assert bars(moves) == pytest.approx({"slipped_out": -40.0, "won_later": 60.0})
    assert moves.rows().set_index("node_type").loc["company", "later"].tolist() == [100.0] * 2


def test_each_bar_names_its_strongest_deals_and_sums_up_the_others():
    deals = [{"amount": 100 + place} for place in range(12)]
    moves, _ = walk(company(*deals), creation=None)
    rows = moves.rows(named=3)
    assert tuple(rows.columns) == MOVED_COLUMNS
    told = rows[rows["node_type"] == "company"].iloc[0]
    assert [each["deal_id"] for each in told["deals"]] == ["deal-11", "deal-10", "deal-9"]
    assert told["other_deals"] == 9
    assert sum(each["amount"] for each in told["deals"]) + told["other_amount"] == pytest.approx(told["amount"])
    assert told["text"] == CAUSES["edited"]


def test_nothing_moves_between_a_moment_and_itself():
    tables = company({}, won("2026-04-10"), {"owner_id": "d", "currency": "USD"}, exchange_rates=USD)
    moves, _ = walk(tables, now=THEN, chances=(EARLIER, EARLIER))
    assert moves.rows().empty and not moves.amounts().any()


# -- whatever happens ------------------------------------------------------------------------------------------------

DAYS = ("2026-04-10", "2026-04-25", "2026-05-02", "2026-05-12")
OWNERS = st.sampled_from(["a", "b", "d", "e", "m1", None, "unheard-of"])


@st.composite
def happenings(draw):
    """A company of up to 30 deals on which anything may have happened before, between and after two moments."""
    deals, history = [], []
    for place in range(draw(st.integers(15, 30))):
        deal = {
            "created_at": draw(st.sampled_from(["2026-01-05", "2026-04-22", "2026-05-01"])),
            "owner_id": draw(OWNERS),
            "amount": draw(st.sampled_from([None, 0, 100, 250.5, -40])),
            "currency": draw(st.sampled_from(["EUR", "USD", "XXX", None])),
            "close_date": draw(st.sampled_from([None, "2026-05-30", "2026-08-01"])),
        }
        ending = draw(st.sampled_from(["open", "won", "lost", "deleted", "merged", "won then open"]))
        day = draw(st.sampled_from([*DAYS[1:], "2026-05-03"]))
        name = f"deal-{place}"
        if ending == "won then open":
            history += [changed("stage", "Open", "Won", day, name), changed("stage", "Won", "Open", "2026-05-13", name)]
        elif ending == "won":
            booked_on = draw(st.sampled_from([None, "2026-03-20", "2026-05-11", "2026-07-03"]))
            deal |= won(day, booked_on=booked_on)
        elif ending == "lost":
            deal |= {"stage": "Lost", "closed_at": f"{day}T12:00:00Z"}
        elif ending != "open":
            deal |= {"deleted_at": f"{day}T12:00:00Z", "merged_into": "deal-x" if ending == "merged" else None}
        for field, old in (("owner_id", draw(OWNERS)), ("amount", 70), ("close_date", "2026-08-01")):
            if draw(st.booleans()) and deal[field] is not None and old is not None:
                history.append(changed(field, old, deal[field], draw(st.sampled_from(DAYS)), name))
        deals.append(deal)
    moving = {"user_id": "d", "changed_at": draw(st.sampled_from(DAYS)), "old_value": "T1", "new_value": "T2"}
    others = {"user_history": [{**moving, "field": "team"}]} if draw(st.booleans()) else {}
    return company(*deals, deal_history=history, exchange_rates=USD, calendar=DATED, **others)


@settings(max_examples=5, deadline=None)
@given(tables=happenings(), waited=st.floats(0, 1), backwards=st.booleans())
def test_the_bars_sum_to_the_difference_at_every_node_and_add_up_over_the_hierarchy(tables, waited, backwards):
    alone = pd.Series(waited, index=tables.get("deals")["deal_id"])
    then, now = (NOW, THEN) if backwards else (THEN, NOW)
    moves, asked_of = walk(tables, then=then, now=now, waited=alone)
    before, after = (mean_by_node(*each) for each in asked_of)
    nodes = pd.MultiIndex.from_frame(moves.hierarchy.nodes[["node_type", "node_id"]])
    assert set(before.index) | set(after.index) <= set(nodes) | set(before.index[before == 0])
    difference = after.reindex(nodes, fill_value=0.0) - before.reindex(nodes, fill_value=0.0)
    amounts = moves.amounts()
    np.testing.assert_allclose(amounts.sum(axis=1), difference, atol=1e-6)
    levels = nodes.get_level_values(0)
    for level in ("rep", "team", "region"):
        np.testing.assert_allclose(amounts[levels == level].sum(axis=0), amounts[levels == "company"][0], atol=1e-6)
    rows = moves.rows(named=2)
    for node, told in rows.groupby(["node_type", "node_id"]):
        assert told["amount"].sum() == pytest.approx(difference[node], abs=0.005)
    named = [sum(each["amount"] for each in deals) for deals in rows["deals"]]
    of_deals = rows["cause"].ne("not_yet_created")
    assert np.allclose((named + rows["other_amount"])[of_deals], rows["amount"][of_deals], atol=1e-6)


@settings(max_examples=2, deadline=None)
@given(tables=happenings())
def test_going_back_negates_the_whole_and_what_came_and_went(tables):
    there, _ = walk(tables)
    back, _ = walk(tables, then=NOW, now=THEN, chances=(LATER, EARLIER))
    forth, home = there.rows(), back.rows()

    def total(rows, *causes):
        mine = rows[rows["node_type"].eq("company") & (rows["cause"].isin(causes) if causes else True)]
        return mine["amount"].sum()

    assert total(forth) == pytest.approx(-total(home), abs=1e-6)
    for cause in ("newly_created", "not_yet_created", "merged"):
        assert total(forth, cause) == pytest.approx(-total(home, cause), abs=1e-6)
