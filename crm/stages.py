"""What the stages mean: as delivered, or as is_closed and is_won of the deals tell; never guessed from names."""

from pathlib import Path

import numpy as np
import pandas as pd

from crm.contract import TABLES, empty_frame
from crm.errors import DataUnusable, Detail

NEARLY_ALL = 0.95
"""Share of a stage's deals that must be closed for the stage to be closed: the others are slips of the pen."""


def derive_stages(deals: pd.DataFrame, deal_history: pd.DataFrame) -> pd.DataFrame | None:
    """The stages table concluded from the deals; None if they do not say what is closed and won.

    A stage is closed if nearly all deals in it are, open if none is, and won or lost if all its closed deals are. Where
    deals differ (a lost deal stays in its stage, or won and lost share one), the meaning is left empty: each deal says
    itself. Stages seen only in history are open. Their order is the usual age of a deal when entering them, closed
    stages last.

    Returns
    -------
    The columns of the contract's `stages`, one row per pipeline and stage.
    """
    if deals["is_closed"].isna().all() or deals["is_won"].isna().all():
        return None
    seen = _stages_seen(deals, deal_history)
    closed = deals["is_closed"].astype("float64")
    flags = deals[["pipeline", "stage"]].assign(
        is_closed=closed, is_won=deals["is_won"].astype("float64").where(closed == 1)
    )
    shares = flags.groupby(["pipeline", "stage"], dropna=False, as_index=False)[["is_closed", "is_won"]].mean()
    stages = seen.merge(shares, on=["pipeline", "stage"], how="left")
    stages["is_closed"] = _agreed(stages["is_closed"], nearly_all=NEARLY_ALL)
    stages["is_won"] = _agreed(stages["is_won"], nearly_all=1.0).mask(
        stages["is_closed"].eq(False).fillna(False), False
    )
    stages["comes_last"] = stages["is_closed"].fillna(False)
    stages = stages.sort_values(["pipeline", "comes_last", "entered_after", "stage"], na_position="first")
    stages["sort_order"] = stages.groupby("pipeline", dropna=False).cumcount() + 1.0
    stages["default_probability"] = np.nan
    return stages[list(TABLES["stages"].columns)].astype(empty_frame("stages").dtypes).reset_index(drop=True)


def _agreed(share: pd.Series, *, nearly_all: float) -> pd.Series:
    """True where all say so, False where nobody does or says anything, unknown where they differ."""
    return (share >= nearly_all).astype("boolean").mask(share.between(0, nearly_all, inclusive="neither"))


def write_stages_to_fill(path: Path, deals: pd.DataFrame, deal_history: pd.DataFrame) -> DataUnusable:
    """Write the stages seen, for the user to say which are closed and won; the error to raise."""
    seen = _stages_seen(deals, deal_history).sort_values(["pipeline", "entered_after", "stage"], na_position="first")
    sort_order = seen.groupby("pipeline", dropna=False).cumcount() + 1
    rows = seen[["stage"]].assign(sort_order=sort_order, is_closed="", is_won="", default_probability="")
    if seen["pipeline"].notna().any():
        rows["pipeline"] = seen["pipeline"]
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.to_csv(path, index=False, lineterminator="\r\n")
    detail = Detail(
        "stages",
        None,
        "a table `stages`, or is_closed and is_won in deals, says what is closed; it is never guessed from names",
        f"Fill in is_closed and is_won (true or false) and the order in {path}, then import again.",
    )
    return DataUnusable(f"Nothing says which deals are closed. {path} was written to be filled in.", detail)


def _stages_seen(deals: pd.DataFrame, deal_history: pd.DataFrame) -> pd.DataFrame:
    """pipeline, stage, entered_after (days from creation, NaN if no history tells), one row each."""
    now = deals[["deal_id", "created_at", "pipeline", "stage"]]
    moves = deal_history.loc[deal_history["field"] == "stage", ["deal_id", "changed_at", "old_value", "new_value"]]
    moves = moves.merge(now.drop(columns="stage"), on="deal_id")
    entered = moves.rename(columns={"new_value": "stage"})
    entered["entered_after"] = (entered["changed_at"] - entered["created_at"]).dt.total_seconds() / 86400
    # A first stage that is only ever left stands in old_value alone.
    left = moves.rename(columns={"old_value": "stage"})
    both = pd.concat([frame[["pipeline", "stage"]] for frame in (now, entered, left)]).dropna(subset="stage")
    ages = entered.groupby(["pipeline", "stage"], dropna=False, as_index=False)["entered_after"].median()
    return both.drop_duplicates().merge(ages, on=["pipeline", "stage"], how="left")
