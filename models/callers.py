"""What everybody's calls have been worth: how far off, how sure, how often a commit was met; and the model with them.

A caller's bias is a random effect: the mean of past log errors at this part of the period, drawn to the peers' the
more, the fewer periods it rests on and the less callers differ. Only periods whose books had closed are read.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from models.forecaster import QUANTILES

TRAITS = ("user_id", "category", "week", "periods", "bias", "spread", "met", "pinball_loss", "text")
PEERS = ""
"""The user_id under which a category's peers stand: what a caller without a record is taken for."""

_PERIODS = 8
_WEEKS_APART = 1
# Before there is evidence: calls miss by a third, callers differ by a fifth, a commit is met every other time.
_PRIOR_SPREAD, _PRIOR_DIFFERENCE, _PRIOR_PERIODS = 0.33, 0.20, 4.0
_PRIOR_MET, _PRIOR_JUDGED = 0.5, 4.0
# Model and caller look at the same deals and miss the same surprises: half of what one is off by, the other is, too.
_SHARED = 0.5
_LARGEST_LOG_ERROR = float(np.log(10))
_TEN_TO_NINETY = 1.2816


def caller_traits(record: pd.DataFrame, *, week: int, cut: pd.Timestamp) -> pd.DataFrame:
    """Bias and spread of every caller at a week of the period, as known at a cut.

    Parameters
    ----------
    record : see `models.review.caller_record`.
    week : calls of this week and those beside it count, each period once.

    Returns
    -------
    Frame indexed by (user_id, category), the peers of each category under `PEERS`: periods; bias, mean of log(called /
    came), above 0 if too much is called (ten times too much where nothing came); spread, standard deviation of the log
    error of the next call about that bias; met, share of periods that brought at least what was called; pinball_loss,
    mean loss of the call as a quantile at the level at which it was missed, as a share of what came (NaN if
    nothing did).
    """
    seen = record[(record["closed_at"] <= cut) & ((record["week"] - week).abs() <= _WEEKS_APART)]
    seen = seen[seen["called"] > 0]
    recent = sorted(seen["period_start"].unique())[-_PERIODS:]
    seen = seen[seen["period_start"].isin(recent)]
    # A period that brought nothing was called ten times too high, as far as a logarithm can say.
    error = np.log((seen["called"] / seen["actual"].clip(lower=0)).astype("float64"))
    seen = seen.assign(
        error=error.clip(-_LARGEST_LOG_ERROR, _LARGEST_LOG_ERROR), met=(seen["actual"] >= seen["called"]).astype(float)
    )
    by = ["category", "user_id", "period_start"]
    once = seen.groupby(by)[["error", "met", "called", "actual"]].mean().astype("float64").reset_index()
    parts = [_traits_of(str(category), rows) for category, rows in once.groupby("category")]
    columns = ["user_id", "category", "periods", "bias", "spread", "met", "pinball_loss"]
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    return found.set_index(["user_id", "category"])


def _traits_of(category: str, rows: pd.DataFrame) -> pd.DataFrame:
    """The callers of one category and their peers, from one row per caller and period: error, met, called, actual."""
    groups = rows.groupby("user_id")
    count, mean = groups.size(), groups["error"].mean()
    within = ((rows["error"] - rows["user_id"].map(mean)) ** 2).sum()
    freedom = len(rows) - len(count)
    noise = (within + _PRIOR_PERIODS * _PRIOR_SPREAD**2) / (freedom + _PRIOR_PERIODS)
    peers = float(rows["error"].sum() / (len(rows) + _PRIOR_PERIODS))
    # What callers' means differ by, less what chance makes them differ by.
    surplus = float(((mean - peers) ** 2 - noise / count).sum())
    difference = (surplus + _PRIOR_PERIODS * _PRIOR_DIFFERENCE**2) / (len(count) + _PRIOR_PERIODS)
    difference = max(difference, (_PRIOR_DIFFERENCE / 4) ** 2)
    doubt = noise / difference
    bias = (count * mean + doubt * peers) / (count + doubt)
    spread = np.sqrt(noise + noise / (count + doubt))
    peers_met = (rows["met"].sum() + _PRIOR_JUDGED * _PRIOR_MET) / (len(rows) + _PRIOR_JUDGED)
    met = (groups["met"].sum() + _PRIOR_JUDGED * peers_met) / (count + _PRIOR_JUDGED)
    level = 1 - rows["user_id"].map(met)
    missed = rows["actual"] - rows["called"]
    loss = np.maximum(level * missed, (level - 1) * missed)
    sums = pd.DataFrame({"loss": loss, "actual": rows["actual"]}).groupby(rows["user_id"]).sum()
    loss_share = sums["loss"] / sums["actual"].where(sums["actual"] > 0)
    own = pd.DataFrame({"periods": count, "bias": bias, "spread": spread, "met": met, "pinball_loss": loss_share})
    everybody = {"bias": peers, "spread": float(np.sqrt(noise + difference)), "met": float(peers_met)}
    named = own.rename_axis("user_id").reset_index()
    return pd.concat(
        [named, pd.DataFrame([{"user_id": PEERS, "periods": 0, "pinball_loss": np.nan, **everybody}])],
        ignore_index=True,
    ).assign(category=category)


def tell_callers(traits: pd.DataFrame, called: Sequence[tuple[str, str]], *, week: int) -> pd.DataFrame:
    """The traits of those who called, in words: `TRAITS`; no row for a caller without a closed period.

    Parameters
    ----------
    called : (user_id, category) of the calls that stand.
    """
    known = [key for key in dict.fromkeys(called) if key in traits.index]
    rows = [{"user_id": key[0], "category": key[1], "week": week, **traits.loc[key].to_dict()} for key in known]
    told = [{**row, "periods": int(row["periods"]), "text": _words(row)} for row in rows]
    return pd.DataFrame(told, columns=list(TRAITS))


_SAYS = {"commit": "commits", "most_likely": "calls most likely", "best_case": "calls best case"}


def _words(row: dict[str, float]) -> str:
    """Such as: commits 18 % high on day 30, ± 9; met in 3 of 10 periods like this."""
    off = float(np.expm1(row["bias"]))
    side = "high" if off > 0 else "low"
    day = 7 * int(row["week"]) - 6
    spread = (np.exp(row["spread"]) - np.exp(-row["spread"])) / 2
    said = f"{_SAYS[str(row['category'])]} {abs(off):.0%} {side} on day {day}, ± {100 * spread:.0f}"
    return f"{said.replace('%', ' %')}; reached in {10 * row['met']:.0f} of 10 periods"


def with_evidence(nodes: pd.DataFrame, calls: pd.DataFrame, traits: pd.DataFrame) -> pd.DataFrame:
    """The model's word on each node and the best call on it, each weighed by how sure past errors leave it.

    In logs: the model is as sure as its range says, which rests on past errors; a call, less its caller's bias, as sure
    as the caller's spread. Of the categories that a head called, the one with the smallest spread counts.

    Parameters
    ----------
    nodes : node_type, node_id, won_to_date, mean and all `QUANTILES`, as the model says them.
    calls : node_type, node_id, user_id, category, value: the heads' calls that stand.

    Returns
    -------
    Frame: node_type, node_id, user_id, category, value and all `QUANTILES`; no row where there is no call, or either
    says nothing above zero.
    """
    columns = ["node_type", "node_id", "won_to_date", "mean", *QUANTILES]
    found = _best_calls(calls, traits).merge(nodes.reindex(columns=columns), on=["node_type", "node_id"])
    found = found[(found["mean"] > 0) & (found["p50"] > 0) & (found["p90"] > found["p50"])].reset_index(drop=True)
    own = np.log(found["p90"] / found["p50"]) / _TEN_TO_NINETY
    weight = own**2 / (own**2 + found["spread"] ** 2)
    heard = np.log(found["value"]) - found["bias"]
    middle = np.exp((1 - weight) * np.log(found["mean"]) + weight * heard)
    both = np.sqrt(
        ((1 - weight) * own) ** 2
        + (weight * found["spread"]) ** 2
        + 2 * _SHARED * weight * (1 - weight) * own * found["spread"]
    )
    narrower = both / own
    floor = np.minimum(found["won_to_date"].fillna(-np.inf), found["p05"])
    told = pd.DataFrame(index=found.index)
    for name in QUANTILES:
        # What the model's quantile is above or below its mean, in logs, shrinks with what is left of its doubt.
        apart = np.log(found[name].clip(lower=found["mean"] * 1e-6) / found["mean"])
        moved = np.maximum(middle * np.exp(narrower * apart), floor)
        # Where the model holds it for possible that nothing more comes, a call does not speak against it.
        told[name] = moved.where(found[name] > found["won_to_date"].fillna(0.0), found[name])
    told = told.cummax(axis=1)
    keys = found[["node_type", "node_id", "user_id", "category"]]
    return keys.assign(value=np.maximum(middle, floor)).join(told)


def _best_calls(calls: pd.DataFrame, traits: pd.DataFrame) -> pd.DataFrame:
    """Of each node's calls above zero the one whose caller errs least, with bias and spread."""
    known = traits[["bias", "spread"]].reset_index()
    peers = known[known["user_id"] == PEERS].drop(columns="user_id")
    said = calls.loc[calls["value"] > 0, ["node_type", "node_id", "user_id", "category", "value"]]
    said = said.merge(known, on=["user_id", "category"], how="left")
    said = said.merge(peers, on="category", how="left", suffixes=("", "_peers"))
    for name in ("bias", "spread"):
        said[name] = said[name].astype("float64").fillna(said[f"{name}_peers"].astype("float64"))
    said = said.dropna(subset=["spread"]).sort_values("spread", kind="stable")
    said = said.drop_duplicates(["node_type", "node_id"])
    return said[["node_type", "node_id", "user_id", "category", "value", "bias", "spread"]]
