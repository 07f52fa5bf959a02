"""When each deal was open, how it closed, and which wins count: read off stage rows, closing instants and deletions.

A deal closes at its stage rows into a closed stage and reopens at rows out of one. If it is closed now but has no row
into a closed stage after its last open one, it closed silently, at `closed_at`; without a `closed_at` nobody knows,
and the deal is left out everywhere. Deleting an open deal ends its spell as `deleted`, merging it away as `merged`.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from crm.tables import CrmTables

OUTCOME_COLUMNS = ("is_closed", "is_won", "closed_at", "booked_on", "deleted_at", "merged_into", "_first_seen_at")
"""Columns of deals that tell how a deal ended: read here alone, never as fields."""

SPELL_COLUMNS = ["deal_id", "opened_at", "ended_at", "outcome", "closed_stage", "booked_on"]
ENDING_COLUMNS = ["deal_id", "at", "until", "outcome", "closed_stage", "booked_on"]


def pipelines_of(deals: pd.DataFrame) -> pd.Series:
    """The pipeline of each row of deals or of their states; unknown where the export does not have the column."""
    return deals["pipeline"] if "pipeline" in deals else pd.Series(None, index=deals.index, dtype="str")


@dataclass(frozen=True)
class StageBook:
    """What each stage means, looked up by name (and by pipeline where the same name means different things).

    Attributes
    ----------
    by_name : frame indexed by stage name: is_closed, is_won, sort_order. NaN in the first two: deals differ, each says
        itself.
    by_pipeline : the same indexed by (pipeline, stage), for names whose meaning differs between pipelines.
    first_open : first open stage by pipeline; the key "" stands for every other pipeline.
    """

    by_name: pd.DataFrame
    by_pipeline: pd.DataFrame
    first_open: dict[str, str]

    def look_up(self, stages: pd.Series, pipelines: pd.Series, what: str) -> np.ndarray:
        """`what` (is_closed, is_won, sort_order) of each stage as float64; NaN if undeclared or its deals differ."""
        found = stages.map(self.by_name[what]).to_numpy(dtype=float, na_value=np.nan)
        if len(self.by_pipeline):
            keys = pd.MultiIndex.from_arrays([pipelines, stages])
            special = self.by_pipeline[what].reindex(keys).to_numpy(dtype=float, na_value=np.nan)
            found = np.where(keys.isin(self.by_pipeline.index), special, found)
        return found

    def closed_and_won(self, deals: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Whether each deal is closed now, and won: as its stage means, else as its own is_closed and is_won say."""
        pipelines = pipelines_of(deals)
        declared = ~np.isnan(self.look_up(deals["stage"], pipelines, "sort_order"))
        closed, won = (
            np.where(declared & np.isnan(meant), said, meant) == 1
            for meant, said in (
                (self.look_up(deals["stage"], pipelines, flag), _flag(deals, flag)) for flag in ("is_closed", "is_won")
            )
        )
        return closed, closed & won

    def first_open_of(self, pipelines: pd.Series) -> pd.Series:
        """The first open stage of each deal's pipeline."""
        fallback = self.first_open.get("")
        return pipelines.map(lambda pipeline: self.first_open.get(pipeline, fallback)).astype("str")


def read_stage_book(tables: CrmTables) -> StageBook:
    """The meaning of the stages of one data version."""
    stages = tables.get("stages").sort_values("sort_order", kind="stable")
    meaning = stages[["stage", "is_closed", "is_won", "sort_order"]].astype(
        {"is_closed": float, "is_won": float, "sort_order": float}
    )
    by_name = meaning.drop_duplicates("stage").set_index("stage")
    by_pipeline = meaning.assign(pipeline=stages["pipeline"]) if "pipeline" in stages else meaning.assign(pipeline=None)
    by_pipeline = by_pipeline.dropna(subset=["pipeline"]).drop_duplicates(["pipeline", "stage"])
    still_open = stages[~stages["is_closed"].fillna(False).astype(bool)]
    first_open = {"": str(still_open["stage"].iloc[0])} if len(still_open) else {}
    if "pipeline" in still_open:
        named = still_open.dropna(subset=["pipeline"]).drop_duplicates("pipeline")
        first_open |= dict(zip(named["pipeline"], named["stage"], strict=True))
    return StageBook(by_name, by_pipeline.set_index(["pipeline", "stage"]), first_open)


@dataclass(frozen=True)
class DealLives:
    """The open spells and the endings of all deals.

    Attributes
    ----------
    spells : deal_id, opened_at, ended_at (NaT: still open), outcome (won, lost, deleted, merged; NaN: still open),
        closed_stage, booked_on: one row per time a deal was open.
    endings : deal_id, at, until (NaT: still so), outcome, closed_stage, booked_on: how a deal that is not open came
        to be so, one row per outcome (a closing corrected from lost to won is two).
    closed_times : deal_id, closed_at, reopened_at (NaT: not reopened), closed_stage: times from closing to reopening.
    left_out : deal ids that are closed although nobody knows since when.
    reopened_silently : deal ids open now although their last stage row closed them.
    """

    spells: pd.DataFrame
    endings: pd.DataFrame
    closed_times: pd.DataFrame
    left_out: pd.Index
    reopened_silently: pd.Index


def build_lives(tables: CrmTables, book: StageBook) -> DealLives:
    """Read every deal's life off its stage rows and its outcome columns."""
    deals = tables.get("deals")
    moves, left_out, reopened = _moves(tables, deals, book)
    moves = moves[~moves["deal_id"].isin(left_out)]
    changed = moves["state"].ne(moves.groupby("deal_id")["state"].shift())
    phases = _with_booked_on(moves[changed], tables, deals)
    following = phases.groupby("deal_id")[["at", "state", "stage", "booked_on"]].shift(-1)
    phases = phases.assign(
        until=following["at"],
        next_state=following["state"],
        next_stage=following["stage"],
        next_booked_on=following["booked_on"],
    )
    lasted = phases["until"].isna() | (phases["until"] > phases["at"])
    opened = phases[(phases["state"] == "open") & lasted]
    spells = opened[["deal_id", "at", "until", "next_state", "next_stage", "next_booked_on"]]
    ended = phases[phases["state"] != "open"]
    endings = ended[["deal_id", "at", "until", "state", "stage", "booked_on"]]
    return DealLives(
        spells=spells.set_axis(SPELL_COLUMNS, axis=1).reset_index(drop=True),
        endings=endings.set_axis(ENDING_COLUMNS, axis=1).reset_index(drop=True),
        closed_times=_closed_times(moves),
        left_out=pd.Index(left_out),
        reopened_silently=pd.Index(reopened),
    )


def _closed_times(moves: pd.DataFrame) -> pd.DataFrame:
    """From each closing to the reopening after it; neither a corrected outcome nor a removal ends it."""
    closed = moves[~moves["state"].isin(["deleted", "merged"])]
    closed = closed.assign(closed=closed["state"].ne("open"))
    changed = closed["closed"].ne(closed.groupby("deal_id")["closed"].shift())
    phases = closed[changed].copy()
    phases["reopened_at"] = phases.groupby("deal_id")["at"].shift(-1)
    phases = phases[phases["closed"]].rename(columns={"at": "closed_at", "stage": "closed_stage"})
    return phases[["deal_id", "closed_at", "reopened_at", "closed_stage"]].reset_index(drop=True)


def _moves(tables: CrmTables, deals: pd.DataFrame, book: StageBook) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Every moment at which a deal's state (open, won, lost, deleted, merged) may have changed, in order.

    Also the deals closed at an unknown moment, and those reopened without a row.
    """
    pipelines = pipelines_of(deals)
    born = pd.DataFrame({"deal_id": deals["deal_id"], "created_at": deals["created_at"], "pipeline": pipelines})
    born["says_won"] = _flag(deals, "is_won")
    closed_now, won_now = book.closed_and_won(deals)
    closed_at = _column(deals, "closed_at")

    rows = tables.get("deal_history")
    rows = rows[rows["field"] == "stage"].merge(born, on="deal_id").sort_values("changed_at", kind="stable")
    rows["state"] = _states(book, rows["new_value"], rows)
    rows["at"] = rows["changed_at"].where(rows["changed_at"] > rows["created_at"], rows["created_at"])
    last_state = rows.drop_duplicates("deal_id", keep="last").set_index("deal_id")["state"]

    last_open = (~deals["deal_id"].map(last_state).isin(["won", "lost"])).to_numpy()
    silent = closed_now & last_open
    left_out = deals["deal_id"][silent & closed_at.isna().to_numpy()]
    reopened = deals["deal_id"][~closed_now & ~last_open]

    ends = closed_at.where(silent)
    end_of = ends.set_axis(deals["deal_id"]).reindex(rows["deal_id"])
    rows = rows[~(rows["at"].array >= end_of.array)]
    # A row dated after the silent closing counts for nothing, nor does what it says of the time before.
    first = rows.drop_duplicates("deal_id").set_index("deal_id")
    started = dict(zip(first.index, _states(book, first["old_value"], first), strict=True))
    started_in = dict(zip(first.index, first["old_value"], strict=True))
    births = born.assign(
        at=born["created_at"],
        order=0,
        state=[started.get(deal_id, "open") for deal_id in born["deal_id"]],
        stage=[started_in.get(deal_id, pd.NA) for deal_id in born["deal_id"]],
    )
    parts = [
        births[["deal_id", "at", "order", "state", "stage"]],
        rows.assign(order=1, stage=rows["new_value"])[["deal_id", "at", "order", "state", "stage"]],
        _closings(deals[silent], ends[silent], won_now[silent]),
        _at(reopened, pd.Series(tables.as_of, index=reopened.index), "open", order=3),
        *_removals(tables, deals),
    ]
    moves = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    moves["stage"] = moves["stage"].astype("str")
    moves = moves.sort_values(["deal_id", "at", "order"], kind="stable", ignore_index=True)
    gone = moves["order"].eq(4).groupby(moves["deal_id"]).cumsum()
    moves = moves[(gone == 0) | moves["order"].eq(4)]
    return _keep_closed_if_removed_later(moves), left_out, reopened


def _states(book: StageBook, stages: pd.Series, of: pd.DataFrame) -> np.ndarray:
    """The state a deal takes on in a stage; `of` holds its pipeline and says_won, for stages of won and lost deals."""
    closed, won = (book.look_up(stages, of["pipeline"], flag) for flag in ("is_closed", "is_won"))
    is_won = np.where(np.isnan(won), of["says_won"], won) == 1
    return np.where(closed == 1, np.where(is_won, "won", "lost"), "open").astype(object)


def _flag(deals: pd.DataFrame, name: str) -> np.ndarray:
    """A flag that deals may carry themselves: 1, 0 or NaN."""
    flags = deals[name] if name in deals else pd.Series(pd.NA, index=deals.index, dtype="boolean")
    return flags.to_numpy(dtype="float64", na_value=np.nan)


def _closings(deals: pd.DataFrame, closed_at: pd.Series, won: np.ndarray) -> pd.DataFrame:
    at = closed_at.where(closed_at > deals["created_at"], deals["created_at"])
    states = np.where(won, "won", "lost")
    return _at(deals["deal_id"], at, states, order=2).assign(stage=deals["stage"].to_numpy()).dropna(subset=["at"])


def _removals(tables: CrmTables, deals: pd.DataFrame) -> list[pd.DataFrame]:
    """Deletions, and merges at their deletion or, undated, at the import that showed them."""
    deleted_at = _column(deals, "deleted_at")
    merged = deals["merged_into"].notna() if "merged_into" in deals else pd.Series(False, index=deals.index)
    shown_at = _column(deals, "_first_seen_at").fillna(tables.first_import_at or tables.as_of)
    return [
        _at(deals["deal_id"][merged], deleted_at.fillna(shown_at)[merged], "merged", order=4),
        _at(
            deals["deal_id"][~merged & deleted_at.notna()], deleted_at[~merged & deleted_at.notna()], "deleted", order=4
        ),
    ]


def _keep_closed_if_removed_later(moves: pd.DataFrame) -> pd.DataFrame:
    """A lost deal removed afterwards stays lost; a won one stops counting; an open one ends as deleted or merged."""
    before = moves.groupby("deal_id")["state"].shift()
    return moves[~(moves["order"].eq(4) & before.eq("lost"))]


def _with_booked_on(phases: pd.DataFrame, tables: CrmTables, deals: pd.DataFrame) -> pd.DataFrame:
    """The day finance counts a closing: what the deal says for the closing that stands, else the closing's day."""
    booked_on = tables.calendar.local_days(phases["at"])
    stated = _column(deals, "booked_on", "datetime64[us]").fillna(
        tables.calendar.local_days(_column(deals, "closed_at")).astype("datetime64[us]")
    )
    stands = ~phases.duplicated("deal_id", keep="last") & phases["state"].isin(["won", "lost"])
    said = stated.set_axis(deals["deal_id"]).reindex(phases["deal_id"]).set_axis(phases.index).where(stands)
    return phases.assign(booked_on=said.fillna(booked_on))


def _at(deal_ids: pd.Series, at: pd.Series, state: object, *, order: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"deal_id": deal_ids.to_numpy(), "at": at.to_numpy(), "order": order, "state": state, "stage": pd.NA}
    ).astype({"at": "datetime64[us, UTC]", "deal_id": "str"})


def _column(deals: pd.DataFrame, name: str, dtype: str = "datetime64[us, UTC]") -> pd.Series:
    """A column of deals, all missing where the export does not have it."""
    return deals[name] if name in deals else pd.Series(pd.NaT, index=deals.index, dtype=dtype)
