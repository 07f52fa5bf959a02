"""The command line, `dealcast [--workspace DIR] [--json] COMMAND …`: calls what does the work and shows the result."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from crm.errors import Detail, UsageError
from dealcast import display
from dealcast.documents import check_out, write_table
from dealcast.session import Session, progress_of, run

# What a command needs beyond this is imported inside it: `dealcast --help` answers at once, serving needs no MLflow.

app = typer.Typer(
    name="dealcast",
    help="Win probabilities and quarter forecasts from CRM history, that can prove themselves.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
models_app = typer.Typer(help="The models of this workspace.", no_args_is_help=True)
features_app = typer.Typer(help="The catalogue of features.", no_args_is_help=True)
keys_app = typer.Typer(help="API keys of the service.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(features_app, name="features")
app.add_typer(keys_app, name="keys")

AsOf = Annotated[
    str | None,
    typer.Option("--as-of", metavar="D", help="A past day (its 00:00 in the company's time zone) or a full timestamp."),
]
By = Literal["deal_type", "pipeline", "segment", "currency"]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the rows to FILE (.parquet or .csv).")]


@app.callback()
def common(
    context: typer.Context,
    workspace: Annotated[
        Path, typer.Option("--workspace", envvar="DEALCAST_WORKSPACE", metavar="DIR", help="Where everything is kept.")
    ] = Path("workspace"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Win probabilities and quarter forecasts from CRM history, that can prove themselves."""
    if workspace.exists() and not workspace.is_dir():
        rule = "the workspace is a folder; it is made where there is none"
        raise UsageError(f"{workspace} is not a folder.", Detail("--workspace", str(workspace), rule, "Name a folder."))
    context.obj = Session(workspace, as_json)


@app.command()
def demo(
    context: typer.Context,
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Leave the service running at the end.")] = True,
) -> None:
    """A synthetic company from nothing to scores, a forecast and a running service."""
    from dealcast.demo import run_demo

    run_demo(context.obj, serve=serve)


@app.command(name="import")
def import_(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The folder of tables, CSV or Parquet.")],
    mapping: Annotated[
        str | None,
        typer.Option("--mapping", metavar="FILE", help="How the tables are made of a CRM's own files and columns."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Rows absent from the export are deleted now.")] = False,
) -> None:
    """Load CRM tables; rows that cannot be read go to quarantine, with the reason."""
    from dealcast import steps

    session: Session = context.obj
    with progress_of("import") as progress:
        document = steps.import_tables(session, path, full=full, mapping=mapping, progress=progress)
    session.hand_over(document, display.show_import)


@app.command(name="map")
def map_(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The folder of a CRM's own files, CSV or Parquet.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the mapping to FILE (TOML).")] = None,
) -> None:
    """Propose a mapping file for a CRM's own export, to be reviewed; `import --mapping` reads by it."""
    from dealcast import mapping

    session: Session = context.obj
    session.hand_over(mapping.propose(path, out), mapping.show_proposal)


@app.command()
def check(context: typer.Context) -> None:
    """Data-quality findings, with the rows and the money they touch."""
    from dealcast import steps

    session: Session = context.obj
    session.hand_over(steps.check_tables(session), display.show_check)


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
    session.hand_over(document, display.show_train)


@app.command()
def score(context: typer.Context, as_of: AsOf = None, out: Out = None) -> None:
    """Score all open deals and publish the scores."""
    check_out(out)
    from dealcast import steps

    session: Session = context.obj
    with progress_of("score") as progress:
        document = steps.score(session, as_of=as_of, progress=progress)
    hand_over_rows(session, document, "scores", out, display.show_scores)


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
    hand_over_rows(session, document, "nodes", out, display.show_forecast)


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
    session.hand_over(document, display.show_explanation)


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
    session.hand_over({**document, "out": out}, display.show_review)


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
    session.hand_over(document, display.show_backtest)


def hand_over_rows(
    session: Session, document: dict[str, Any], rows: str, out: Path | None, show: Callable[[Console, Any], None]
) -> None:
    """Write the rows to the file asked for; without one they are part of the document."""
    document["out"] = out
    if out is not None:
        export(session, document[rows], out, rows)
        if session.as_json:
            del document[rows]
    session.hand_over(document, show)


def export(session: Session, rows: Any, out: Path, what: str) -> None:
    """Write rows to a file, and down that they were."""
    write_table(rows, out)
    session.ledger.record(session.user, "exported", what, at=session.now, rows=len(rows), file=out.name)


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
    session.hand_over(holdouts.holdout(session), display.show_holdout)


@app.command()
def connect(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="tryton, salesforce, hubspot, dynamics or warehouse.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Its settings; those given before stay.")
    ] = None,
) -> None:
    """Connect a CRM: its settings are kept in the workspace once it has answered; the secret is kept apart."""
    from dealcast import exchange

    session: Session = context.obj
    with progress_of("connect") as progress:
        document = exchange.connect(session, name, settings or [], progress=progress)
    session.hand_over(document, display.show_pairs)


@app.command()
def sync(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The connection, if there are several.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Fetch everything again, whatever was fetched before.")] = False,
) -> None:
    """Pull what changed in the CRM since the last time, and import it."""
    from dealcast import exchange

    session: Session = context.obj
    with progress_of("sync") as progress:
        document = exchange.sync(session, name, full=full, progress=progress)
    session.hand_over(document, display.show_sync)


@app.command()
def push(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The connection, if there are several.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on, and push whenever scores are published, until interrupted.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Also try what was refused so often that it is parked.")
    ] = False,
) -> None:
    """Write the published scores that changed back into the CRM."""
    from dealcast import exchange

    session: Session = context.obj
    with progress_of("push") as progress:
        documents = exchange.follow if follow else lambda *asked, **known: [exchange.push(*asked, **known)]
        for document in documents(session, name, again=again, progress=progress):
            session.hand_over(document, display.show_push)


@models_app.command(name="list")
def models_list(context: typer.Context) -> None:
    """Every model, the newest last, and which one serves."""
    from dealcast import registry

    session: Session = context.obj
    session.hand_over(registry.list_models(session.workspace), display.show_models)


@models_app.command(name="show")
def models_show(
    context: typer.Context, version: Annotated[str | None, typer.Argument(metavar="VERSION")] = None
) -> None:
    """A model's card: its data, its metrics beside the baselines', its limits (without VERSION: the champion's)."""
    from dealcast import registry

    session: Session = context.obj
    session.hand_over(
        registry.show_model(session.workspace, version, session.settings.access.holdout), display.show_model
    )


@models_app.command(name="compare")
def models_compare(
    context: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help="A model version.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
) -> None:
    """Two models on the same snapshots, neither having known what became of them."""
    from dealcast import registry

    session: Session = context.obj
    session.hand_over(registry.compare(session.workspace, a, b), display.show_comparison)


@models_app.command(name="promote")
def models_promote(
    context: typer.Context,
    version: Annotated[str, typer.Argument(metavar="VERSION")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Kept with the promotion.")] = "by hand",
) -> None:
    """Make a model the champion."""
    from dealcast import registry

    session: Session = context.obj
    session.hand_over(registry.promote(session, version, reason), display.show_promotion)


@models_app.command(name="rollback")
def models_rollback(context: typer.Context) -> None:
    """Make the champion before this one the champion again."""
    from dealcast import registry

    session: Session = context.obj
    session.hand_over(registry.rollback(session), display.show_promotion)


@features_app.command(name="list")
def features_list(context: typer.Context) -> None:
    """Every feature with its unit, which direction is good, who controls it, and what it is worth to the champion."""
    from dealcast import feature_report

    session: Session = context.obj
    session.hand_over(feature_report.list_features(session.workspace), display.show_features)


@features_app.command(name="show")
def features_show(context: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """One feature: what it means, what it means if it is unknown, and what it is worth to the champion."""
    from dealcast import feature_report

    session: Session = context.obj
    session.hand_over(feature_report.show_feature(session.workspace, name), display.show_pairs)


@features_app.command(name="drift")
def features_drift(context: typer.Context, as_of: AsOf = None) -> None:
    """How far the features of the open deals are from those that the model was trained on."""
    from dealcast import feature_report

    session: Session = context.obj
    session.hand_over(feature_report.feature_drift(session.workspace, as_of), display.show_drift)


@features_app.command(name="build")
def features_build(
    context: typer.Context,
    as_of: AsOf = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where the frames go; by default in the workspace.")
    ] = None,
    most: Annotated[
        int | None, typer.Option("--most", metavar="N", min=1, help="At most about so many snapshots, if not 80000.")
    ] = None,
    days: Annotated[
        int | None, typer.Option("--days", metavar="N", min=1, help="From one snapshot to the next; else as training.")
    ] = None,
    spark: Annotated[
        str | None, typer.Option("--spark", metavar="MASTER", help="Compute on Spark: local[2], spark://HOST:PORT.")
    ] = None,
) -> None:
    """Write the snapshots that training looks at, with all features, as Parquet files; of any number of deals."""
    from dealcast import frames

    session: Session = context.obj
    with progress_of("features") as progress:
        document = frames.build_frames(
            session, as_of=as_of, out=out, most=most, days=days, spark=spark, progress=progress
        )
    session.hand_over(document, display.show_pairs)


@keys_app.command(name="create")
def keys_create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who or what will use it.")],
    scope: Annotated[str, typer.Option("--scope", metavar="SCOPES", help="Of read,what_if,events,calls,panel,admin.")],
    user: Annotated[
        str | None, typer.Option("--user", metavar="USER_ID", help="It sees what this user may see; none: everything.")
    ] = None,
) -> None:
    """Make an API key; it is shown this once."""
    from dealcast import keys

    session: Session = context.obj
    session.hand_over(keys.create(session, name, scope.split(","), user), display.show_new_key)


@keys_app.command(name="list")
def keys_list(context: typer.Context) -> None:
    """Every key, without its secret."""
    from dealcast import keys

    session: Session = context.obj
    session.hand_over(keys.list_all(session), display.show_keys)


@keys_app.command(name="revoke")
def keys_revoke(context: typer.Context, key: Annotated[str, typer.Argument(metavar="KEY_ID|NAME")]) -> None:
    """End a key at once."""
    from dealcast import keys

    session: Session = context.obj
    session.hand_over(keys.revoke(session, key), display.show_pairs)


@app.command()
def audit(
    context: typer.Context,
    last: Annotated[int, typer.Option("--last", metavar="N", min=1, help="So many of the newest entries.")] = 100,
) -> None:
    """Who did what when: keys, sign-ins, refusals, promotions, exports."""
    session: Session = context.obj
    session.hand_over({"entries": session.ledger.recorded(last)}, display.show_audit)


@app.command()
def serve(
    context: typer.Context,
    host: Annotated[
        str | None, typer.Option("--host", metavar="HOST", help="By default 127.0.0.1, or settings.toml's.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", metavar="PORT", min=1, max=65535, help="By default 3000.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", min=1, help="Processes that answer, by default 1.")
    ] = None,
) -> None:
    """Serve scores and forecasts over HTTP."""
    session: Session = context.obj
    session.serve(host, port, workers=workers)


@app.command()
def doctor(context: typer.Context) -> None:
    """What is installed, configured and reachable, and what is wrong."""
    from dealcast.doctor import examine

    session: Session = context.obj
    diagnosis = examine(session)
    session.hand_over(diagnosis.document, display.show_diagnosis)
    raise typer.Exit(diagnosis.exit_code)


GROUPS = {"": app, "models": models_app, "features": features_app}
RESERVED = {
    "": ("kpis", "run", "backup", "restore"),
}
"""Commands whose names are taken and whose work is not built yet."""


def not_built(what: str, instead: str = "See `dealcast --help` for what there is.") -> UsageError:
    """The answer to whoever asks for what is promised and not there."""
    return UsageError(f"{what} is not built yet.", Detail("command line", what, "a later version brings it", instead))


def reserve(group: typer.Typer, name: str) -> None:
    """Take a command's name, whatever is written behind it."""

    @group.command(name=name, hidden=True, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
    def reserved(context: typer.Context) -> None:
        """Not built yet."""
        raise not_built(context.command_path.removeprefix("dealcast "))


for group, names in RESERVED.items():
    for name in names:
        reserve(GROUPS[group], name)


def answer(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    return run(lambda: app(args=list(arguments), prog_name="dealcast", standalone_mode=False), arguments)


def main() -> None:
    """The entry point."""
    sys.exit(answer(sys.argv[1:]))
