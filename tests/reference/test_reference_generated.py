"""Every compiled feature equals its plain reference on CRMs made up by Hypothesis, too."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from references import REFERENCES, TOLERANCE, Company, Known

from crm.history import build_history, snapshot_spine
from crm.tables import CrmTables
from features.build import build_features
from features.catalogue import BY_NAME
from tests.invariants.generated_crms import GENERATED, LAST, OWN_FIELDS, crms, instant

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)


def own_field(deal: Known, name: str) -> float | str | None:
    """A custom field: as it is, yes as 1 and no as 0, dates in local days, instants in days from the moment."""
    kind, field = name.split(":")
    value = deal.value(field)
    if value is None or kind == "category":
        return value
    if kind == "number":
        return float(value)
    return float((value - deal.today).days) if kind == "days_to" else -deal.days_since(value)


def assert_equals_reference(tables: CrmTables, moments: list[pd.Timestamp]) -> None:
    company = Company(tables, build_history(tables))
    spine = snapshot_spine(company.history, moments)
    loaded = spine["deal_id"].str.startswith("b") & ~spine["deal_id"].eq("b1")  # all alike
    built = build_features(tables, company.history, spine[~loaded], threads=1)
    asked = [Known(company, deal_id, as_of) for deal_id, as_of in zip(built["deal_id"], built["as_of"], strict=True)]
    names = [*REFERENCES, *(name for name in built if ":" in name)]
    assert len(names) == len(REFERENCES) + len(OWN_FIELDS)
    for name in names:
        expected = [REFERENCES[name](deal) if name in REFERENCES else own_field(deal, name) for deal in asked]
        if BY_NAME[name].kind == "category":
            assert built[name].astype(object).where(built[name].notna(), None).tolist() == expected, name
        else:
            expected = np.array(expected, dtype=float)
            np.testing.assert_allclose(built[name], expected, **TOLERANCE, err_msg=name)


@pytest.mark.slow
@settings(max_examples=20, deadline=None, phases=GENERATED, derandomize=True, suppress_health_check=SLOW)
@given(tables=crms(), first=st.integers(5, LAST), second=st.integers(5, LAST))
def test_features_of_any_crm_equal_their_references(tables, first, second):
    assert_equals_reference(tables, sorted({instant(first), instant(second) + pd.Timedelta(1, "us")}))
