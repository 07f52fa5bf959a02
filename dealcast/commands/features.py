"""Commands on the catalogue of features: `dealcast features …`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dealcast.commands.options import AsOf
from dealcast.display import Document, show_pairs, table, text
from dealcast.session import Session, progress_of

app = typer.Typer(help="The catalogue of features.", no_args_is_help=True)


@app.command(name="list")
def features_list(context: typer.Context) -> None:
    """Every feature with its unit, which direction is good, who controls it, and what it is worth to the champion."""
    from dealcast import feature_report

    session: Session = context.obj
    session.hand_over(feature_report.list_features(session.workspace), show_features)


@app.command(name="show")
def features_show(context: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """One feature: what it means, what it means if it is unknown, and what it is worth to the champion."""
    from dealcast import feature_report

    session: Session = context.obj
    session.hand_over(feature_report.show_feature(session.workspace, name), show_pairs)


@app.command(name="drift")
def features_drift(context: typer.Context, as_of: AsOf = None) -> None:
    """How far the features of the open deals are from those that the model was trained on."""
    from dealcast import feature_report

    session: Session = context.obj
    session.hand_over(feature_report.feature_drift(session.workspace, as_of), show_drift)


@app.command(name="build")
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
    session.hand_over(document, show_pairs)


def show_features(console: Console, document: Document) -> None:
    """The catalogue, one feature a line."""
    columns = ("name", "unit", "higher_is", "controlled_by", "audience", "known_share", "importance")
    titles = ("feature", "unit", "higher is", "controlled by", "audience", "known>", "importance>", "meaning")
    rows = []
    for feature in document["features"]:
        told = [text(feature[column]) for column in columns[:5]]
        rows.append(
            (*told, *("" if feature[c] is None else f"{feature[c]:.1%}" for c in columns[5:]), feature["description"])
        )
    table(console, titles, rows)


def show_drift(console: Console, document: Document) -> None:
    """The features farthest from their training first."""
    console.print(f"{document['deals']:,} open deals as of {text(document['as_of'])} beside those")
    console.print(f"{document['model_version']} was trained on; an index above .2 and above chance is a change.")
    rows = [
        (
            each["name"],
            f"{each['index']:.3f}",
            f"{each['by_chance']:.3f}",
            f"{each['known_share_then']:.0%}",
            f"{each['known_share_now']:.0%}",
            "changed" if each["alarm"] else "",
        )
        for each in document["features"]
    ]
    table(console, ("feature", "index>", "by chance>", "known then>", "known now>", ""), rows)
