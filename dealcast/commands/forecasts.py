"""Commands that forecast: train a model, score deals, forecast a period, explain a score."""

from collections.abc import Mapping
from typing import Annotated, Literal

import pandas as pd
import typer
from rich.console import Console
from rich.markup import escape

from crm.errors import Detail, UsageError
from dealcast.commands.options import AsOf, Out, hand_over_rows
from dealcast.display import Document, money, number, percent, table, text
from dealcast.documents import check_out
from dealcast.session import Session, progress_of

app = typer.Typer()
TOP_DEALS = 15
NODE_ORDER = ("company", "region", "team", "manager", "rep")
By = Literal["deal_type", "pipeline", "segment", "currency"]


@app.command()
def train(
    context: typer.Context,
    as_of: AsOf = None,
    trials: Annotated[
        int, typer.Option("--trials", metavar="N", min=0, help="Settings to try, earlier tries on these data included.")
    ] = 0,
    minutes: Annotated[
        float | None, typer.Option("--minutes", metavar="M", min=0, help="Start no trial after so many minutes.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="W", min=1, help="Processes for trials; by default one per core.")
    ] = None,
    promote: Annotated[
        Literal["auto", "never", "always"], typer.Option("--promote", help="When the new model becomes champion.")
    ] = "auto",
) -> None:
    """Fit, calibrate, evaluate and register a model; promote it through the gate."""
    if not trials and (minutes is not None or workers is not None):
        given = "--workers" if minutes is None else "--minutes"
        detail = Detail(
            "command line", given, "it bounds the trials of --trials", "Add `--trials 30`, or leave it out."
        )
        raise UsageError(f"{given} says nothing without --trials.", detail)
    from dealcast import steps

    session: Session = context.obj
    with progress_of("train") as progress:
        document = steps.train_model(
            session,
            as_of=as_of,
            promote=promote,
            tuning=steps.TuningAsked(trials, minutes, workers),
            progress=progress,
        )
    session.hand_over(document, show_train)


@app.command()
def score(context: typer.Context, as_of: AsOf = None, out: Out = None) -> None:
    """Score all open deals and publish the scores."""
    check_out(out)
    from dealcast import steps

    session: Session = context.obj
    with progress_of("score") as progress:
        document = steps.score(session, as_of=as_of, progress=progress)
    hand_over_rows(session, document, "scores", out, show_scores)


@app.command()
def forecast(
    context: typer.Context,
    as_of: AsOf = None,
    period_start: Annotated[
        str | None, typer.Option("--period-start", metavar="D", help="First day of the period, if not the present one.")
    ] = None,
    by: Annotated[By | None, typer.Option("--by", help="Add rows for each value of this.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="D", help="Also say why it is not what it was at this moment.")
    ] = None,
    out: Out = None,
) -> None:
    """Forecast the period's bookings for every rep, team, region, manager and the company."""
    check_out(out)
    from dealcast import steps

    session: Session = context.obj
    with progress_of("forecast") as progress:
        document = steps.forecast(
            session, as_of=as_of, period_start=period_start, by=by, since=since, progress=progress
        )
    hand_over_rows(session, document, "nodes", out, show_forecast)


@app.command()
def explain(
    context: typer.Context,
    deal_id: Annotated[str, typer.Argument(metavar="DEAL_ID", help="An open deal.")],
    as_of: AsOf = None,
) -> None:
    """Why a deal's score is what it is, and why it is not what it was a week ago or more."""
    from dealcast import explanation

    session: Session = context.obj
    with progress_of("explain") as progress:
        document = explanation.explain(session, deal_id, as_of=as_of, progress=progress)
    session.hand_over(document, show_explanation)


def show_train(console: Console, document: Document) -> None:
    """How good the model is beside the baselines, and what the gate decided."""
    gate = document["gate"]
    deals = ", ".join(f"{count:,} {state}" for state, count in document["deals"].items())
    console.print(
        f"Model {document['model_version']}, trained as of {text(document['trained_as_of'])} "
        f"on {document['snapshots']:,} snapshots of deals ({deals})"
    )
    show_metrics(console, document["metrics"], document["baselines"])
    console.print(f"Gate: [bold]{gate['decision']}[/] — {escape('; '.join(gate['reasons']))}")
    console.print(f"Champion: {text(document['champion'])} ({document['seconds']:.0f} seconds)")


def show_metrics(console: Console, metrics: Document, baselines: Mapping[str, Document]) -> None:
    """The model's metrics over the baselines', the best log loss first."""
    names = ("log_loss", "brier", "auc", "calibration_error", "calibration_slope")
    ranked = sorted(baselines.items(), key=lambda each: each[1].get("log_loss") or float("inf"))
    rows = [
        (f"[bold]{who}[/]" if who == "model" else who, *(number(seen.get(name)) for name in names))
        for who, seen in [("model", metrics), *ranked]
    ]
    table(console, ("won in the period", *(f"{name}>" for name in names)), rows)


def show_head(console: Console, document: Document, what: str) -> None:
    """Which moment, period and model, and whether it was published."""
    said = "published" if document["published"] else "a replay, not published"
    console.print(
        f"As of {text(document['as_of'])}, period {text(document['period_start'])} to {text(document['period_end'])}: "
        f"{what}, {said}. Model {document['model_version']}, data {document['data_version']}."
    )
    if document["out"]:
        console.print(f"Written: {escape(str(document['out']))}")


def show_scores(console: Console, document: Document) -> None:
    """The deals that bring the most to the period, each with its first reason."""
    show_head(console, document, f"{document['deals']:,} open deals")
    scores = document["scores"]
    brings = scores["period_win_probability"] * scores["expected_amount"]
    top = scores.loc[brings.sort_values(ascending=False, kind="stable").index[:TOP_DEALS]]
    show_deals(console, top)
    if len(scores) > len(top):
        console.print(f"… and {len(scores) - len(top):,} more: `--out FILE` or `--json` gives all of them.")
    if document["shadow"] is not None:
        shadow = document["shadow"]
        console.print(
            f"In the shadow, unpublished: {shadow['challenger']} differs by {shadow['mean_distance']:.1f} points "
            f"a deal, by more than 10 on {shadow['far_apart']:,}."
        )


def show_deals(console: Console, scores: pd.DataFrame) -> None:
    """Score rows, one line each."""
    rows = [
        (
            escape(deal.deal_id),
            percent(deal.win_probability),
            percent(deal.period_win_probability),
            "–" if pd.isna(deal.score_change) else f"{deal.score_change:+.0f}",
            text(deal.expected_close_date),
            money(deal.expected_amount),
            escape(f"{deal.reasons[0]['text']} ({deal.reasons[0]['effect']:+.0f})") if deal.reasons else "–",
        )
        for deal in scores.itertuples()
    ]
    columns = ("deal", "win>", "this period>", "change>", "expected close", "amount>", "strongest reason (points)")
    table(console, columns, rows)


def show_explanation(console: Console, document: Document) -> None:
    """One deal's score, its reasons, and what moved it."""
    score, since = document["score"], document["since"]
    console.print(
        f"Deal {escape(document['deal_id'])} as of {text(document['as_of'])}: "
        f"[bold]{percent(score['win_probability'])}[/] to be won within a year "
        f"({percent(score['win_probability_low'])} to {percent(score['win_probability_high'])}), "
        f"{percent(score['period_win_probability'])} in this period. Model {score['model_version']}."
    )
    reasons = [(f"{each['effect']:+.1f}", escape(each["text"])) for each in score["reasons"]]
    if reasons:
        table(console, ("points>", "against the average open deal"), reasons)
    if since is None:
        console.print("No score was published for a moment at least 7 days before.")
        return
    console.print(f"It was {percent(since['win_probability'])} as of {text(since['as_of'])}; since then:")
    changes = [(f"{each.effect:+.1f}", each.cause, escape(each.text)) for each in document["change"]]
    table(console, ("points>", "by", "what changed"), changes)


def show_forecast(console: Console, document: Document) -> None:
    """Bookings of every node with their range, the company first."""
    nodes = document["nodes"]
    show_head(console, document, f"{len(nodes):,} nodes")
    order = nodes["node_type"].map({kind: place for place, kind in enumerate(NODE_ORDER)})
    ordered = nodes.assign(_order=order).sort_values(["scope", "_order", "mean"], ascending=[True, True, False])
    rows = [
        (
            escape(f"{node.node_type} {node.node_name if isinstance(node.node_name, str) else node.node_id}"),
            "" if node.scope == "all" else escape(node.scope),
            *(
                money(value)
                for value in (node.won_to_date, node.mean, node.p10, node.p90, node.call_commit, node.quota)
            ),
            percent(node.probability_of_quota),
        )
        for node in ordered.itertuples()
    ]
    columns = ("node", "scope", "won>", "expected>", "p10>", "p90>", "commit call>", "quota>", "quota reached>")
    table(console, columns, rows)
    if "moved" in document:
        show_moves(console, document)


def show_moves(console: Console, document: Document) -> None:
    """Why the company's forecast moved, with the deals that moved it most."""
    since, moved = document["since"], document["moved"]
    company = moved[moved["node_type"] == "company"]
    if company.empty:
        console.print(f"Nothing moved since {text(since['as_of'])}.")
        return
    earlier, later = (money(company[name].iloc[0]) for name in ("earlier", "later"))
    rows = []
    for bar in company.itertuples():
        told = [f"{each['deal_id']} ({signed(each['amount'])})" for each in bar.deals[:3]]
        others = bar.other_deals + len(bar.deals) - len(told)
        rows.append((signed(bar.amount), bar.text, escape(", ".join(told)) + (f", {others} more" if others else "")))
    title = f"company: {earlier} as of {text(since['as_of'])} (model {since['model_version']}), {later} now"
    table(console, ("moved by>", "because", "deals"), rows, title=title)


def signed(amount: float) -> str:
    """A difference of money, rounded, with its sign."""
    return f"{amount:+,.0f}"
