"""Won amount a month on a real pipeline, walking forward: a Dutch bank's loan applications, October to December 2011.

    python -m benchmarks.bench_bank_revenue

As `dealcast backtest` does: a model is trained at a month's start and forecasts the month every Monday. October has
nothing to learn from and no model, November has learned from one month, December from two. Amounts here never change,
so a month's books close with it. Losses are shares of what the month brought.
"""

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from benchmarks.public_data import BANK, bank_tables, is_here
from ledger.ledger import open_ledger
from training.backtest import Backtest, run_backtest
from training.scoreboard import judged_rows

MONTHS = 3


def main() -> int:
    """Print each forecast beside what came; exit 1 if a baseline's CRPS is better by an interval without zero."""
    if not is_here(BANK):
        return 0
    with TemporaryDirectory() as folder:
        found = walked(Path(folder))
    company = judged_rows(found.rows).query("node_type == 'company'")
    for month in found.periods:
        print(f"{month['period_start']}: {month['actual']:,.0f} won, model {month['model_version'] or '-'}")
    print(told_weeks(company).to_string(float_format="{:,.0f}".format))
    print(told_costs(company).to_string(float_format="{:.3f}".format))
    crps = found.differences.query("node_type == 'company' and metric == 'crps'").set_index("against")
    print("CRPS, model less it, with 95 % by drawing months anew:")
    print(crps[["difference", "low", "high", "periods"]].to_string(float_format="{:,.0f}".format))
    better = list(crps.index[crps["low"] > 0])
    print(f"NOT kept: better than the model: {', '.join(better)}" if better else "no baseline is shown to be better")
    return 1 if better else 0


def walked(folder: Path) -> Backtest:
    """The backtest of all months that the data hold."""
    tables = bank_tables()
    tables = replace(tables, calendar=replace(tables.calendar, books_close_days=0))
    ledger = open_ledger(f"sqlite:///{folder / 'ledger.db'}")
    try:
        return run_backtest(tables, ledger, folder, now=pd.Timestamp("2012-01-01", tz="UTC"), periods=MONTHS)
    finally:
        ledger.engine.dispose()


def told_weeks(company: pd.DataFrame) -> pd.DataFrame:
    """Said by each, Monday by Monday, with the model's 80 % range and what came (money)."""
    said = company.pivot(index="cut_at", columns="forecaster", values="value")
    model = company[company["forecaster"] == "model"].set_index("cut_at")
    actual = company.groupby("cut_at")["actual"].first()
    return said.assign(p10=model["p10"], p90=model["p90"], actual=actual).rename(index=lambda at: f"{at:%d %b}")


def told_costs(company: pd.DataFrame) -> pd.DataFrame:
    """By forecaster, where the model speaks: WAPE, bias and CRPS as shares of what came, coverage, Mondays."""
    spoken = company[company["forecaster"] == "model"]["cut_at"]
    where = company[company["cut_at"].isin(spoken)]
    booked = where.groupby("forecaster")["actual"].sum()
    sums = where.assign(wape=where["error"].abs(), bias=where["error"]).groupby("forecaster")
    costs = sums[["wape", "bias", "crps"]].sum().div(booked, axis=0)
    costs["coverage_80"] = where.groupby("forecaster")["inside_80"].agg(lambda inside: inside.astype("float64").mean())
    return costs.assign(mondays=sums.size())


if __name__ == "__main__":
    sys.exit(main())
