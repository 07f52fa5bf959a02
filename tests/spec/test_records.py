"""What the past of others says of a deal: drawn toward the larger group, and only what was known by then."""

import pytest
from crm_by_hand import Row, change, crm, feature_of, features_of

DEAL = {"deal_id": "d1", "created_at": "2026-06-01", "stage": "Qualify"}
TRACKED = ["owner_id", "account_id", "amount", "stage", "currency"]
NAN = float("nan")


def ended(deal_id: str, stage: str, **more: object) -> Row:
    """Created on 1 January, ended on 31 January: 30 days."""
    return {"deal_id": deal_id, "created_at": "2026-01-01", "stage": stage, "closed_at": "2026-01-31"} | more


def test_an_owners_win_rate_leans_on_the_companys():
    deals = [
        DEAL | {"owner_id": "u1"},
        ended("w1", "Won", owner_id="u1"),
        ended("l1", "Lost", owner_id="u1"),
        ended("l2", "Lost", owner_id="u2"),
    ]
    company = (1 + 1) / (3 + 4)
    rate = feature_of(crm(deals, tracked=TRACKED), "owner_wins_to_company", "2026-06-02")
    assert rate == pytest.approx((1 + 20 * company) / (2 + 20) / company)


def test_a_segments_amounts_and_cycles_lean_on_the_companys():
    asked = {"d1": "a1", "d2": "a4", "d3": None}
    segments = {"a1": "SMB", "a2": "SMB", "a3": "Enterprise", "a4": None}
    accounts = [{"account_id": account, "segment": segment} for account, segment in segments.items()]
    euro = {"currency": "EUR"}
    deals = [
        *(DEAL | euro | {"deal_id": deal, "account_id": account, "amount": 300.0} for deal, account in asked.items()),
        ended("w1", "Won", account_id="a2", amount=100.0, **euro),
        ended("w2", "Won", account_id="a3", amount=200.0, closed_at="2026-03-02", **euro),  # 60 days
    ]
    tables = crm(deals, accounts=accounts, tracked=TRACKED)
    names = ["amount_to_usual", "age_pace"]
    built = features_of(tables, *((deal, "2026-06-11") for deal in asked), names=names)
    in_smb = [300 / ((100 + 20 * 150) / 21), 10 / ((30 + 10 * 45) / 11)]
    of_all = [300 / 150, 10 / 45]  # no account, or none whose segment is known
    assert built[names].to_numpy().tolist() == [pytest.approx(values) for values in (in_smb, of_all, of_all)]


def test_an_amount_is_compared_with_what_the_account_and_others_were_won_at():
    euro = {"currency": "EUR"}
    deals = [
        DEAL | euro | {"account_id": "a1", "amount": 300.0},
        ended("w1", "Won", account_id="a1", amount=100.0, **euro),
        ended("w2", "Won", account_id="a2", amount=200.0, **euro),
        ended("w3", "Won", account_id="a1", closed_at="2026-02-10", **euro),
    ]
    tables = crm(deals, tracked=TRACKED)
    # 150 on average; no segment is known, so the account's 100 leans on those 150 as on three more deals.
    assert feature_of(tables, "amount_to_usual", "2026-06-02") == pytest.approx(300 / ((100 + 3 * 150) / 4))
    assert feature_of(tables, "account_wins", "2026-06-02") == 2
    assert feature_of(tables, "days_since_account_win", "2026-06-02") == 112


MOVES = [
    change("w1", "2026-01-11", "stage", "Qualify", "Offer"),  # 10 days in Qualify, 20 in Offer
    change("w1", "2026-01-31", "stage", "Offer", "Won"),
    change("l1", "2026-01-31", "stage", "Qualify", "Lost"),  # 30 days in Qualify
    change("d1", "2026-06-06", "stage", "Qualify", "Offer"),
]
PASSED = [DEAL | {"stage": "Offer"}, ended("w1", "Won"), ended("l1", "Lost")]


def test_a_stage_wins_as_often_as_the_deals_that_came_to_it():
    tables = crm(PASSED, deal_history=MOVES, tracked=["stage"])
    company = (1 + 1) / (2 + 4)
    rates = [feature_of(tables, "stage_win_rate", day) for day in ("2026-06-05", "2026-06-06")]
    assert rates == pytest.approx([(1 + 20 * company) / (2 + 20), (1 + 20 * company) / (1 + 20)])


def test_a_stage_is_slow_by_the_days_that_won_deals_spent_in_it():
    tables = crm(PASSED, deal_history=MOVES, tracked=["stage"])
    # On 5 June 4 days in Qualify, where the won deal spent 10; on 16 June 10 days in Offer, where it spent 20.
    pace = [feature_of(tables, "stage_pace", day) for day in ("2026-06-05", "2026-06-16")]
    assert pace == pytest.approx([4 / ((10 + 5 * 4) / 6), 10 / ((20 + 5 * 10) / 6)])
    assert feature_of(tables, "age_pace", "2026-06-16") == pytest.approx(15 / 30)
    assert feature_of(tables, "owner_cycle_to_company", "2026-06-16") == 1.0  # nobody else won


def test_what_ends_at_the_moment_counts_and_later_does_not():
    tables = crm([*PASSED, ended("o1", "Qualify", closed_at=None)], deal_history=MOVES, tracked=["stage"])
    built = features_of(tables, ("o1", "2026-01-30T23:59:59"), ("o1", "2026-01-31"), names=["stage_win_rate"])
    assert built["stage_win_rate"].tolist() == pytest.approx([1 / 4, (1 + 20 / 3) / (2 + 20)])


def test_deals_loaded_in_bulk_tell_who_won_but_not_how_long_it_took():
    at = "2026-01-10T12:00:07"
    loaded = [ended(f"b{n}", "Won", created_at=at, owner_id="u1") for n in range(100)]
    tables = crm([DEAL | {"owner_id": "u1"}, *loaded], deal_history=[], tracked=TRACKED)
    built = features_of(tables, ("d1", "2026-06-11")).iloc[0]
    company = (100 + 1) / (100 + 4)
    assert built["owner_wins_to_company"] == pytest.approx((100 + 20 * company) / 120 / company)
    assert built[["age_pace", "owner_cycle_to_company"]].isna().all()
    assert built["stage_pace"] == 1.0  # nobody's days in this stage are known


def test_pushes_count_of_deals_whose_close_date_was_recorded_all_along():
    pushed = [
        change("w1", "2026-01-10", "close_date", "2026-02-01", "2026-03-01"),
        change("w1", "2026-01-20", "close_date", "2026-03-01", "2026-04-01"),
        change("late", "2026-04-10", "close_date", "2026-05-01", "2026-06-01"),
    ]
    deals = [
        DEAL | {"owner_id": "u1"},
        ended("w1", "Won", owner_id="u1"),  # two pushes, but nobody knows of those before 10 January
        ended("late", "Lost", owner_id="u1", created_at="2026-04-01", closed_at="2026-05-01"),  # one push
        ended("idle", "Lost", owner_id="u2", created_at="2026-04-01", closed_at="2026-05-01"),  # none
    ]
    tables = crm(deals, deal_history=pushed, tracked=TRACKED, recorded_since=None)
    built = features_of(tables, ("d1", "2026-06-02"), ("w1", "2026-01-15"), names=["owner_pushes_to_company"])
    assert built["owner_pushes_to_company"].tolist() == pytest.approx(
        [(1 + 10 * 0.5) / (1 + 10) / 0.5, NAN], nan_ok=True
    )
