"""Stages as features read them: their position in the pipeline, and which ones an ended deal had passed through."""

import numpy as np
import pandas as pd

from crm.facts import JUST_AFTER
from crm.history import DealHistory, values_at
from crm.lives import pipelines_of
from features.bulk import began_unseen
from features.running import DAYS, MONEY, summable

FORECAST_CATEGORIES = {"omitted": 0.0, "pipeline": 1.0, "best_case": 2.0, "most_likely": 3.0, "commit": 4.0}
"""Rank of the contract's forecast categories; `closed` and what is not among them compare with nothing."""


def stage_positions(history: DealHistory, stages: pd.Series, pipelines: pd.Series) -> np.ndarray:
    """1, 2, … along each stage's pipeline by sort_order; NaN for stages that are not in the stages table."""
    book = history.stage_book
    ranked = book.by_name["sort_order"].rank(method="dense")
    found = stages.map(ranked).to_numpy(dtype=float, na_value=np.nan)
    if len(book.by_pipeline):
        special = book.by_pipeline["sort_order"].groupby(level=0).rank(method="dense")
        keys = pd.MultiIndex.from_arrays([pipelines, stages])
        of_pipeline = special.reindex(keys).to_numpy(dtype=float, na_value=np.nan)
        found = np.where(keys.isin(special.index), of_pipeline, found)
    return found


def stage_keys(states: pd.DataFrame) -> pd.Series:
    """Pipeline and stage as one text; unknown where the stage is."""
    return (pipelines_of(states).fillna("") + " / " + states["stage"]).astype("str")


def position_numbers(history: DealHistory, changes: pd.DataFrame) -> pd.DataFrame:
    """Changes whose numbers are positions for stages (each in the pipeline of then) and ranks for categories."""
    numbers = {side: changes[f"{side}_number"].to_numpy(copy=True) for side in ("old", "new")}
    moves = (changes["field"] == "stage").to_numpy()
    categories = (changes["field"] == "forecast_category").to_numpy()
    for side, just_before in (("old", JUST_AFTER), ("new", pd.Timedelta(0))):
        spine = changes.loc[moves, ["deal_id"]].assign(as_of=changes.loc[moves, "at"] - just_before)
        pipelines = pipelines_of(values_at(history, spine, ["pipeline"]))
        numbers[side][moves] = stage_positions(history, changes.loc[moves, f"{side}_value"], pipelines)
        named = changes.loc[categories, f"{side}_value"].str.strip().str.lower().str.replace(r"[ -]", "_", regex=True)
        numbers[side][categories] = named.map(FORECAST_CATEGORIES)
    return changes.assign(old_number=summable(numbers["old"], MONEY), new_number=summable(numbers["new"], MONEY))


def stage_passages(history: DealHistory, bulk: pd.Index) -> pd.DataFrame:
    """Every stage that a deal had been in when it ended.

    Parameters
    ----------
    bulk : ids of the deals that were loaded in bulk: since when they had been in their first stage is unknown.

    Returns
    -------
    frame : deal_id, at (when the deal ended), kind (won, lost; deleted is lost), stage_key, days (spent there while the
        deal was open, all visits together). Only what was known while the deal was open counts.
    """
    spells = history.spells.dropna(subset=["ended_at"])
    spells = spells[spells["outcome"] != "merged"]
    spells = spells.assign(loaded=began_unseen(history.spells, bulk))
    stages = history.states[["deal_id", "known_from"]].assign(stage_key=stage_keys(history.states))
    until = stages["known_from"].shift(-1).where(stages["deal_id"].eq(stages["deal_id"].shift(-1)))
    visits = stages.assign(until=until).dropna(subset=["stage_key"])
    visits = visits.merge(spells[["deal_id", "opened_at", "ended_at", "outcome", "loaded"]], on="deal_id")
    begun = visits["known_from"].where(visits["known_from"] > visits["opened_at"], visits["opened_at"])
    left = visits["until"].where(visits["until"] < visits["ended_at"], visits["ended_at"])
    visits = visits.assign(days=(left - begun).dt.total_seconds() / 86_400)
    visits = visits.assign(unknown=visits["loaded"] & (begun == visits["opened_at"]))
    visits = visits[(visits["known_from"] < visits["ended_at"]) & (visits["days"] > 0)]
    whole = visits.groupby(["deal_id", "ended_at", "outcome", "stage_key"], sort=False, as_index=False).agg(
        days=("days", "sum"), unknown=("unknown", "any")
    )
    whole["days"] = summable(whole["days"].mask(whole.pop("unknown")), DAYS)
    whole["outcome"] = whole["outcome"].replace("deleted", "lost")
    return whole.rename(columns={"ended_at": "at", "outcome": "kind"}).astype({"kind": "str", "stage_key": "str"})
