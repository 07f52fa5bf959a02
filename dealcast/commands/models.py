"""Commands on the models of the workspace: `dealcast models …`."""

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from dealcast.commands.forecasts import show_metrics
from dealcast.display import Document, number, show_pairs, table, text
from dealcast.session import Session

app = typer.Typer(help="The models of this workspace.", no_args_is_help=True)


@app.command(name="list")
def models_list(context: typer.Context) -> None:
    """Every model, the newest last, and which one serves."""
    from dealcast import registry

    session: Session = context.obj
    session.hand_over(registry.list_models(session.workspace), show_models)


@app.command(name="show")
def models_show(
    context: typer.Context, version: Annotated[str | None, typer.Argument(metavar="VERSION")] = None
) -> None:
    """A model's card: its data, its metrics beside the baselines', its limits (without VERSION: the champion's)."""
    from dealcast import registry

    session: Session = context.obj
    session.hand_over(registry.show_model(session.workspace, version, session.settings.access.holdout), show_model)


@app.command(name="compare")
def models_compare(
    context: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help="A model version.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
) -> None:
    """Two models on the same snapshots, neither having known what became of them."""
    from dealcast import registry

    session: Session = context.obj
    session.hand_over(registry.compare(session.workspace, a, b), show_comparison)


@app.command(name="promote")
def models_promote(
    context: typer.Context,
    version: Annotated[str, typer.Argument(metavar="VERSION")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Kept with the promotion.")] = "by hand",
) -> None:
    """Make a model the champion."""
    from dealcast import registry

    session: Session = context.obj
    session.hand_over(registry.promote(session, version, reason), show_promotion)


@app.command(name="rollback")
def models_rollback(context: typer.Context) -> None:
    """Make the champion before this one the champion again."""
    from dealcast import registry

    session: Session = context.obj
    session.hand_over(registry.rollback(session), show_promotion)


def show_models(console: Console, document: Document) -> None:
    """One model a line."""
    rows = [
        (
            model["model_version"],
            text(model["trained_as_of"]),
            model["data_version"],
            number((model["metrics"] or {}).get("log_loss")),
            model["fallback"] or "–",
            ", ".join(model["aliases"]),
        )
        for model in document["models"]
    ]
    table(console, ("model", "trained as of", "data", "log loss>", "served by", "alias"), rows)


def show_model(console: Console, document: Document) -> None:
    """A model's card."""
    show_pairs(console, {k: v for k, v in document.items() if k not in ("features", "metrics", "baselines", "limits")})
    console.print(f"[bold]features[/]: {len(document['features'])} (`dealcast features list`)")
    show_metrics(console, document["metrics"], document["baselines"])
    for limit in document["limits"]:
        console.print(f"Limit: {escape(limit)}")


def show_comparison(console: Console, document: Document) -> None:
    """Two models' metrics, and whether their difference is more than chance."""
    snapshots, difference = document["snapshots"], document["difference"]["log_loss"]
    console.print(f"On {snapshots:,} snapshots whose outcome neither knew when it was trained:")
    names = ("log_loss", "brier", "auc", "calibration_error", "calibration_slope")
    rows = [(document[who], *(number(document["metrics"][who][name]) for name in names)) for who in ("a", "b")]
    table(console, ("model", *(f"{name}>" for name in names)), rows)
    if difference is None:
        console.print("There are none: nothing can be said of which one is better.")
        return
    value, low, high = (difference[name] for name in ("value", "low", "high"))
    if low <= 0 <= high:
        verdict = "no difference that chance could not make"
    else:
        verdict = f"{document['a'] if value < 0 else document['b']} is better"
    console.print(f"Log loss {value:+.4f} (95 % range {low:+.4f} to {high:+.4f}): [bold]{verdict}[/].")
    for objection in document["objections"]:
        console.print(f"The gate, if {document['a']} challenged {document['b']}: {escape(objection)}.")


def show_promotion(console: Console, document: Document) -> None:
    """Who serves now, and who did before."""
    champion, before = document["champion"], document["previous"] or "none"
    console.print(f"Champion: [bold]{champion}[/] (before: {before}), {escape(document['reason'])}")
