"""What a connector makes of the other side's answers, where no server is needed to see it."""

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from crm.connectors.tryton_history import fewest_moments, field_changes
from crm.connectors.tryton_rows import rates_to_base

START = pd.Timestamp("2026-01-01T00:00:00Z")


def spans_of(lengths: list[list[int]]) -> list[tuple[pd.Timestamp, pd.Timestamp, int]]:
    """For each record its spans, one after the other, of so many hours each."""
    found = []
    for record, hours in enumerate(lengths):
        at = START
        for length in hours:
            end = at + pd.Timedelta(length, "h")
            found.append((at, end - pd.Timedelta(1, "us"), record))
            at = end
    return found


@given(st.lists(st.lists(st.integers(1, 50), max_size=6), max_size=8))
def test_every_span_is_served_once_by_a_moment_within_it(lengths):
    spans = spans_of(lengths)
    served = [(moment, span) for moment, of_moment in fewest_moments(spans) for span in of_moment]
    assert sorted(span for _, span in served) == sorted(spans)
    assert all(begin <= moment <= end for moment, (begin, end, _) in served)
    assert all(len({record for *_, record in of_moment}) == len(of_moment) for _, of_moment in fewest_moments(spans))


def test_revisions_of_many_records_are_read_at_few_moments():
    # Ten records written to at noon of four days: one moment between any two days does for all of them.
    assert len(list(fewest_moments(spans_of([[24] * 4] * 10)))) == 4


def test_a_first_value_is_no_change_and_neither_is_one_first_seen_later():
    assert list(field_changes(None, {"stage": "lead", "amount": None}, is_birth=True)) == [("stage", None, "lead")]
    assert list(field_changes(None, {"stage": "won"}, is_birth=False)) == [("stage", "won", "won")]
    before, after = {"stage": "lead", "amount": "5"}, {"stage": "lead", "amount": None}
    assert list(field_changes(before, after, is_birth=False)) == [("amount", "5", None)]


def test_a_rate_to_base_changes_when_either_currency_does():
    rates = {"EUR": {"2026-01-01": 1.0, "2026-03-01": 2.0}, "USD": {"2026-01-01": 4.0, "2026-02-01": 5.0}}
    rows = [(row["valid_from"], float(row["rate_to_base"])) for row in rates_to_base(rates, "EUR")]
    assert rows == [("2026-01-01", 0.25), ("2026-02-01", 0.2), ("2026-03-01", 0.4)]
    assert list(rates_to_base({"USD": {"2026-01-01": 4.0}}, "EUR")) == []  # never 1.0
