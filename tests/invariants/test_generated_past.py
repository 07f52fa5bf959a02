"""Of CRMs made up by Hypothesis, too, features as of T are those of the export that ends at T."""

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kept_companies import assert_same_features

from crm.history import build_history, snapshot_spine
from crm.truncation import truncate_export
from features.build import build_features
from tests.invariants.generated_crms import GENERATED, LAST, OWN_FIELDS, crms, instant

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, phases=GENERATED, derandomize=True, suppress_health_check=SLOW)
@given(tables=crms(), cut=st.integers(10, LAST), back=st.integers(0, 40))
def test_features_of_any_crm_are_those_of_its_export_cut_at_the_moment(tables, cut, back):
    history = build_history(tables)
    moments = [instant(max(0, cut - back)) + pd.Timedelta(1, "us"), instant(cut)]
    spine = snapshot_spine(history, moments)
    truncated = truncate_export(tables, instant(cut), history)
    expected = build_features(tables, history, spine, threads=1)
    assert len(set(expected.columns) & {name for name in expected if ":" in name}) == len(OWN_FIELDS)
    assert_same_features(build_features(truncated, build_history(truncated), spine, threads=1), expected)
