"""The open deals as one talks about them: what the CRM and the model say of each, and what stands out.

A deal is counted by its rep when its category is commit or most likely and its close date lies in the period. What the
rep counts of it (the amount, or nothing) against what the model expects of it is the disagreement, in money.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crm.calendar import Period
from serving.state import State

COUNTED = ("commit", "most_likely", "closed")
"""Categories by which a rep says: this one comes in this period."""
LIKELY = 0.5
FACTOR = 2.0
"""So many times as long as usual stands out."""
LEAST_DAYS = 14.0
LEAST_PUSHES = 2.0
SETTLED_DAYS = 30.0
"""A deal younger than this may well still have one contact."""

DEAL_TEXTS = ("name", "account_id", "owner_id", "stage", "pipeline", "deal_type", "currency", "forecast_category")
SCORES = (
    *("win_probability", "period_win_probability", "period_slip_probability", "expected_close_date"),
    *("amount_base", "expected_amount", "score_change"),
)


@dataclass(frozen=True)
class Signal:
    """What may stand out about a deal: the fact, from a feature, beside what was usual for deals won from its stage."""

    name: str
    feature: str


SIGNALS = (
    Signal("stalled", "days_in_stage"),
    Signal("pushed", "close_date_pushes"),
    Signal("silent", "days_since_last_inbound"),
    Signal("single_threaded", "people_engaged"),
)


def pipeline_of(state: State) -> pd.DataFrame:
    """One row per open deal, made once for a state.

    Returns
    -------
    Frame indexed by deal_id: name, account, owner_id, owner, team, segment and the other deal texts (missing: unknown),
    category (as the contract writes it), close_date, `SCORES`, worth (the amount, else the expected one), said,
    expected and gap (money of this period: what the rep counts, what the model expects, the latter less the former),
    counted, a column per signal and per view (bool), and for each signal NAME_value and NAME_usual (NaN: unknown).
    """
    rows = state.prepared.get("pipeline")
    if rows is None:
        rows = state.prepared["pipeline"] = build_rows(state, state)
    if state.newer is None:
        return rows
    kept = rows[~rows.index.isin(list(state.newer.owner_of))]
    return pd.concat([kept, build_rows(state.newer, state)]) if len(state.newer.scores) else kept


def visible_deals(state: State, viewer: str | None) -> pd.DataFrame:
    """The rows of the deals that a user (None: the whole company) may see; `upside`: may bring more."""
    rows = pipeline_of(state)
    if viewer is not None:
        owners = rows["owner_id"].where(rows["owner_id"].notna(), None)
        seen = {owner: state.may_see_owner(viewer, owner) for owner in owners.unique()}
        rows = rows[owners.map(seen).astype(bool)]
    # Likelier than half of what reps count: of the reps whom the reader may see.
    middling = rows.loc[rows["counted"], "period_win_probability"].median()
    least = LIKELY if pd.isna(middling) else middling
    return rows.assign(upside=~rows["counted"] & (rows["period_win_probability"] > least))


def build_rows(state: State, company: State) -> pd.DataFrame:
    """The rows of a state's open deals; people and accounts are named as `company` has them."""
    scores = state.scores.set_index("deal_id")
    deals = state.tables.get("deals").set_index("deal_id").reindex(scores.index)
    rows = pd.DataFrame({name: texts(deals, name) for name in DEAL_TEXTS}, index=scores.index)
    users, accounts = (
        company.tables.get(table).drop_duplicates(key).set_index(key)
        for table, key in (("users", "user_id"), ("accounts", "account_id"))
    )
    rows = rows.assign(
        owner=looked_up(rows["owner_id"], users, "name").fillna(rows["owner_id"]),
        team=looked_up(rows["owner_id"], users, "team"),
        account=looked_up(rows["account_id"], accounts, "name").fillna(rows["account_id"]),
        segment=looked_up(rows["account_id"], accounts, "segment"),
        category=categories(rows["forecast_category"]),
        close_date=deals["close_date"] if "close_date" in deals else pd.Series(pd.NaT, index=rows.index),
        **{name: scores[name] for name in SCORES},
    ).drop(columns="forecast_category")
    rows = with_signals(rows, state)
    rows = rows[[company.shows_score(deal_id) for deal_id in rows.index]]
    return with_views(rows, state.tables.calendar.period_of(state.as_of))


def with_signals(rows: pd.DataFrame, state: State) -> pd.DataFrame:
    """The rows with the facts behind each signal, what is usual, and whether it stands out."""
    features = state.features.set_index("deal_id")
    facts = {}
    for signal in SIGNALS:
        facts[f"{signal.name}_value"] = number(features, signal.feature)
        facts[f"{signal.name}_usual"] = rows["stage"].map(usual_of(state, signal.feature)).astype("float64")
    age = number(features, "deal_age_days")
    # Who never answered has been silent since the deal began, where activities are recorded at all.
    never = facts["silent_value"].isna() & number(features, "activities_so_far").notna()
    facts["silent_value"] = facts["silent_value"].where(~never, age)
    long = {name: facts[f"{name}_value"] for name in ("stalled", "silent")}
    return rows.assign(
        **facts,
        age=age,
        **{
            name: (days >= LEAST_DAYS) & (days > FACTOR * facts[f"{name}_usual"].fillna(0.0))
            for name, days in long.items()
        },
        pushed=(facts["pushed_value"] >= LEAST_PUSHES) & (facts["pushed_value"] > facts["pushed_usual"].fillna(0.0)),
        single_threaded=(facts["single_threaded_value"] <= 1) & (age >= SETTLED_DAYS),
    )


def with_views(rows: pd.DataFrame, period: Period) -> pd.DataFrame:
    """The rows with what the rep counts, what the model expects, and which views they belong to."""
    due = (rows["close_date"] >= pd.Timestamp(period.start)) & (rows["close_date"] < pd.Timestamp(period.end))
    counted = rows["category"].isin(COUNTED) & due
    worth = rows["amount_base"].fillna(rows["expected_amount"])
    said = worth.where(counted, 0.0)
    expected = rows["period_win_probability"] * rows["expected_amount"]
    likely = rows["period_win_probability"] >= LIKELY
    return rows.assign(
        worth=worth,
        said=said,
        expected=expected,
        gap=expected - said,
        counted=counted,
        due=due,
        disagree=counted != likely,
        slip=due & (rows["period_slip_probability"] >= LIKELY),
    )


def usual_of(state: State, feature: str) -> Mapping[str, float]:
    """What a feature usually was for deals won, by stage."""
    return state.bundle.typical.medians.get(feature, {})


def categories(said: pd.Series) -> pd.Series:
    """Forecast categories as the contract writes them."""
    return said.str.strip().str.lower().str.replace(r"[ -]", "_", regex=True)


def texts(frame: pd.DataFrame, name: str) -> pd.Series:
    """A column of texts; all unknown where it was not imported."""
    return frame[name].astype("str") if name in frame else pd.Series(None, index=frame.index, dtype="str")


def looked_up(ids: pd.Series, frame: pd.DataFrame, name: str) -> pd.Series:
    """A text of each person or account, unknown where the id or the text is."""
    return ids.map(texts(frame, name)).astype("str")


def number(frame: pd.DataFrame, name: str) -> pd.Series:
    """A column of numbers; all unknown where the data do not allow the feature."""
    return frame[name].astype("float64") if name in frame else pd.Series(np.nan, index=frame.index)
