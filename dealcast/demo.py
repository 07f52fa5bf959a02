"""The demonstration: a synthetic company, its export imported like anybody's, everything up to a running service."""

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from crm.export import write_export
from crm.plain import to_plain
from crm.store import read_tables
from crm.synthetic import CompanyConfig, export, simulate
from dealcast import keys, steps
from dealcast.commands.data import show_findings
from dealcast.commands.forecasts import show_deals, show_metrics
from dealcast.display import money
from dealcast.documents import write_table
from dealcast.session import Session, progress_of
from models.replays import replayed_nodes
from models.review import review_cuts

KEY_NAME = "demo"
TOP_DEALS = 8
# Two years of history and the middle of a quarter, where a forecast is worth most.
COMPANY = CompanyConfig(
    seed=1,
    start=date(2024, 1, 1),
    days=731 + 45,
    n_reps=18,
    deals_per_week=24.0,
    currencies=("USD", "EUR"),
    team_moves=True,
    reopened_wins=True,
)


@dataclass(frozen=True)
class Demonstration:
    """What the demonstration did: the documents of its steps, and where the service is."""

    workspace: Path
    export: Path
    documents: dict[str, steps.Document]
    url: str | None
    key: str

    def to_dict(self) -> dict[str, Any]:
        """The `demo` document."""
        return {"workspace": self.workspace, **self.documents, "url": self.url, "key": self.key}


def run_demo(session: Session, *, serve: bool, config: CompanyConfig = COMPANY) -> None:
    """Run it all, show what came out and, with `serve`, stay and serve until interrupted."""
    settings = session.settings
    if serve:
        from serving.service import must_be_free

        must_be_free(settings.host, settings.port)
    with progress_of("demo") as progress:
        progress("a synthetic company", 0.0)
        folder = session.workspace / "export"
        write_export(export(simulate(config)), folder)
        progress("import", 0.1)
        documents = {"import": steps.import_tables(session, folder, full=False, progress=_silent)}
        progress("train", 0.2)
        begun = quarter_begun(session)
        documents["train"] = steps.train_model(session, as_of=str(begun), promote="auto", progress=_silent)
        progress("replay", 0.7)
        replay_weeks(session)
        progress("score", 0.8)
        documents["score"] = steps.score(session, as_of=None, progress=_silent)
        progress("forecast", 0.9)
        documents["forecast"] = steps.forecast(session, as_of=None, period_start=None, by=None, progress=_silent)
    key = fresh_key(session)
    url = f"http://{settings.host}:{settings.port}" if serve else None
    done = Demonstration(session.workspace, folder, documents, url, key)
    for name, rows in (("score", "scores"), ("forecast", "nodes")):
        documents[name]["out"] = session.workspace / f"{name}.csv"
        write_table(documents[name][rows], documents[name]["out"])
    session.hand_over(_without_rows(done) if session.as_json else done, show_demo)
    if serve:
        session.serve()


def quarter_begun(session: Session) -> date:
    """The first day of the quarter that the data's moment lies in: the model learns from what was known until then."""
    tables = read_tables(session.workspace)
    return tables.calendar.period_of(tables.as_of).start


def replay_weeks(session: Session) -> None:
    """Work out what the model would have said on the Mondays since it was trained, and keep it as what it is: replays.

    Without them the pages of somebody who begins today would have one point to show.
    """
    view = steps.view_at(session.workspace, None)
    calendar, at = view.tables.calendar, view.moment.at
    period = calendar.period_of(at)
    cuts = [cut for cut in review_cuts(calendar, period, at) if view.bundle.trained_as_of <= cut < at]
    replayed_nodes(
        session.ledger,
        view.bundle,
        view.tables,
        view.history,
        cuts=cuts,
        period=period,
        now=session.now,
        keep_scores=True,
    )


def fresh_key(session: Session) -> str:
    """A key for the demonstration; the one of an earlier run ends, since nobody can read it again."""
    if any(key.name == KEY_NAME and key.opens_at(session.now) for key in session.ledger.list_keys()):
        keys.revoke(session, KEY_NAME)
    return str(keys.create(session, KEY_NAME, ["read", "what_if"])["key"])


def show_demo(console: Console, done: Demonstration) -> None:
    """The best of it: the deals that matter, the quarter's range, the model beside the baselines."""
    imported, trained, scored, forecast = (done.documents[name] for name in ("import", "train", "score", "forecast"))
    rows = sum(table["read"] for table in imported["tables"].values())
    console.print(f"\n[bold]A synthetic company[/]: {rows:,} rows in {escape(str(done.export))}, imported.")
    show_findings(console, imported["findings"][:3])

    metrics, baselines = trained["metrics"], trained["baselines"]
    known = to_plain(trained["trained_as_of"])[:10]
    console.print(
        f"\n[bold]The model[/] {trained['model_version']}, trained with what was known on {known}: "
        "who wins this period? Log loss, lower is better."
    )
    show_metrics(console, metrics, baselines)

    scores = scored["scores"]
    brings = scores["period_win_probability"] * scores["expected_amount"]
    console.print(f"\n[bold]{len(scores):,} open deals[/], those that bring the most to this period:")
    show_deals(console, scores.loc[brings.sort_values(ascending=False, kind="stable").index[:TOP_DEALS]])

    nodes = forecast["nodes"]
    company = nodes[(nodes["node_type"] == "company") & (nodes["scope"] == "all")].iloc[0]
    period = f"{to_plain(forecast['period_start'])} to {to_plain(forecast['period_end'])}"
    console.print(
        f"\n[bold]Bookings {period}[/]: {money(company['mean'])} expected, "
        f"8 in 10 times between {money(company['p10'])} and {money(company['p90'])}; "
        f"{money(company['won_to_date'])} are won already."
    )
    console.print(
        "What would have been said on the Mondays before was computed now, from what was known then: the pages show it "
        "hatched, as replayed."
    )
    console.print(f"All rows: {escape(str(scored['out']))}, {escape(str(forecast['out']))}")
    console.print(f"\nAPI key (shown once): {done.key}", soft_wrap=True)
    if done.url:
        console.print(f"The service runs at {done.url} until you press Ctrl-C:", soft_wrap=True)
        body = json.dumps({"deal_ids": scores["deal_id"].head(1).tolist()})
        console.print(f"  curl -H 'x-api-key: {done.key}' --json '{body}' {done.url}/v1/score", soft_wrap=True)


def _without_rows(done: Demonstration) -> dict[str, Any]:
    document = done.to_dict()
    for name, rows in (("score", "scores"), ("forecast", "nodes")):
        document[name] = {key: value for key, value in document[name].items() if key != rows}
    return document


def _silent(_step: str, _share: float) -> None:
    """The demonstration shows its own progress."""
