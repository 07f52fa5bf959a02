"""Synthetic companies simulated once for the tests of a process, and how they are compared."""

from dataclasses import replace
from datetime import date
from functools import cache

import pandas as pd
from pandas.testing import assert_frame_equal

from crm.synthetic import CompanyConfig, CompanyState, export, simulate
from crm.tables import CrmTables

SMALL = CompanyConfig(seed=7, n_reps=6, deals_per_week=10, days=550)
EVERYTHING = replace(
    SMALL,
    time_zone="Europe/Amsterdam",
    fiscal_year_start_month=2,
    currencies=("EUR", "USD"),
    team_moves=True,
    renewals=True,
    reopened_wins=True,
    regime_shift_on=date(2024, 1, 15),
)
EARLIER = date(2024, 2, 14)


@cache
def company(config: CompanyConfig = SMALL, until: date | None = None) -> CompanyState:
    return simulate(config, until)


@cache
def exported(config: CompanyConfig = SMALL) -> CrmTables:
    """The export of a company; switches of recording alone share one life."""
    return export(replace(company(lived(config)), config=config))


def lived(config: CompanyConfig) -> CompanyConfig:
    """The configuration with the switches of recording at their defaults."""
    kept = ("log_closings", "initial_rows", "tracked_from", "migration_on", "late_logging")
    return replace(config, **{name: getattr(CompanyConfig(), name) for name in kept})


def assert_same_tables(left: CrmTables, right: CrmTables) -> None:
    assert list(left.tables) == list(right.tables)
    for name in left.tables:
        assert_frame_equal(left.tables[name], right.tables[name], obj=name)


def history_of(tables: CrmTables, field: str) -> pd.DataFrame:
    history = tables.tables["deal_history"]
    return history[history["field"] == field]
