"""Results for people: compact tables and a few words on standard output."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crm.plain import to_plain

Document = Mapping[str, Any]
TOP_DEALS = 15
COLOURS = {"error": "red", "warning": "yellow", "info": "blue"}
NODE_ORDER = ("company", "region", "team", "manager", "rep")


def percent(share: float | None) -> str:
    """A probability, 0..1, as whole per cent; a dash if unknown."""
    return "–" if pd.isna(share) else f"{share:.0%}"


def money(amount: float | None) -> str:
    """An amount in base currency, rounded, with thousands separated; a dash if unknown."""
    return "–" if pd.isna(amount) else f"{amount:,.0f}"


def number(value: float | None) -> str:
    """A metric with four decimals; a dash if unknown."""
    return "–" if value is None or pd.isna(value) else f"{value:.4f}"


def text(value: Any) -> str:
    """Any value as it stands in the JSON document; a dash if unknown."""
    plain = to_plain(value)
    return "–" if plain is None else escape(str(plain))


def table(console: Console, columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
    """Print a table; a column whose name ends in `>` stands to the right."""
    grid = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        right = column.endswith(">")
        grid.add_column(column.removesuffix(">"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*row)
    console.print(grid)


def show_pairs(console: Console, document: Document) -> None:
    """Names and values, one a line."""
    for name, value in document.items():
        console.print(f"[bold]{name}[/]: {text(value)}")


def show_import(console: Console, document: Document) -> None:
    """What was read, what was refused, and what to look at."""
    state = "a new data version" if document["changed"] else "nothing new"
    console.print(
        f"Import {document['import_id']}: {state}, {document['data_version']}, as of {text(document['as_of'])}"
    )
    counts = ("read", "new", "changed", "unchanged", "refused")
    rows = [(name, *(f"{seen[count]:,}" for count in counts)) for name, seen in document["tables"].items()]
    table(console, ("table", *(f"{count}>" for count in counts)), rows)
    if document["quarantine"]:
        console.print(f"[yellow]Refused rows, each with its reason:[/] {escape(str(document['quarantine']))}")
    for missing in document["switched_off"]:
        console.print(f"Switched off: {escape(missing['what'])}, because {escape(missing['because'])}")
    for note in document["mapping"]:
        console.print(f"Mapping, {escape(note['what'])}: {escape(note['because'])}")
    show_findings(console, document["findings"])


def show_sync(console: Console, document: Document) -> None:
    """What a sync brought."""
    version, moment = document["data_version"], text(document["as_of"])
    console.print(f"Synced {document['connection']} in {document['api_calls']:,} calls: {version}, as of {moment}")
    counts = ("read", "new", "changed", "unchanged", "refused")
    rows = [(name, *(f"{seen[count]:,}" for count in counts)) for name, seen in document["tables"].items()]
    table(console, ("table", *(f"{count}>" for count in counts)), rows)
    if document["quarantine"]:
        console.print(f"[yellow]Refused rows, each with its reason:[/] {escape(str(document['quarantine']))}")
    for note in document["notes"]:
        console.print(f"{escape(note['what'])}: {escape(note['because'])}")


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


def show_push(console: Console, document: Document) -> None:
    """What was written into the CRM, and what it refused."""
    withdrawn = f", withdrawn {document['withdrawn']:,}" if document["withdrawn"] else ""
    console.print(f"Written {document['written']:,}, unchanged {document['unchanged']:,}{withdrawn}")
    refused = [(each["deal_id"], escape(each["reason"])) for each in document["failed"]]
    if refused:
        table(console, ("deal", "refused, tried again by the next push"), refused)
    parked = [(each["deal_id"], escape(each["reason"])) for each in document["parked"]]
    if parked:
        table(console, ("deal", "parked, tried again only with --again"), parked)


def show_check(console: Console, document: Document) -> None:
    """The findings, and which fields have a past."""
    console.print(f"Data version {document['data_version']}, as of {text(document['as_of'])}")
    fields = document["fields"].items()
    tracked = [name for name, known in fields if known["class"] == "tracked"]
    console.print(f"Fields with a complete past: {', '.join(tracked) or 'none'}")
    show_findings(console, document["findings"])


def show_findings(console: Console, findings: Sequence[Any]) -> None:
    """Findings, the worst first."""
    if not findings:
        console.print("No findings: nothing in these data looks wrong.")
        return
    rows = [
        (
            f"[{COLOURS[each.severity]}]{each.code} {each.severity}[/]",
            escape(each.title),
            f"{each.rows:,}",
            money(each.amount_base),
            escape(", ".join(each.examples[:2])),
            escape(each.next_step),
        )
        for each in findings
    ]
    table(console, ("finding", "what", "rows>", "money>", "such as", "next step"), rows)


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
    for each in document["callers"].head(TOP_DEALS).itertuples():
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


def show_head(console: Console, document: Document, what: str) -> None:
    """Which moment, period and model, and whether it was published."""
    said = "published" if document["published"] else "a replay, not published"
    console.print(
        f"As of {text(document['as_of'])}, period {text(document['period_start'])} to {text(document['period_end'])}: "
        f"{what}, {said}. Model {document['model_version']}, data {document['data_version']}."
    )
    if document["out"]:
        console.print(f"Written: {escape(str(document['out']))}")


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


def show_new_key(console: Console, document: Document) -> None:
    """A new key: the one time its secret is shown."""
    console.print(f"[bold]{document['key']}[/]\nKeep it: it is not shown again.", soft_wrap=True)
    show_pairs(console, {name: document[name] for name in ("key_id", "name", "scopes", "user", "expires_at")})


def show_keys(console: Console, document: Document) -> None:
    """Keys without secrets."""
    columns = ("key_id", "name", "scopes", "user", "created_at", "expires_at", "revoked_at")
    rows = [
        [", ".join(key["scopes"]) if column == "scopes" else text(key[column]) for column in columns]
        for key in document["keys"]
    ]
    table(console, columns, rows)


def show_audit(console: Console, document: Document) -> None:
    """Who did what when."""
    columns = ("at", "who", "action", "about", "details")
    rows = [
        [
            ", ".join(f"{name} {text(value)}" for name, value in entry[column].items())
            if column == "details"
            else text(entry[column])
            for column in columns
        ]
        for entry in document["entries"]
    ]
    table(console, columns, rows)


def show_diagnosis(console: Console, document: Document) -> None:
    """What is well and what is not, with the next step."""
    rows = [
        (
            "[green]ok[/]" if each["ok"] else "[red]wrong[/]",
            each["name"],
            escape(each["detail"]),
            each["next_step"] or "",
        )
        for each in document["checks"]
    ]
    table(console, ("", "what", "found", "next step"), rows)
