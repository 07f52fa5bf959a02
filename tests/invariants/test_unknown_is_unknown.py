"""Whether a value is known says nothing about how the deal will end; a careless reading of history gives it away.

The CRM here logs the close date that winning writes, and lets losing overwrite it without a row: so a field read as
"known if a row after the moment tells the old value" is known for nearly every deal that will be won, and no other rule
needs to look at anything else.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from crm.history import DealHistory, build_history, classify_fields, snapshot_spine, values_at
from crm.synthetic import CompanyConfig, export, simulate
from crm.tables import CrmTables
from crm.truncation import truncate_export
from features.build import build_features
from features.catalogue import CATALOGUE

OVERWRITTEN = ["close_date", "forecast_category"]
CONFIG = CompanyConfig(
    seed=21, n_reps=6, n_teams=2, n_regions=1, deals_per_week=9.0, days=500, log_closings="all", missing_amounts=0.0
)
NEVER_HAPPENED = {
    *("days_since_stage_advance", "close_date_days_per_push", "days_since_last_push"),
    *("days_since_last_inbound", "days_since_last_meeting", "silence_rhythm"),
    *("reply_ratio_60d", "reply_days_60d", "days_since_account_win"),
}
"""Unknown where there was no push, no meeting, no answer, no win … so far."""
NAMES = [feature.name for feature in CATALOGUE]


@cache
def company(*, initial_rows: bool) -> tuple[CrmTables, DealHistory]:
    """Closings write over close date and category: with a row when won, without one when lost."""
    tables = export(replace(simulated(), config=replace(CONFIG, initial_rows=initial_rows)))
    deals = tables.get("deals").set_index("deal_id")
    lost = deals["closed_at"].where(deals["stage"] == "Closed Lost")
    rows = tables.get("deal_history")
    on_losing = rows["changed_at"].eq(rows["deal_id"].map(lost)) & rows["field"].isin(OVERWRITTEN)
    tables = tables.with_tables(deal_history=rows[~on_losing].reset_index(drop=True))
    tables = replace(tables, field_classes=classify_fields(tables))
    return tables, build_history(tables)


@cache
def simulated():
    return simulate(CONFIG)


@cache
def last_mondays(*, initial_rows: bool) -> pd.DataFrame:
    """Each deal that ended, once, on the last Monday before it did: deal_id, as_of, won."""
    tables, history = company(initial_rows=initial_rows)
    spells = history.spells.dropna(subset=["ended_at"]).drop_duplicates("deal_id", keep="last")
    days_back = spells["ended_at"].dt.day_of_week
    as_of = spells["ended_at"].dt.floor("D") - pd.to_timedelta(days_back, unit="D")
    ended = pd.DataFrame(
        {"deal_id": spells["deal_id"], "as_of": as_of.dt.as_unit("us"), "won": spells["outcome"] == "won"}
    )
    return ended[as_of >= spells["opened_at"]].reset_index(drop=True)


def auc(score: np.ndarray, won: np.ndarray) -> float:
    ranks = rankdata(score)
    n_won = won.sum()
    return (ranks[won].sum() - n_won * (n_won + 1) / 2) / (n_won * (~won).sum())


def known_to_the_careless(tables: CrmTables, spine: pd.DataFrame, field: str) -> np.ndarray:
    """Whether a row after the moment tells what the field's value was before it."""
    rows = tables.get("deal_history")
    last = rows[rows["field"] == field].groupby("deal_id")["changed_at"].max()
    return (spine["deal_id"].map(last) > spine["as_of"]).to_numpy()


@pytest.mark.parametrize("field", OVERWRITTEN)
def test_read_carelessly_unknown_alone_tells_lost_from_won_and_by_the_rule_it_tells_nothing(field):
    tables, history = company(initial_rows=True)
    ended = last_mondays(initial_rows=True)
    won = ended["won"].to_numpy()
    assert won.sum() > 80 and (~won).sum() > 80
    assert auc(known_to_the_careless(tables, ended, field), won) > 0.8
    known = values_at(history, ended, [field])[field].notna().to_numpy()
    assert abs(auc(known, won) - 0.5) < 0.02
    assert known.mean() > 0.9  # and not because nothing is known


def test_a_field_that_losing_overwrites_without_a_row_is_not_taken_for_tracked():
    classes = company(initial_rows=True)[0].field_classes
    assert {field: classes[field].tracked for field in OVERWRITTEN} == dict.fromkeys(OVERWRITTEN, "untracked")


@pytest.mark.parametrize("initial_rows", [True, False])
def test_what_is_unknown_as_of_a_moment_is_what_was_unknown_in_the_export_of_then(initial_rows):
    tables, history = company(initial_rows=initial_rows)
    for text in ("2023-07-03", "2023-10-02", "2024-01-15"):
        moment = pd.Timestamp(text, tz="UTC").as_unit("us")
        spine = snapshot_spine(history, [moment])
        truncated = truncate_export(tables, moment, history)
        unknown = build_features(tables, history, spine)[NAMES].isna()
        unknown_then = build_features(truncated, build_history(truncated), spine)[NAMES].isna()
        pd.testing.assert_frame_equal(unknown, unknown_then)
        assert initial_rows or 0.05 < unknown["days_to_close_date"].mean() < 0.95


def test_no_feature_tells_won_from_lost_by_being_unknown():
    """But for what the past itself says: where something never happened, nothing is known of its last time or mean."""
    tables, history = company(initial_rows=True)
    ended = last_mondays(initial_rows=True)
    recent = ended[ended["as_of"] > "2023-06-01"].reset_index(drop=True)
    known = build_features(tables, history, recent)[NAMES].notna()
    told = {name: abs(auc(known[name].to_numpy(), recent["won"].to_numpy()) - 0.5) for name in NAMES}
    assert {name: round(by, 3) for name, by in told.items() if by >= 0.02}.keys() <= NEVER_HAPPENED
