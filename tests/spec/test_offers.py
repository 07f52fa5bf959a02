"""What is on offer, the CRM's own fields, and where the moment lies in the period."""

from dataclasses import replace

import pandas as pd
import pytest
from crm_by_hand import change, crm, feature_of, features_of

from crm.tables import CrmTables, FieldClass

DEAL = {"deal_id": "d1", "created_at": "2026-01-01", "stage": "Qualify"}


def test_products_and_discounts_count_from_when_a_line_was_added():
    lines = [
        {"deal_id": "d1", "product": product, "quantity": 2.0, "amount": amount, "list_price": price, "added_at": day}
        for product, amount, price, day in (
            ("p1", 160.0, 100.0, "2026-02-01"),  # 20 % off
            ("p2", 200.0, 100.0, "2026-02-02"),  # nothing off
            ("p1", 120.0, None, "2026-02-03"),
            ("p3", 50.0, 100.0, None),
        )
    ]
    tables = crm([DEAL], line_items=lines)
    days = ("2026-01-31", "2026-02-01", "2026-02-03")
    assert [feature_of(tables, "products", day) for day in days] == [0, 1, 2]
    assert [feature_of(tables, "mean_discount", day) for day in days[1:]] == pytest.approx([0.2, 0.1])
    assert features_of(crm([DEAL]), ("d1", "2026-02-03"), names=["products"]).isna()["products"].all()


def test_terms_of_the_contract_on_offer():
    terms = {"amount": 200.0, "arr_change": 50.0, "term_months": 24.0, "ends_on": "2026-03-01"}
    deal = DEAL | terms | {"partner_account_id": "a9"}
    tables = crm([deal], tracked=[*terms, "partner_account_id"])
    names = ["arr_change_share", "term_months", "days_to_contract_end", "partner_involved"]
    assert features_of(tables, ("d1", "2026-02-01"), names=names)[names].iloc[0].tolist() == [0.25, 24, 28, 1]


def with_own_field(tables: CrmTables, name: str, value: object, dtype: str) -> CrmTables:
    deals = tables.get("deals")
    values = [value if deal_id == "d1" else None for deal_id in deals["deal_id"]]
    deals = deals.assign(**{name: pd.Series(values, index=deals.index).astype(dtype)})
    classes = {**tables.field_classes, name: FieldClass("tracked", None, 1.0)}
    return replace(tables.with_tables(deals=deals), field_classes=classes)


@pytest.mark.parametrize(
    ("name", "now", "before", "dtype", "expected"),
    [
        ("category:rival {name}", "Acme", "none's", "str", ["none's", "Acme"]),
        ("number:seats", 7.0, "5", "float64", [5, 7]),
        ("number:is_key", True, "false", "boolean", [0, 1]),
        ("days_to:pilot", pd.Timestamp("2026-03-01"), "2026-02-11", "datetime64[us]", [11, 27]),
        (
            "days_to_instant:kick_off",
            pd.Timestamp("2026-03-01T12:00", tz="UTC"),
            "2026-02-01T06:00:00Z",
            "datetime64[us, UTC]",
            [1.25, 27.5],
        ),
    ],
)
def test_a_field_of_the_crms_own_is_read_as_of_the_moment(name, now, before, dtype, expected):
    field = name.split(":")[1]
    written = str(now).lower() if dtype == "boolean" else str(now)
    tables = crm([DEAL], deal_history=[change("d1", "2026-02-02", field, before, written)])
    tables = with_own_field(tables, field, now, dtype)
    asked = ("d1", "2026-01-31"), ("d1", "2026-02-02")
    assert features_of(tables, *asked)[name].tolist() == expected
    assert features_of(tables, *asked, names=[name])[name].tolist() == expected


@pytest.mark.parametrize(
    ("moment", "days_left", "working_days_left", "until_close", "close_before_end"),
    [
        ("2026-01-01", 90, 64, 68, 22),  # a Thursday
        ("2026-03-09", 23, 17, 1, 22),
        ("2026-03-13", 19, 13, -3, 22),
        ("2026-04-01", 91, 65, -22, 113),
    ],
)
def test_where_the_moment_lies_in_the_period(moment, days_left, working_days_left, until_close, close_before_end):
    tables = crm([DEAL | {"close_date": "2026-03-10"}], tracked=["close_date"])
    names = ["days_to_period_end", "business_days_left", "days_to_close_date", "close_date_before_period_end"]
    built = features_of(tables, ("d1", moment), names=names)[names].iloc[0].tolist()
    assert built == [days_left, working_days_left, until_close, close_before_end]
