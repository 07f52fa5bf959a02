"""Commands that look back: review a period, walk through past ones, the letter of the week, what scores do."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from dealcast.commands.options import AsOf, Out, export
from dealcast.display import Document, money, percent, table, text
from dealcast.documents import check_out
from dealcast.session import Session, progress_of

app = typer.Typer()
TOP_CALLERS = 15


@app.command()
def review(
    context: typer.Context,
    as_of: AsOf = None,
    period_start: Annotated[
        str | None, typer.Option("--period-start", metavar="D", help="First day of the period, if not the present one.")
    ] = None,
    out: Out = None,
) -> None:
    """The model, the calls and the baselines at each Monday of a period, beside what came."""
    check_out(out)
    from dealcast import review as reviews

    session: Session = context.obj
    with progress_of("review") as progress:
        document = reviews.review(session, as_of=as_of, period_start=period_start, progress=progress)
    if out is not None:
        export(session, document["rows"], out, "review")
    session.hand_over({**document, "out": out}, show_review)


@app.command()
def backtest(
    context: typer.Context,
    periods: Annotated[int, typer.Option("--periods", metavar="N", min=1, help="How many ended periods.")] = 4,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where the results go; by default in the workspace.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="W", min=1, help="Processes; by default one per core.")
    ] = None,
) -> None:
    """Walk forward over past periods with only what was known: who would have been right, and by how much."""
    from dealcast import review as reviews

    session: Session = context.obj
    with progress_of("backtest") as progress:
        document = reviews.backtest(session, periods=periods, out=out, workers=workers, progress=progress)
    session.hand_over(document, show_backtest)


@app.command()
def digest(
    context: typer.Context,
    user: Annotated[
        str | None, typer.Option("--user", metavar="USER_ID", help="As this user may see it; default: the company.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where the files go; by default in the workspace.")
    ] = None,
    locale: Annotated[str, typer.Option("--locale", metavar="L", help="Its language: en-US, fr, ro.")] = "en-US",
    currency: Annotated[
        str | None,
        typer.Option("--currency", metavar="CODE", help="In which money is told; default: the base currency."),
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Where the service is for its readers, for links.")
    ] = None,
) -> None:
    """The week in one letter, as an HTML e-mail and a message for Slack: the number, the deals, how it did."""
    from dealcast import digest as digests

    session: Session = context.obj
    with progress_of("digest") as progress:
        asked: Any = {"user_id": user, "out": out, "locale": locale, "currency": currency, "address": url}
        document = digests.digest(session, **asked, progress=progress)
    session.hand_over(document, digests.show_digest)


@app.command()
def holdout(context: typer.Context) -> None:
    """Which teams see no scores, what could be found with them, and what scores have done so far."""
    from dealcast import holdout as holdouts

    session: Session = context.obj
    session.hand_over(holdouts.holdout(session), show_holdout)


def show_review(console: Console, document: Document) -> None:
    """The company's review, a line for each cut; of the calls what is committed."""
    moment, start, end = (text(document[name]) for name in ("as_of", "period_start", "period_end"))
    console.print(f"Review of {start} to {end}, as of {moment}. Data {document['data_version']}.")
    for note in document["notes"]:
        console.print(f"Note: {escape(note)}")
    rows = document["rows"]
    company = rows[(rows["node_type"] == "company") & rows["category"].fillna("commit").eq("commit")]
    who = list(company["forecaster"].unique())
    lines = []
    for (week, cut), said in company.groupby(["week_of_period", "cut_at"]):
        values = said.set_index("forecaster")["value"].reindex(who)
        ranges = said[["p10", "p90"]].max()
        basis = "published" if said["basis"].eq("published").any() else "replayed"
        amounts = (*ranges, *values, said["actual"].iloc[0])
        lines.append((str(week), text(cut)[:10], basis, *map(money, amounts)))
    if lines:
        table(console, ("week", "cut", "basis", *(f"{name}>" for name in ("p10", "p90", *who, "actual"))), lines)
    for each in document["callers"].head(TOP_CALLERS).itertuples():
        console.print(f"{escape(each.user_id)} {each.text} ({each.periods} periods).")
    nodes = len(rows[["node_type", "node_id"]].drop_duplicates())
    console.print(f"{len(rows):,} rows of {nodes:,} nodes: `--out FILE` or `--json` gives all of them.")
    if document["out"]:
        console.print(f"Written: {escape(str(document['out']))}")


def show_backtest(console: Console, document: Document) -> None:
    """Who was right about the company, week by week, and whether the model was better than chance allows."""
    walked = ", ".join(f"{each['period_start']} ({money(each['actual'])})" for each in document["periods"])
    console.print(f"Periods and what they brought: {walked}. Data {document['data_version']}.")
    for note in document["notes"]:
        console.print(f"Note: {escape(note)}")
    board, differences = (
        frame[(frame["node_type"] == "company") & frame["category"].fillna("commit").eq("commit")]
        for frame in (document["scoreboard"], document["differences"])
    )
    who = list(board["forecaster"].unique())
    grid = board.pivot(index="week", columns="forecaster", values="wape")[who]
    lines = [(str(week), *map(percent, values)) for week, *values in grid.itertuples()]
    table(console, ("week", *(f"{name}>" for name in who)), lines, title="company: error as a share of bookings (wape)")
    lines = [
        (each.against, each.metric, *(f"{value:+,.4g}" for value in (each.difference, each.low, each.high)))
        for each in differences.itertuples()
    ]
    columns = ("model less", "metric", "difference>", "low>", "high>")
    table(console, columns, lines, title="below zero the model is better; 95 % range over periods")
    console.print(f"Written: {escape(str(document['out']))}")


def show_holdout(console: Console, document: Document) -> None:
    """The teams, the power there is, and the effect."""
    rows = [
        (each["team"], "yes" if each["sees_scores"] else "no", f"{each['open_deals']:,}") for each in document["teams"]
    ]
    table(console, ("team", "sees scores", "open deals>"), rows)
    least = document["detectable_points"]
    if least is None:
        console.print("[yellow]Nothing can be found:[/] there are no open deals of both kinds of teams.")
    else:
        console.print(f"A difference of at least {least:.1f} points could be found in this period, by luck alone.")
    effect = document["effect"]
    if effect is None:
        console.print("Not measured yet: no period has ended with deals of both kinds of teams.")
        return
    shown, withheld = effect["deals"]
    console.print(
        f"Won beyond what was said: {effect['difference']:+.1f} points with scores ({shown:,} deals) against without "
        f"({withheld:,}); {effect['detectable']:.1f} would be found, so much by chance in {effect['chance']:.0%} "
        f"of {effect['draws']:,} draws of teams"
    )
