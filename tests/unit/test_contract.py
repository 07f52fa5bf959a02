"""The declared tables, and the reading of text into values."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.calendar import Calendar
from crm.contract import DTYPES, TABLES, empty_frame
from crm.values import Kind, format_values, infer_kind, parse_values

CALENDAR = Calendar("USD", time_zone="America/New_York")


def text(*values: str | None) -> pd.Series:
    return pd.Series(values, dtype="str")


def read(value: str, kind: Kind) -> object:
    parsed = parse_values(text(value), kind, CALENDAR)
    assert parsed.problems.isna().all(), parsed.problems[0]
    return parsed.values[0]


def refusal(value: str, kind: Kind) -> str:
    parsed = parse_values(text(value), kind, CALENDAR)
    assert parsed.values.isna().all()
    return str(parsed.problems[0])


@pytest.mark.parametrize("name", TABLES)
def test_a_table_says_what_it_is_and_what_each_column_means(name: str):
    spec = TABLES[name]
    assert spec.doc.endswith(".")
    assert all(column.doc for column in spec.columns.values())
    assert set(spec.key) <= set(spec.columns)
    frame = empty_frame(name)
    assert list(frame) == list(spec.columns)
    assert [str(dtype) for dtype in frame.dtypes] == [DTYPES[column.kind] for column in spec.columns.values()]


def test_only_a_deals_identity_creation_and_stage_are_required():
    assert TABLES["deals"].required == ("deal_id", "created_at", "stage")


@pytest.mark.parametrize("value", ["00600000012", "0", "1e5", "null", "  x "])
def test_identifiers_and_text_stay_as_they_are_written(value: str):
    assert read(value, "id") == value
    assert read(value, "text") == value


@pytest.mark.parametrize(
    ("value", "instant"),
    [
        ("2026-01-31T09:00:00Z", "2026-01-31T09:00Z"),
        ("2026-01-31 09:00:00", "2026-01-31T09:00Z"),
        ("2026-01-31 09:00:00.123456", "2026-01-31T09:00:00.123456Z"),
        ("2026-01-31T09:00:00.000+0200", "2026-01-31T07:00Z"),
        ("2026-01-31T09:00-05:00", "2026-01-31T14:00Z"),
        ("2026-07-01", "2026-07-01T04:00Z"),
        ("2026-01-01", "2026-01-01T05:00Z"),
    ],
)
def test_a_timestamp_is_iso_8601_and_a_day_alone_is_its_local_midnight(value: str, instant: str):
    assert read(value, "instant") == pd.Timestamp(instant)


@pytest.mark.parametrize("kind", ["date", "instant"])
@pytest.mark.parametrize("value", ["02/24/26", "24.02.2026", "2/4/2026 10:00", "24-02-2026"])
def test_a_day_that_could_be_a_month_is_refused_and_the_reason_given(value: str, kind: Kind):
    assert "could be day/month or month/day" in refusal(value, kind)


@pytest.mark.parametrize("value", ["2026-13-02", "2026-02-30"])
@pytest.mark.parametrize("kind", ["date", "instant"])
def test_a_day_that_never_was_is_refused(value: str, kind: Kind):
    assert "no such day" in refusal(value, kind)


@pytest.mark.parametrize("value", ["9999-12-31", "0001-01-01", "1899-12-31"])
@pytest.mark.parametrize("kind", ["date", "instant"])
def test_a_year_that_means_never_is_refused(value: str, kind: Kind):
    assert refusal(value, kind) == "the year lies between 1900 and 2199"


def test_a_time_of_day_in_a_date_is_refused():
    assert "without a time" in refusal("2026-01-31T00:00:00Z", "date")


@pytest.mark.parametrize(
    ("value", "number"), [("12.5", 12.5), ("-3", -3.0), (" 7 ", 7.0), (".5", 0.5), ("1e3", 1000.0)]
)
def test_a_number_has_digits_and_a_decimal_point(value: str, number: float):
    assert read(value, "number") == number


@pytest.mark.parametrize("value", ["1.234,56", "12,5", "1,234.56", "1,234"])
def test_a_comma_in_a_number_is_refused_never_guessed(value: str):
    assert "a comma could be either" in refusal(value, "number")


@pytest.mark.parametrize("value", ["NaN", "inf", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_refused(value: str):
    assert "finite" in refusal(value, "number")


@pytest.mark.parametrize("value", ["$5", "1_000", "0x10", "5 EUR", "n/a"])
def test_what_is_no_number_is_refused(value: str):
    assert refusal(value, "number") == "a number is written with digits and a decimal point"


def test_shares_and_whole_numbers_keep_their_bounds():
    assert refusal("1.2", "share") == "a share lies between 0 and 1"
    assert refusal("-0.1", "share") == "a share lies between 0 and 1"
    assert refusal("1.5", "integer") == "a whole number"
    assert (read("1", "share"), read("2.0", "integer")) == (1.0, 2.0)


def test_booleans_are_read_in_any_case():
    parsed = parse_values(text("TRUE", "yes", "1", "T", "False", "NO", "0", "f", None), "boolean", CALENDAR)
    assert parsed.values.tolist() == [True] * 4 + [False] * 4 + [pd.NA]
    assert refusal("maybe", "boolean") == "true or false"


@pytest.mark.parametrize("kind", DTYPES)
def test_empty_is_unknown_for_every_kind(kind: Kind):
    parsed = parse_values(text(None, None), kind, CALENDAR)
    assert parsed.values.isna().all() and parsed.problems.isna().all()
    assert str(parsed.values.dtype) == DTYPES[kind]
    assert str(parse_values(text(), kind, CALENDAR).values.dtype) == DTYPES[kind]


def test_values_keep_the_index_of_their_text():
    parsed = parse_values(text("1", "x", "1").set_axis([7, 3, 5]), "number", CALENDAR)
    assert parsed.values.index.tolist() == parsed.problems.index.tolist() == [7, 3, 5]
    assert parsed.values.loc[5] == 1.0


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (("1", "2.5", None), "number"),
        (("1", "0"), "number"),
        (("0042", "17"), "text"),
        (("12345678901234567",), "text"),
        (("2026-01-31",), "date"),
        (("2026-01-31", "2026-01-31T10:00Z"), "instant"),
        (("yes", "No"), "boolean"),
        (("1", "two"), "text"),
        (("02/24/26",), "text"),
        ((None, " "), None),
    ],
)
def test_a_custom_field_is_what_all_its_values_are(values: tuple, kind: Kind | None):
    assert infer_kind(text(*values), CALENDAR) == kind


@given(st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_survive_being_written(numbers: list):
    values = pd.Series(numbers, dtype="float64")
    parsed = parse_values(format_values(values, "number"), "number", CALENDAR)
    assert parsed.problems.isna().all()
    pd.testing.assert_series_equal(parsed.values, values, check_exact=True)


@given(st.lists(st.none() | st.datetimes(pd.Timestamp("1901-01-01"), pd.Timestamp("2199-12-30")), min_size=1))
def test_instants_and_dates_survive_being_written(moments: list):
    naive = pd.Series(moments, dtype=DTYPES["date"])
    for kind, values in (("instant", naive.dt.tz_localize("UTC")), ("date", naive.dt.normalize())):
        parsed = parse_values(format_values(values, kind), kind, CALENDAR)
        assert parsed.problems.isna().all()
        pd.testing.assert_series_equal(parsed.values, values)


@given(st.text(max_size=12), st.sampled_from([kind for kind in DTYPES if kind not in ("id", "text")]))
def test_any_text_is_a_value_unknown_or_refused_never_an_error(value: str, kind: Kind):
    parsed = parse_values(text(value), kind, CALENDAR)
    known, refused = parsed.values.notna()[0], parsed.problems.notna()[0]
    assert not (known and refused)
    assert known or refused or not value.strip()
    if known and kind == "number":
        assert math.isfinite(parsed.values[0])
