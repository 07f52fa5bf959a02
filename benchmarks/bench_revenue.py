"""The quarter's forecast against the truth: how far from what may come it is, at every level of the hierarchy.

    python -m benchmarks.bench_revenue [--companies 1 2 … 10] [--days 1 43] [--weeks 17] [--keep FOLDER]

Ten companies of five sizes and seasons, see `SHAPES`. Each lives twice: steady, and with buyers who have decided
more slowly and said no more often for so many weeks before the quarter. On some Tuesdays of the quarter a model is
trained on what is known, as `dealcast backtest` does, and forecasts the quarter. Each day is run forward many times, so
a forecast is judged by all the quarters that may come of it, not by the one that came. The others name one number;
their quantiles are that number plus those of the errors which the same forecaster made on the same day of up to eight
past quarters, at all nodes of the level. `truth` are the quantiles of the futures themselves. Losses are shares of what
a node of the level truly brings, on average.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.judging import difference
from crm.calendar import Period
from crm.hierarchy import place_owners
from crm.history import DealHistory, build_history, open_deals
from crm.synthetic import CompanyConfig, CompanyState, export, simulate, true_bookings
from crm.tables import CrmTables
from models.bundle import Bundle
from models.forecaster import QUANTILES, forecast_nodes
from models.revenue_baselines import first_day
from models.review import books_close_at, called_nodes, caller_record, final_bookings, review_rows, with_actual
from models.scorer import score_deals
from training.fit import fit_bundle
from training.metrics import Difference
from training.scoreboard import crps, pinball_losses

# Every fifth company has the same shape: the quarter that is forecast begins in the week of the Monday.
SHAPES = (
    ({}, date(2026, 1, 5)),
    ({"deals_per_week": 16.0, "n_reps": 12, "n_teams": 3}, date(2026, 4, 6)),
    ({"deals_per_week": 64.0, "n_reps": 48, "n_teams": 8, "n_regions": 3}, date(2026, 7, 6)),
    ({"deals_per_week": 24.0, "n_reps": 18, "n_teams": 3, "renewals": True}, date(2025, 10, 6)),
    (
        {"deals_per_week": 48.0, "n_reps": 36, "n_teams": 6, "n_regions": 3, "currencies": ("USD", "EUR")},
        date(2026, 1, 5),
    ),
)
PAST_PERIODS = 8
NODE_LEVELS = ("company", "region", "team", "rep")
QUANTILE_LEVELS = np.array(list(QUANTILES.values()))
LARGEST_ERROR = {"steady": 0.06, "shifted": 0.10}
RIVALS = ("same_day_conversion", "call_corrected commit", "call_corrected most_likely", "call_corrected best_case")
JUDGED = ("model", "model_with_calls", *RIVALS, "stage_weighted", "truth")
METRICS = ("crps", "pinball_loss")
NODE = ["node_type", "node_id"]
LIFE = ["company", "kind", "days"]


def main() -> int:
    """Print what each forecaster is worth; exit 1 if a promise does not hold."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--companies", type=int, nargs="+", default=list(range(1, 11)))
    arguments.add_argument("--days", type=int, nargs="+", default=[1, 43], help="after the quarter's Monday")
    arguments.add_argument("--weeks", type=int, default=17)
    arguments.add_argument("--futures", type=int, default=200)
    arguments.add_argument("--keep", type=Path, metavar="FOLDER", help="keep what was found here, and go on from it")
    chosen = arguments.parse_args()
    lives = []
    for number in chosen.companies:
        for name, weeks in (("steady", None), ("shifted", chosen.weeks)):
            life = kept_life(chosen.keep, number, weeks, days=chosen.days, futures=chosen.futures)
            lives.append(life.assign(company=number, kind=name))
            print(f"{name} {number}: {told_company(life)}", flush=True)
    rows = pd.concat(lives, ignore_index=True)
    kept = [within_limit(rows[rows["kind"] == name], name) for name in LARGEST_ERROR]
    for name in LARGEST_ERROR:
        tell(rows[rows["kind"] == name], name)
    kept += tell(rows, "together")
    for promise, holds in kept:
        print(f"{'kept' if holds else 'NOT KEPT'}: {promise}")
    return 0 if all(holds for _, holds in kept) else 1


def kept_life(
    folder: Path | None, number: int, weeks: int | None, *, days: Sequence[int], futures: int
) -> pd.DataFrame:
    """As `judge_life`, read from the folder where an earlier run has left it there."""
    if folder is None:
        return judge_life(number, weeks, days=days, futures=futures)
    path = folder / f"{number}-{weeks or 'steady'}-{'-'.join(map(str, days))}-{futures}.parquet"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        judge_life(number, weeks, days=days, futures=futures).to_parquet(path, index=False)
    return pd.read_parquet(path)


def judge_life(number: int, weeks: int | None, *, days: Sequence[int], futures: int) -> pd.DataFrame:
    """A row per day, node and forecaster: what it said of the node's quarter, and what that cost; see `judge_day`."""
    shape, begins = SHAPES[(number - 1) % len(SHAPES)]
    shift = None if weeks is None else begins - timedelta(weeks=weeks)
    state = simulate(CompanyConfig(seed=number, regime_shift_on=shift, **shape), begins)
    parts = []
    for after in days:
        state = state.advance(begins + timedelta(days=after))
        tables = export(state)
        bundle = fit_bundle(tables, tables.as_of).bundle
        bundle = replace(bundle, manifest={**bundle.manifest, "model_version": "benchmark"})
        parts.append(judge_day(bundle, state, futures=futures).assign(days=after))
    return pd.concat(parts, ignore_index=True)


def judge_day(bundle: Bundle, state: CompanyState, *, futures: int) -> pd.DataFrame:
    """Frame: node_type, node_id, who, value and true mean (money), pinball_loss, crps (shares), covered (0..1)."""
    tables = replace(export(state), field_classes=bundle.field_classes)
    history = build_history(tables)
    as_of, period = tables.as_of, tables.calendar.period_of(tables.as_of)
    scores = score_deals(bundle, tables, history, open_deals(history, as_of), explain=False)
    nodes = forecast_nodes(bundle, tables, history, scores, as_of=as_of, period=period)
    record = caller_record(tables, history, as_of)
    rows = named(review_rows(tables, history, nodes, record, cut=as_of, period=period, basis="replayed"))
    rows = with_past_errors(rows, past_errors(tables, history, record))
    truth = dict(true_nodes(tables, history, state, futures))
    perfect = [
        {**dict(zip(NODE, node, strict=True)), "who": "truth", "value": money.mean()}
        | dict(zip(QUANTILES, np.quantile(money, QUANTILE_LEVELS), strict=True))
        for node, money in truth.items()
    ]
    rows = pd.concat([rows, pd.DataFrame(perfect)], ignore_index=True)
    rows = rows[[node in truth for node in zip(*(rows[name] for name in NODE), strict=True)]]
    costs = [_cost(row[list(QUANTILES)], truth[row["node_type"], row["node_id"]]) for _, row in rows.iterrows()]
    judged = pd.concat([rows[[*NODE, "who", "value"]].reset_index(drop=True), pd.DataFrame(costs)], axis=1)
    # The same yardstick for all nodes of a level: who sells little does not weigh more.
    typical = judged[judged["who"] == "truth"].groupby("node_type")["true_mean"].mean()
    scale = judged["node_type"].map(typical)
    return judged.assign(pinball_loss=judged["pinball_loss"] / scale, crps=judged["crps"] / scale)


def _cost(said: pd.Series, money: np.ndarray) -> dict[str, float]:
    quantiles = np.tile(said.to_numpy(dtype=float), (len(money), 1))
    return {
        "true_mean": money.mean(),
        "pinball_loss": pinball_losses(quantiles, QUANTILE_LEVELS, money).mean(),
        "crps": crps(quantiles, QUANTILE_LEVELS, money).mean(),
        "covered": np.mean((money >= said["p10"]) & (money <= said["p90"])),
    }


def true_nodes(
    tables: CrmTables, history: DealHistory, state: CompanyState, futures: int
) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
    """Each node with (futures,) bookings of the quarter; reps are where they are now."""
    money = true_bookings(state, futures, seed=99)
    reps = pd.Series(state.company.user_ids[: money.shape[1]], dtype="str")
    places = place_owners(tables, history, reps, pd.Series(tables.as_of, reps.index))
    yield ("company", "company"), money.sum(axis=1)
    for level in ("region", "team", "rep"):
        for node in places[level].unique():
            yield (level, node), money[:, (places[level] == node).to_numpy()].sum(axis=1)


def past_errors(tables: CrmTables, history: DealHistory, record: pd.DataFrame) -> pd.DataFrame:
    """What everybody but the model missed by on this day of past quarters: node_type, who, error (said less came)."""
    calendar, now = tables.calendar, tables.calendar.period_of(tables.as_of)
    ended: list[Period] = []
    period = calendar.previous_period(now)
    while period.start_at >= first_day(tables) and len(ended) < PAST_PERIODS:
        if books_close_at(calendar, period) <= tables.as_of:
            ended.append(period)
        period = calendar.previous_period(period)
    parts = []
    for period in ended:
        then = period.start_at + (tables.as_of - now.start_at)
        nodes = called_nodes(tables, history, then, period)
        rows = review_rows(tables, history, nodes, record, cut=then, period=period, basis="replayed")
        parts.append(with_actual(rows, final_bookings(tables, history, period, tables.as_of)))
    return named(pd.concat(parts, ignore_index=True))


def with_past_errors(rows: pd.DataFrame, past: pd.DataFrame) -> pd.DataFrame:
    """Quantiles for who gave none; without past errors a number stands for all of them."""
    missed = {key: -group["error"].dropna() for key, group in past.groupby(["node_type", "who"])}
    rows = rows.copy()
    for place, row in rows[rows["p50"].isna()].iterrows():
        errors = missed.get((row["node_type"], row["who"]), pd.Series([0.0]))
        rows.loc[place, list(QUANTILES)] = row["value"] + np.quantile(errors, QUANTILE_LEVELS)
    return rows


def named(rows: pd.DataFrame) -> pd.DataFrame:
    """Review rows of those who are judged, with the forecaster and category as one name."""
    who = rows["forecaster"] + rows["category"].map(" {}".format, na_action="ignore").fillna("")
    return rows.assign(who=who)[who.isin(JUDGED).to_numpy()]


def told_company(rows: pd.DataFrame) -> str:
    """The company's error on each day, by the model."""
    own = rows[(rows["who"] == "model") & (rows["node_type"] == "company")]
    return ", ".join(f"{error:+.3f}" for error in own["value"] / own["true_mean"] - 1)


def within_limit(rows: pd.DataFrame, name: str) -> tuple[str, bool]:
    """The promise on the mean distance of the company's mean from the true one."""
    company = rows[(rows["who"] == "model") & (rows["node_type"] == "company")]
    error = (company["value"] / company["true_mean"] - 1).abs().mean()
    limit = LARGEST_ERROR[name]
    return f"{name}: the company's mean within {limit:.0%} ({error:.1%})", error <= limit


def tell(rows: pd.DataFrame, name: str) -> list[tuple[str, bool]]:
    """Print the table of some lives; the promises on losses and coverage, and whether each holds."""
    rows = rows.assign(missed=(rows["value"] - rows["true_mean"]).abs())
    kept, model = [], rows[rows["who"] == "model"]
    print(f"{name:10}{'':28}{'|error|':>9}{'bias':>8}{'pinball':>9}{'CRPS':>8}{'80 %':>7}   model less it: CRPS")
    for level in NODE_LEVELS:
        for who in JUDGED:
            own = rows[(rows["node_type"] == level) & (rows["who"] == who)]
            total = own["true_mean"].sum()
            error, bias = own["missed"].sum() / total, own["value"].sum() / total - 1
            numbers = own[["pinball_loss", "crps", "covered"]].mean()
            line = f"{level:10}{who:28}{error:9.3f}{bias:+8.3f}" + "{:9.4f}{:8.4f}{:7.3f}".format(*numbers)
            less = {}
            if who not in ("model", "truth"):
                both = model.merge(own, on=[*LIFE, *NODE], suffixes=("", "_other"))
                less = {metric: less_by(both, metric) for metric in METRICS}
                line += "   {:+.4f} [{:+.4f}, {:+.4f}]".format(*less["crps"].to_dict().values())
            print(line, flush=True)
            promised = less.items() if who in RIVALS else ()
            kept += [(f"{name}, {level}: {metric} below that of {who}", told.high < 0) for metric, told in promised]
        covered = model.loc[model["node_type"] == level, "covered"].mean()
        kept.append((f"{name}, {level}: the 80 % range covers 72 to 88 % ({covered:.1%})", 0.72 <= covered <= 0.88))
    by_level = rows.groupby(["who", *LIFE, "node_type"])[list(METRICS)].mean()
    means = by_level.groupby(level=["who", *LIFE]).mean()
    for who in RIVALS:
        both = means.loc["model"].reset_index().merge(means.loc[who], on=LIFE, suffixes=("", "_other"))
        less = {metric: less_by(both, metric) for metric in METRICS}
        print(
            f"all levels {who:27}" + " " * 43 + "   {:+.4f} [{:+.4f}, {:+.4f}]".format(*less["crps"].to_dict().values())
        )
        kept += [(f"{name}, all levels: {metric} below that of {who}", told.high < 0) for metric, told in less.items()]
    covered = model.groupby("node_type")["covered"].mean().mean()
    kept.append((f"{name}, all levels: the 80 % range covers 76 to 84 % ({covered:.1%})", 0.76 <= covered <= 0.84))
    return kept


def less_by(both: pd.DataFrame, metric: str) -> Difference:
    """How much less the model loses than the other; companies are drawn anew, each with all its days and lives."""
    losses, others, companies = (both[name].to_numpy() for name in (metric, f"{metric}_other", "company"))
    return difference(losses, others, companies, np.zeros(len(both)))


if __name__ == "__main__":
    sys.exit(main())
