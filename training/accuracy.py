"""How right everybody was of a period whose books have closed: one MLflow run a period, metrics by week as steps."""

from pathlib import Path
from typing import Literal

import pandas as pd

from crm.calendar import Period
from crm.tables import CrmTables
from training.backtest import Backtest
from training.plots import accuracy_plot
from training.scoreboard import SCORES, build_scoreboard, judged_rows
from training.tracking import Point, log_once, log_report

KEPT = tuple(score for score in SCORES if score != "periods")
Kind = Literal["review", "backtest"]


def keep_accuracy(
    workspace: Path,
    rows: pd.DataFrame,
    *,
    period: Period,
    kind: Kind,
    at: pd.Timestamp,
    data_version: str | None = None,
) -> str | None:
    """Write the accuracy of a period to MLflow, once.

    Metrics are named `LEVEL/FORECASTER[.CATEGORY]/SCORE` (company/model/crps, team/call.commit/wape), one value a week
    of the period: the scores of `training.scoreboard` at that week, of this period alone.

    Parameters
    ----------
    rows : review rows with actuals, as `models.review.with_actual` gives them.
    kind : a review's run is written when the books have closed and stands; a backtest has one for each data version.
    at : when the run is dated.

    Returns
    -------
    The id of the run; None where it was there already, or nothing can be judged.
    """
    judged = judged_rows(rows)
    if judged.empty:
        return None
    board = build_scoreboard(judged)
    who = board["forecaster"] + board["category"].map(lambda category: f".{category}", na_action="ignore").fillna("")
    points = [
        Point(f"{level}/{name}/{score}", value, week)
        for score in KEPT
        for level, name, week, value in zip(board["node_type"], who, board["week"], board[score], strict=True)
        if pd.notna(value)
    ]
    company = judged[judged["node_type"] == "company"]
    params = {
        "kind": kind,
        "period_start": period.start,
        "period_end": period.end,
        "actual": company["actual"].iloc[0],
        "basis": ", ".join(sorted(judged.loc[judged["forecaster"] == "model", "basis"].unique())) or "no model",
    }
    if data_version is not None:
        params["data_version"] = data_version
    name = f"{kind} {period.start}" + ("" if data_version is None else f" data {data_version}")
    return log_once(workspace, name, params=params, points=points, at=at)


def keep_backtest(workspace: Path, tables: CrmTables, found: Backtest, folder: Path, *, at: pd.Timestamp) -> None:
    """Write a backtest to MLflow: its periods, once for each data version, and a run with the scoreboard and a plot.

    Parameters
    ----------
    folder : holds scoreboard.csv and differences.csv; the plot, accuracy.png, is put beside them.
    """
    for start, rows in found.rows.groupby("period_start"):
        period = tables.calendar.period_starting(pd.Timestamp(str(start)).date())
        keep_accuracy(workspace, rows, period=period, kind="backtest", at=at, data_version=tables.data_version)
    plot = accuracy_plot(found.scoreboard)
    (folder / "accuracy.png").write_bytes(plot)
    files = {name: (folder / name).read_text("utf-8") for name in ("scoreboard.csv", "differences.csv")}
    params = {"kind": "backtest", "data_version": tables.data_version, "periods": len(found.periods)}
    log_report(
        workspace, f"backtest of {len(found.periods)}", params=params, artifacts={**files, "accuracy.png": plot}, at=at
    )
