"""Local midnights, fiscal periods, and the values calendar.json may hold."""

import json
from datetime import date, timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.calendar import DATE, INSTANT, Calendar
from crm.errors import DataUnusable, UsageError

ZONES = ("UTC", "Europe/Amsterdam", "America/New_York", "Asia/Kolkata", "Pacific/Auckland", "America/Sao_Paulo")
DAYS = st.dates(date(1990, 1, 1), date(2060, 12, 31))
FOUR_FOUR_FIVE = (
    (date(2025, 12, 29), date(2026, 3, 30), "P1"),
    (date(2026, 3, 30), date(2026, 6, 29), "P2"),
)


def instant(text: str) -> pd.Timestamp:
    return pd.Timestamp(text).as_unit("us")


def instants(*texts: str | None) -> pd.Series:
    return pd.Series([pd.Timestamp(text) for text in texts], dtype=INSTANT)


@st.composite
def calendars(draw: st.DrawFn) -> Calendar:
    listed: tuple[tuple[date, date, str], ...] = ()
    if draw(st.booleans()):
        edges = sorted(draw(st.sets(st.dates(date(2024, 1, 1), date(2027, 12, 31)), min_size=2, max_size=6)))
        listed = tuple((edges[i], edges[i + 1], f"P{i}") for i in range(len(edges) - 1))
    return Calendar(
        "EUR",
        time_zone=draw(st.sampled_from(ZONES)),
        fiscal_year_start_month=draw(st.integers(1, 12)),
        period=draw(st.sampled_from(("quarter", "month"))),
        listed_periods=listed,
    )


@given(calendars(), DAYS)
def test_periods_follow_one_another_without_gap_or_overlap(calendar: Calendar, day: date):
    period = calendar.period_holding(day)
    assert period.start <= day < period.end
    assert calendar.next_period(period).start == period.end
    assert calendar.previous_period(period).end == period.start
    assert calendar.next_period(calendar.previous_period(period)) == period
    assert calendar.period_starting(period.start) == period


@given(calendars(), DAYS, st.integers(0, 86_399))
def test_the_period_of_an_instant_holds_it(calendar: Calendar, day: date, second: int):
    moment = pd.Timestamp(day, tz="UTC").as_unit("us") + pd.Timedelta(second, "s")
    period = calendar.period_of(moment)
    assert period.start_at <= moment < period.end_at
    assert period.start_at == calendar.midnight(period.start)
    assert calendar.midnight(calendar.local_day(moment)) <= moment


@given(calendars(), st.lists(st.datetimes(pd.Timestamp("2015-01-01"), pd.Timestamp("2035-01-01")), max_size=20))
def test_many_instants_are_placed_as_each_alone(calendar: Calendar, moments: list):
    series = pd.Series([pd.NaT, *moments], dtype=DATE).dt.tz_localize("UTC")
    frame = calendar.period_frame(series)
    assert list(map(str, frame.dtypes)) == [DATE, DATE, INSTANT, INSTANT]
    assert frame.iloc[0].isna().all()
    for place, moment in enumerate(series.iloc[1:], start=1):
        period = calendar.period_of(moment)
        assert (frame["start"][place].date(), frame["end"][place].date()) == (period.start, period.end)
        assert (frame["start_at"][place], frame["end_at"][place]) == (period.start_at, period.end_at)
    days = calendar.local_days(series)
    assert [day.date() for day in days.iloc[1:]] == [calendar.local_day(moment) for moment in series.iloc[1:]]
    assert calendar.midnights(days).iloc[1:].tolist() == [calendar.midnight(day) for day in days.iloc[1:]]


def test_midnight_follows_summer_time():
    calendar = Calendar("EUR", time_zone="Europe/Amsterdam")
    assert calendar.midnight(date(2026, 3, 29)) == instant("2026-03-28T23:00Z")
    assert calendar.midnight(date(2026, 3, 30)) == instant("2026-03-29T22:00Z")


def test_a_day_whose_midnight_is_skipped_starts_when_the_clock_jumps():
    calendar = Calendar("BRL", time_zone="America/Sao_Paulo")
    assert calendar.midnight(date(2018, 11, 4)) == instant("2018-11-04T03:00Z")


def test_a_day_with_two_midnights_starts_at_the_first():
    calendar = Calendar("CUP", time_zone="America/Havana")
    assert calendar.midnight(date(2023, 11, 5)) == instant("2023-11-05T04:00Z")


@pytest.mark.parametrize(
    ("start_month", "day", "label", "start"),
    [
        (1, date(2026, 2, 10), "FY2026 Q1", date(2026, 1, 1)),
        (2, date(2026, 2, 1), "FY2027 Q1", date(2026, 2, 1)),
        (2, date(2026, 1, 31), "FY2026 Q4", date(2025, 11, 1)),
        (10, date(2026, 9, 30), "FY2026 Q4", date(2026, 7, 1)),
    ],
)
def test_a_fiscal_year_is_named_by_the_year_in_which_it_ends(start_month: int, day: date, label: str, start: date):
    period = Calendar("EUR", fiscal_year_start_month=start_month).period_holding(day)
    assert (period.label, period.start) == (label, start)


def test_months_are_periods_where_the_calendar_says_so():
    period = Calendar("EUR", period="month").period_holding(date(2026, 3, 31))
    assert (period.start, period.end, period.label) == (date(2026, 3, 1), date(2026, 4, 1), "2026-03")


def test_listed_periods_go_on_by_the_rule_beyond_both_ends():
    calendar = Calendar("EUR", listed_periods=FOUR_FOUR_FIVE)
    assert calendar.period_holding(date(2026, 3, 29)).label == "P1"
    after = calendar.period_holding(date(2026, 6, 29))
    assert (after.start, after.end, after.label) == (date(2026, 6, 29), date(2026, 9, 29), "FY2026 Q3")
    before = calendar.period_holding(date(2025, 12, 28))
    assert (before.start, before.end) == (date(2025, 9, 29), date(2025, 12, 29))


def test_listed_periods_with_a_gap_are_refused():
    with pytest.raises(DataUnusable) as refused:
        Calendar("EUR", listed_periods=(FOUR_FOUR_FIVE[0], (date(2026, 4, 1), date(2026, 7, 1), "P2")))
    assert "P1 and P2" in refused.value.details[0].where


def test_a_day_on_which_no_period_starts_names_those_around_it():
    with pytest.raises(UsageError) as refused:
        Calendar("EUR").period_starting(date(2026, 2, 1))
    assert refused.value.details[0].next_step == "Use 2026-01-01 (FY2026 Q1) or 2026-04-01 (FY2026 Q2)."


def test_periods_between_two_moments_are_all_that_overlap():
    calendar = Calendar("EUR")
    starts = [str(p.start) for p in calendar.periods_between(instant("2026-02-01T00Z"), instant("2026-07-01T00Z"))]
    assert starts == ["2026-01-01", "2026-04-01"]
    starts = [str(p.start) for p in calendar.periods_between(instant("2026-02-01T00Z"), instant("2026-07-01T00:01Z"))]
    assert starts == ["2026-01-01", "2026-04-01", "2026-07-01"]


@given(st.sampled_from(ZONES), DAYS, st.integers(1, 30), st.integers(0, 100))
def test_moments_are_evenly_spaced_local_midnights(zone: str, first: date, every_days: int, days: int):
    calendar = Calendar("EUR", time_zone=zone)
    last = calendar.midnight(first + timedelta(days=days))
    found = [calendar.local_day(moment) for moment in calendar.moments(calendar.midnight(first), last, every_days)]
    days_between = [first + timedelta(days=n) for n in range(days + 1)]
    assert found == [day for day in days_between if (day - date(1970, 1, 5)).days % every_days == 0]


def test_weekly_moments_are_mondays():
    found = Calendar("EUR").moments(instant("2026-01-01T00Z"), instant("2026-01-19T00Z"))
    assert found == [instant("2026-01-05T00Z"), instant("2026-01-12T00Z"), instant("2026-01-19T00Z")]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-01", "2026-01-01T05:00Z"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00Z"),
        ("2026-01-01 01:30", "2026-01-01T01:30Z"),
        ("2026-01-01T01:00:00+02:00", "2025-12-31T23:00Z"),
    ],
)
def test_a_moment_is_a_local_day_or_an_instant(text: str, moment: str):
    assert Calendar("USD", time_zone="America/New_York").parse_moment(text) == instant(moment)


@pytest.mark.parametrize(
    "text", ["01/02/2026", "2026-13-01", "yesterday", "2026", "", "2026-02-30T10:00Z", "0001-01-01"]
)
def test_a_moment_that_is_none_is_refused(text: str):
    with pytest.raises(UsageError):
        Calendar("USD").parse_moment(text)


@given(calendars())
def test_a_calendar_survives_being_stored(calendar: Calendar):
    assert Calendar.from_dict(json.loads(json.dumps(calendar.to_dict()))) == calendar


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("time_zone", "Europe/Nowhere"),
        ("time_zone", "../etc/passwd"),
        ("time_zone", 1),
        ("fiscal_year_start_month", 13),
        ("fiscal_year_start_month", "1"),
        ("fiscal_year_start_month", True),
        ("period", "week"),
        ("rates", "spot"),
        ("books_close_days", -1),
        ("stable_fields", "amount"),
        ("stable_fields", [1]),
        ("calls", "sum"),
        ("base_currency", ""),
        ("base_currency", None),
        ("timezone", "UTC"),
    ],
)
def test_a_bad_value_is_refused_by_its_key(key: str, value: object):
    with pytest.raises(DataUnusable) as refused:
        Calendar.from_dict({"base_currency": "EUR"} | {key: value})
    assert [detail.where for detail in refused.value.details] == [f"calendar.json, {key}"]
