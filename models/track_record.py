"""Who was right: chances published and what became of the deals, forecasts and calls beside what periods brought.

Only what was published then counts as a record. What was replayed later is kept apart, under its own name.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from crm.calendar import Calendar, Period
from crm.history import DealHistory
from crm.tables import CrmTables
from ledger.ledger import Basis, Ledger
from models.outlook import outlook_then
from models.replays import published_nodes
from models.review import (
    empty_rows,
    final_bookings,
    review_cuts,
    review_rows,
    with_actual,
)

BANDS = np.linspace(0.0, 1.0, 11)
PERIODS_LOOKED_AT = 5
_SURE = 1.96


# -- chances ---------------------------------------------------------------------------------------------------------


def judged_chances(
    ledger: Ledger, history: DealHistory, calendar: Calendar, known_at: pd.Timestamp, *, basis: Basis = "published"
) -> pd.DataFrame:
    """The chances to be won in the period that were said in periods that are over, and whether the deal was won in it.

    Of each local week the last publication counts.

    Returns
    -------
    Frame: deal_id, as_of, period_start, said (0..1), came (bool).
    """
    heads = [
        head
        for head in ledger.publications("scores", basis=basis, at=known_at)
        if head.period_end is not None and calendar.midnight(head.period_end.date()) <= known_at
    ]
    last_of_week = {calendar.local_day(head.as_of).isocalendar()[:2]: head for head in heads}
    said = ledger.period_chances([head.publication_id for head in last_of_week.values() if head.publication_id])
    ends_at = {head.period_start: calendar.midnight(head.period_end.date()) for head in heads if head.period_end}
    endings = history.endings[history.endings["outcome"] == "won"][["deal_id", "at"]].sort_values("at")
    found = pd.merge_asof(
        said.sort_values("as_of"), endings.rename(columns={"at": "won_at"}), left_on="as_of", right_on="won_at",
        by="deal_id", direction="forward", allow_exact_matches=False,
    )  # fmt: skip
    # Mapped, no row at all would be no instant either.
    came = found["won_at"] < pd.to_datetime(found["period_start"].map(ends_at), utc=True)
    return found.assign(came=came.astype(bool)).drop(columns="won_at")


def reliability(judged: pd.DataFrame) -> pd.DataFrame:
    """What came of the deals in each band of said chances.

    Returns
    -------
    Frame, a row per band that was said: low, high (of the band), said (mean), came (share won), scores, deals, and
    came_low, came_high: where the share may lie by chance (95 %), counting each deal once however often it was scored.
    """
    band = np.clip(np.digitize(judged["said"], BANDS[1:-1]), 0, len(BANDS) - 2)
    sums = judged.assign(band=band).groupby("band").agg(
        said=("said", "mean"), came=("came", "mean"), scores=("said", "size"), deals=("deal_id", "nunique")
    )  # fmt: skip
    low, high = _range_of_share(sums["came"].to_numpy(dtype=float), sums["deals"].to_numpy(dtype=float))
    places = sums.index.to_numpy(dtype=int)
    return sums.assign(low=BANDS[places], high=BANDS[places + 1], came_low=low, came_high=high).reset_index(drop=True)


def _range_of_share(share: np.ndarray, cases: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval of a share seen in so many cases."""
    spread = _SURE**2 / cases
    middle = (share + spread / 2) / (1 + spread)
    half = _SURE * np.sqrt(share * (1 - share) / cases + spread / (4 * cases)) / (1 + spread)
    return middle - half, middle + half


# -- numbers of periods ----------------------------------------------------------------------------------------------


def judged_reviews(
    tables: CrmTables,
    history: DealHistory,
    ledger: Ledger,
    record: pd.DataFrame,
    known_at: pd.Timestamp,
    *,
    baselines: bool,
) -> pd.DataFrame:
    """The review rows of the last periods whose books had closed by a moment, beside what they brought.

    A cut has rows if a forecast was published within a week before it or, else, is kept in the ledger as replayed for
    it: nothing is forecast here.

    Parameters
    ----------
    record : see `models.review.caller_record`.
    baselines : whether to work them out, which takes most of the time.
    """
    calendar, parts = tables.calendar, [empty_rows()]
    period = calendar.period_of(known_at)
    for _ in range(PERIODS_LOOKED_AT):
        period = calendar.previous_period(period)
        actual = final_bookings(tables, history, period, known_at)
        said = {} if actual.empty else _said_at_cuts(ledger, calendar, period, known_at)
        overrides = ledger.overrides(period_start=pd.Timestamp(period.start))
        rows = [
            review_rows(
                tables, history, nodes, record, cut=cut, period=period, basis=basis, overrides=overrides,
                baselines=baselines,
            )
            for cut, (nodes, basis) in said.items()
        ]  # fmt: skip
        if rows:
            parts.append(with_actual(pd.concat(rows, ignore_index=True), actual))
    return pd.concat(parts, ignore_index=True)


def _said_at_cuts(
    ledger: Ledger, calendar: Calendar, period: Period, known_at: pd.Timestamp
) -> dict[pd.Timestamp, tuple[pd.DataFrame, str]]:
    """What the ledger says of the cuts of a period, and on which basis."""
    said: dict[pd.Timestamp, tuple[pd.DataFrame, str]] = {}
    for cut in review_cuts(calendar, period, known_at):
        published = published_nodes(ledger, cut=cut, period=period)
        replayed = outlook_then(ledger, period, cut, "replayed") if published is None else None
        if published is not None:
            said[cut] = published, "published"
        elif replayed is not None and replayed.as_of == cut:
            said[cut] = replayed.nodes, "replayed"
    return said


def errors_by_week(rows: pd.DataFrame) -> pd.DataFrame:
    """How far each forecaster was off at each week of a period, at the nodes of some review rows.

    Returns
    -------
    Frame: basis, forecaster, category (empty: none), week_of_period, wape (the sum of absolute errors over what came),
    bias (the sum of errors over it; above zero, too much was promised), periods.
    """
    known = rows.dropna(subset=["error"]).assign(category=lambda r: r["category"].fillna(""), off=rows["error"].abs())
    sums = known.groupby(["basis", "forecaster", "category", "week_of_period"]).agg(
        off=("off", "sum"), error=("error", "sum"), came=("actual", "sum"), periods=("period_start", "nunique")
    )  # fmt: skip
    sums = sums[sums["came"] > 0]
    return sums.assign(wape=sums["off"] / sums["came"], bias=sums["error"] / sums["came"]).drop(
        columns=["off", "error", "came"]
    ).reset_index()  # fmt: skip


def coverage_by_node(rows: pd.DataFrame) -> pd.DataFrame:
    """How often what came lay in the model's 80 % range: basis, node_type, share, cases, periods."""
    model = rows[(rows["forecaster"] == "model") & rows["inside_80"].notna()]
    model = model.assign(inside=model["inside_80"].astype("float64"))
    return model.groupby(["basis", "node_type"]).agg(
        share=("inside", "mean"), cases=("inside", "size"), periods=("period_start", "nunique")
    ).reset_index()  # fmt: skip


# -- people ----------------------------------------------------------------------------------------------------------


def calls_by_sight(calls: pd.DataFrame, record: pd.DataFrame) -> pd.DataFrame:
    """How far commits were off whose caller had read the model's number before, and those whose caller had not.

    Parameters
    ----------
    calls : `Ledger.calls`: what was submitted to the service; what came otherwise does not tell what was read.

    Returns
    -------
    Frame: model_seen, calls, wape, bias.
    """
    came = record.drop_duplicates(["user_id", "period_start"]).set_index(["user_id", "period_start"])["actual"]
    mine = calls[calls["category"] == "commit"]
    keys = pd.MultiIndex.from_arrays([mine["user_id"], pd.to_datetime(mine["period_start"])])
    judged = mine.assign(actual=came.reindex(keys).to_numpy() if len(came) else np.nan).dropna(subset=["actual"])
    judged = judged.assign(error=judged["amount"] - judged["actual"])
    sums = judged.groupby("model_seen").agg(
        calls=("error", "size"), off=("error", lambda e: e.abs().sum()), error=("error", "sum"), came=("actual", "sum")
    )  # fmt: skip
    sums = sums[sums["came"] > 0]
    return sums.assign(wape=sums["off"] / sums["came"], bias=sums["error"] / sums["came"])[
        ["calls", "wape", "bias"]
    ].reset_index()


def callers_bias(record: pd.DataFrame, users: Sequence[str], *, least_cases: int) -> pd.DataFrame:
    """By how much these people's commits were off over all their judged calls.

    Returns
    -------
    Frame: user_id, bias and wape (shares of what came), cases, periods; who has fewer cases has no row.
    """
    mine = record[(record["category"] == "commit") & record["user_id"].isin(list(users))]
    mine = mine.assign(error=mine["called"] - mine["actual"], off=(mine["called"] - mine["actual"]).abs())
    sums = mine.groupby("user_id").agg(
        error=("error", "sum"), off=("off", "sum"), came=("actual", "sum"), cases=("error", "size"),
        periods=("period_start", "nunique"),
    )  # fmt: skip
    sums = sums[(sums["cases"] >= least_cases) & (sums["came"] > 0)]
    return sums.assign(bias=sums["error"] / sums["came"], wape=sums["off"] / sums["came"]).reset_index()
