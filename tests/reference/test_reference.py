"""Every compiled feature equals its plain reference, deal by deal, on small companies kept in different ways."""

from datetime import date
from functools import cache

import numpy as np
import pandas as pd
import pytest
from references import REFERENCES, TOLERANCE, Company, Known
from untidy import with_bulk_load, with_offers, with_untidiness

from crm.history import build_history, snapshot_spine
from crm.synthetic import CompanyConfig, export, simulate
from features.build import build_features
from features.catalogue import BY_NAME, CATALOGUE
from features.sources import build_sources

HANDFUL = {"n_reps": 4, "n_teams": 2, "n_regions": 2, "deals_per_week": 2.0, "days": 430}
LOADED = "closings leave no row, tracking began late, much was loaded in bulk"
COMPANIES = {
    "everything happens": CompanyConfig(
        seed=5,
        currencies=("EUR", "USD"),
        team_moves=True,
        renewals=True,
        reopened_wins=True,
        missing_amounts=0.3,
        time_zone="America/New_York",
        fiscal_year_start_month=2,
        **HANDFUL,
    ),
    LOADED: CompanyConfig(seed=6, log_closings="silent", initial_rows=False, tracked_from=date(2023, 5, 1), **HANDFUL),
}
DEALS, MOMENTS = 40, 6


@cache
def companies() -> dict[str, Company]:
    exported = {name: with_offers(with_untidiness(export(simulate(config)))) for name, config in COMPANIES.items()}
    exported[LOADED] = with_bulk_load(exported[LOADED], pd.Timestamp("2023-04-03 12:00:07", tz="UTC"))
    return {name: Company(tables, build_history(tables)) for name, tables in exported.items()}


@cache
def compared(name: str) -> pd.DataFrame:
    """The built features of a handful of deals at a handful of moments, of weeks and of odd instants."""
    company = companies()[name]
    begun = pd.Timestamp("2023-01-20", tz="UTC")
    days = np.linspace(0, (company.tables.as_of - begun).days, MOMENTS)
    moments = [(begun + pd.Timedelta(day, "D")).round("us") for day in days]
    spine = snapshot_spine(company.history, moments)
    spells, changes = company.history.spells, company.history.changes
    reopened = spells["deal_id"][spells["deal_id"].duplicated()]
    handed_over = changes["deal_id"][changes["field"] == "owner_id"]
    chosen = spine.groupby("as_of").sample(frac=1, random_state=1).groupby("as_of").head(DEALS // 4)
    rare = spine[spine["deal_id"].isin([*reopened, *handed_over])]
    chosen = pd.concat([rare, chosen]).drop_duplicates(ignore_index=True)
    return build_features(company.tables, company.history, chosen)


@pytest.mark.parametrize("name", list(COMPANIES))
@pytest.mark.parametrize("feature", [declared.name for declared in CATALOGUE])
def test_a_feature_equals_its_reference(name, feature):
    built = compared(name)
    expected = [
        REFERENCES[feature](Known(companies()[name], deal_id, as_of))
        for deal_id, as_of in zip(built["deal_id"], built["as_of"], strict=True)
    ]
    if BY_NAME[feature].kind == "category":
        pd.testing.assert_series_equal(built[feature], pd.Series(expected, dtype="str", name=feature))
    else:
        np.testing.assert_allclose(built[feature], np.array(expected, dtype=float), **TOLERANCE)


SUMMED = {
    "change": ("old_number", "new_number"),
    "activity": ("duration_minutes", "reply_days"),
    "line": ("discount",),
    "outcome": ("step", "days_open", "pushes", "amount_base"),
    "passage": ("days",),
}


@pytest.mark.parametrize("name", list(COMPANIES))
def test_what_is_summed_adds_up_to_the_same_in_any_order(name):
    relations = build_sources(companies()[name].tables, companies()[name].history).relations
    for relation, columns in SUMMED.items():
        values = relations[relation].select(columns).to_pandas().to_numpy(dtype=float)
        values = values[np.isfinite(values)]
        assert len(values) > 0 and (values * 2**24 % 1 == 0).all(), f"{relation}: not multiples of 2**-24"
        assert np.abs(values).sum() < 2**29, f"{relation}: doubles do not hold the sum exactly"


def test_every_feature_has_a_reference():
    assert set(REFERENCES) == {declared.name for declared in CATALOGUE}


def test_the_compared_rows_hold_every_kind_of_value():
    """Otherwise an equality above would be one of constants: each feature varies, and most are somewhere unknown."""
    rows = pd.concat([compared(name) for name in COMPANIES], ignore_index=True)
    assert 40 <= rows["deal_id"].nunique() <= 200
    assert [name for name in BY_NAME if rows[name].nunique() < 2] == []
    unknown = [name for name in BY_NAME if rows[name].isna().any()]
    assert len(unknown) > len(BY_NAME) / 2
