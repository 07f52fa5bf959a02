"""Two minutes of what `make soak` does for half an hour."""

import pytest

from benchmarks.soak import soak

pytestmark = pytest.mark.slow


def test_under_load_with_promotions_events_and_restarts_no_request_fails_and_memory_stays(workspace):
    assert soak(workspace, seconds=120, every=3.0, report_every=30) == []
