"""Amounts in base currency: by plan or dated rates, and unknown where no rate is."""

import pandas as pd
import pytest

from crm.calendar import INSTANT, Calendar
from crm.contract import empty_frame
from crm.money import Rate, RateBook
from crm.tables import CrmTables

NAN = float("nan")


def instants(*days: str | None) -> pd.Series:
    return pd.Series([pd.Timestamp(day, tz="UTC") if day else pd.NaT for day in days], dtype=INSTANT)


def rate_book(rates: str = "plan", currencies: tuple[str | None, ...] = ("EUR", "USD")) -> RateBook:
    deals = empty_frame("deals").reindex(range(len(currencies))).assign(currency=pd.Series(currencies, dtype="str"))
    exchange_rates = pd.DataFrame(
        {
            "currency": pd.Series(["USD", "GBP", "USD"], dtype="str"),
            "valid_from": instants("2026-02-15", "2026-01-01", "2026-01-01"),
            "rate_to_base": [0.8, 1.2, 0.9],
        }
    )
    calendar = Calendar("EUR", rates=rates)  # type: ignore[arg-type]
    tables = {"deals": deals, "exchange_rates": exchange_rates}
    return RateBook.from_tables(CrmTables(tables, calendar, pd.Timestamp("2026-06-01", tz="UTC"), "1", {}))


def converted(book: RateBook, currency: str | None, day: str | None, amount: float = 100.0) -> float:
    money = book.to_base(pd.Series([amount]), pd.Series([currency], dtype="str"), instants(day))
    return float(money.iloc[0])


def test_base_currency_needs_no_rate():
    assert converted(rate_book(), "EUR", "1999-01-01") == 100.0


def test_the_plan_rate_is_the_one_at_the_start_of_the_period():
    assert converted(rate_book("plan"), "USD", "2026-03-31") == pytest.approx(90.0)
    assert converted(rate_book("plan"), "USD", "2026-04-01") == pytest.approx(80.0)


def test_the_dated_rate_is_the_one_at_the_moment():
    assert converted(rate_book("dated"), "USD", "2026-02-14") == pytest.approx(90.0)
    assert converted(rate_book("dated"), "USD", "2026-02-15") == pytest.approx(80.0)


@pytest.mark.parametrize(
    ("currency", "day", "amount"),
    [
        ("JPY", "2026-03-01", 100.0),
        ("USD", "2025-12-31", 100.0),
        (None, "2026-03-01", 100.0),
        ("USD", None, 100.0),
        ("USD", "2026-03-01", NAN),
        ("EUR", "2026-03-01", NAN),
    ],
)
def test_what_is_not_known_makes_the_money_unknown(currency: str | None, day: str | None, amount: float):
    assert pd.isna(converted(rate_book("dated"), currency, day, amount))


def test_money_is_in_base_currency_if_no_deal_names_one():
    assert converted(rate_book(currencies=(None, None)), None, "2026-03-01") == 100.0


def test_amounts_keep_their_order_and_index():
    amount = pd.Series([1.0, 2.0, 3.0, 4.0], index=[9, 2, 7, 4])
    currency = pd.Series(["USD", "EUR", "GBP", "USD"], index=amount.index, dtype="str")
    moments = instants("2026-03-01", "2026-01-01", "2026-01-01", "2026-01-01").set_axis(amount.index)
    money = rate_book("dated").to_base(amount, currency, moments)
    pd.testing.assert_series_equal(money, pd.Series([0.8, 2.0, 3.6, 3.6], index=amount.index))


def test_one_moment_may_stand_for_all():
    amount = pd.Series([1.0, 2.0])
    moment = pd.Timestamp("2026-01-10", tz="UTC")
    money = rate_book().to_base(amount, pd.Series(["USD", "EUR"], dtype="str"), moment)
    pd.testing.assert_series_equal(money, pd.Series([0.9, 2.0]))


def test_one_rate_is_the_one_that_amounts_are_converted_with():
    for rule in ("plan", "dated"):
        book = rate_book(rule)
        assert book.currencies == ["EUR", "GBP", "USD"]
        for day in ("2026-01-01", "2026-02-14", "2026-02-15", "2026-03-31", "2026-04-01"):
            told = book.rate_of("USD", pd.Timestamp(day, tz="UTC"))
            assert told is not None and told.to_base == pytest.approx(converted(book, "USD", day) / 100)


def test_the_base_currency_is_worth_itself_and_an_unknown_rate_is_none():
    book, day = rate_book("dated"), pd.Timestamp("2026-02-15", tz="UTC")
    assert book.rate_of("EUR", day) == Rate("EUR", 1.0, None)
    assert book.rate_of("USD", day) == Rate("USD", 0.8, day)
    assert book.rate_of("JPY", day) is None
    assert book.rate_of("USD", pd.Timestamp("2025-12-31", tz="UTC")) is None
