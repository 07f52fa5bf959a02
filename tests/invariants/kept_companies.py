"""Small synthetic companies, kept in every way their switches allow; two lives are shared by all."""

from dataclasses import replace
from datetime import date
from functools import cache

import pandas as pd

from crm.history import DealHistory, build_history, classify_fields, snapshot_spine
from crm.synthetic import CompanyConfig, CompanyState, export, simulate
from crm.tables import CrmTables
from features.build import build_features
from tests.reference.untidy import with_offers

PLAIN = CompanyConfig(seed=11, n_reps=4, n_teams=2, n_regions=2, deals_per_week=2.0, days=420)
EVENTFUL = replace(
    PLAIN,
    seed=12,
    time_zone="Europe/Amsterdam",
    fiscal_year_start_month=2,
    regime_shift_on=date(2023, 9, 1),
    currencies=("EUR", "USD"),
    team_moves=True,
    renewals=True,
    reopened_wins=True,
    missing_amounts=0.3,
)
KEPT = {
    "plain": PLAIN,
    "stage rows only": EVENTFUL,
    "all closings logged": replace(EVENTFUL, log_closings="all"),
    "silent closings": replace(EVENTFUL, log_closings="silent"),
    "no initial rows": replace(EVENTFUL, initial_rows=False),
    "tracked late": replace(EVENTFUL, tracked_from=date(2023, 6, 1), initial_rows=False),
    "migrated": replace(EVENTFUL, migration_on=date(2023, 5, 1)),
    "logged at once": replace(EVENTFUL, late_logging=False),
}
NOTHING_DECLARED = "nothing declared stable"
COMPANIES = [*KEPT, NOTHING_DECLARED]


@cache
def life(config: CompanyConfig) -> CompanyState:
    return simulate(config)


def state_of(name: str) -> CompanyState:
    """The company with its switches of recording; its life is that of PLAIN or EVENTFUL."""
    config = KEPT.get(name, EVENTFUL)
    return replace(life(PLAIN if config.seed == PLAIN.seed else EVENTFUL), config=config)


def taken(name: str, moment: pd.Timestamp | None = None) -> CrmTables:
    """The export of a company taken at a moment; default: at the end of its life."""
    tables = export(state_of(name), moment)
    return with_offers(without_declarations(tables) if name == NOTHING_DECLARED else tables)


def without_declarations(tables: CrmTables) -> CrmTables:
    """First owners and accounts partly unrecorded; won deals go to customer care without a row; nothing is stable."""
    history, deals = tables.get("deal_history"), tables.get("deals")
    forgotten = history["field"].isin(["owner_id", "account_id"]) & history["deal_id"].str.endswith(("0", "3", "6"))
    deals = deals.assign(owner_id=deals["owner_id"].mask(deals["stage"] == "Closed Won", "customer care"))
    tables = tables.with_tables(deal_history=history[~forgotten].reset_index(drop=True), deals=deals)
    tables = replace(tables, calendar=replace(tables.calendar, stable_fields=("currency",)))
    return replace(tables, field_classes=classify_fields(tables))


@cache
def tables_of(name: str) -> CrmTables:
    return taken(name)


@cache
def history_of(name: str) -> DealHistory:
    return build_history(tables_of(name))


def features_at(tables: CrmTables, history: DealHistory, moments: list[pd.Timestamp]) -> pd.DataFrame:
    """The features of all deals open at the moments, by moment and deal."""
    return build_features(tables, history, snapshot_spine(history, moments), threads=1)


def assert_same_features(got: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Equal values, to the last digit, and unknown where unknown."""
    pd.testing.assert_frame_equal(got.isna(), expected.isna(), obj="what is unknown")
    numbers = expected.select_dtypes("float64").columns
    pd.testing.assert_frame_equal(got.drop(columns=numbers), expected.drop(columns=numbers))
    apart = (got[numbers].ne(expected[numbers]) & expected[numbers].notna()).to_numpy()
    assert not apart.any(), f"differing: {list(numbers[apart.any(axis=0)])}\n{expected[apart.any(axis=1)].head().T}"
