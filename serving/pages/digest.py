"""The week in one letter: the number and how it moved, deals to talk about, what was said and how it did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pandas as pd

from crm.bookings import bookings_by_node
from crm.calendar import Period
from crm.errors import Detail, NotFound
from crm.hierarchy import COMPANY
from crm.plain import to_plain
from ledger.ledger import Ledger
from models.outlook import line_through
from serving.pages.deals import VIEWS, in_order, of_view, rows_told
from serving.pages.frame import render
from serving.pages.words import Say, later
from serving.pipeline import visible_deals
from serving.state import OUTCOMES, State

TOLD = {"disagree": ("gap", 5), "slip": ("worth", 3), "upside": ("worth", 3)}
"""The lists in the letter: by what they are sorted, and how many deals of each are told."""
WEEK = pd.Timedelta(days=7)
ENDED_TOLD = 5
ENDINGS = {"won": later("won"), "lost": later("lost")}
SLACK_LONGEST = 2900
"""Characters of one text; Slack takes 3,000."""


@dataclass(frozen=True)
class Digest:
    """The letter, in both shapes, and the figures it is made of."""

    html: str
    slack: dict[str, Any]
    values: Mapping[str, Any]


def write_digest(
    state: State, ledger: Ledger, *, user_id: str | None, say: Say, now: pd.Timestamp, address: str
) -> Digest:
    """The digest of the company, or of what one user may see.

    Parameters
    ----------
    user_id : with whose eyes it is written; None is the whole company's.
    now : what had been published by then is what it compares with.
    address : of the service, which links lead to; without a slash at its end.

    Raises
    ------
    NotFound
        There is no such user.
    """
    rows = visible_deals(state, user_id)
    values = {
        "number": number_told(state, ledger, user_id, now),
        "name": name_of(state, user_id),
        "lists": lists_told(say, rows),
        "ended": ended_told(state, ledger, user_id),
        "period": state.tables.calendar.period_of(state.as_of),
        "as_of": state.as_of,
        "address": address,
    }
    shown = {"views": VIEWS, "endings": ENDINGS, "did": how_it_did(say, values), **values}
    return Digest(render(say, "digest.html", **shown), slack_of(say, values), values)


def name_of(state: State, user_id: str | None) -> str | None:
    """How the reader is called; None for the company.

    Raises
    ------
    NotFound
        There is no such user.
    """
    if user_id is None:
        return None
    users = state.tables.get("users")
    mine = users[users["user_id"] == user_id]
    if mine.empty and user_id not in state.known_owners:
        detail = Detail("--user", user_id, "a user_id of the imported users", "Import the user, or correct the id.")
        raise NotFound(f"There is no user {user_id}.", detail)
    named = to_plain(mine["name"].iloc[0]) if len(mine) and "name" in mine else None
    return str(named or user_id)


def number_told(state: State, ledger: Ledger, user_id: str | None, now: pd.Timestamp) -> dict[str, Any] | None:
    """The reader's forecast of the period, beside what was published a week before or more; None without a node."""
    period = state.tables.calendar.period_of(state.as_of)
    nodes = state.visible_nodes(state.forecast(period), user_id)
    keys = [(COMPANY, COMPANY)] if user_id is None else [("manager", user_id), ("rep", user_id)]
    for kind, name in keys:
        node = nodes[(nodes["scope"] == "all") & (nodes["node_type"] == kind) & (nodes["node_id"] == name)]
        if len(node):
            break
    else:
        return None
    line = line_through(ledger, period, kind, name, at=now)
    before = line[(line["basis"] == "published") & (line["as_of"] <= state.as_of - WEEK)].tail(1)
    told = node.iloc[0].to_dict()
    since = None if before.empty else before.iloc[0].to_dict()
    moved = None if since is None else told["mean"] - since["mean"]
    return {**told, "since": since, "moved": moved, "before": period_before(state, ledger, period, kind, name)}


def period_before(state: State, ledger: Ledger, period: Period, kind: str, name: str) -> dict[str, Any] | None:
    """What was published of a node at this point of the period before, beside what came; None if nothing was.

    What came is what is known by now: for `books_close_days` it may still change.
    """
    calendar = state.tables.calendar
    previous = calendar.period_of(period.start_at - pd.Timedelta(microseconds=1))
    point = previous.start_at + (state.as_of - period.start_at)
    line = line_through(ledger, previous, kind, name, at=min(point, previous.end_at))
    said = line[line["basis"] == "published"].tail(1)
    if said.empty:
        return None
    booked = bookings_by_node(state.tables, state.history, state.as_of, previous)
    mine = booked[(booked["node_type"] == kind) & (booked["node_id"] == name)]
    came = float(mine["booked"].iloc[0]) if len(mine) else 0.0
    return {**said.iloc[0].to_dict(), "period": previous, "came": came}


def lists_told(say: Say, rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The deals to talk about: of each list how many there are, what they are worth, and the first of them."""
    told = {}
    for view, (sort, most) in TOLD.items():
        found = in_order(of_view(rows, view), sort)
        told[view] = {
            "deals": len(found),
            "worth": float(found["worth"].sum()),
            "rows": rows_told(say, found.head(most)),
        }
    return told


def ended_told(state: State, ledger: Ledger, user_id: str | None) -> dict[str, Any]:
    """The deals that closed in the last week, beside the last score published a week or more before each closed.

    Returns
    -------
    deals, won, unscored (closed without such a score), and rows: the scored ones whose end was told least likely. No
    mean of what was said is told: of deals that have closed alone it would say nothing of how right it was.
    """
    endings = state.history.endings
    recent = endings[(endings["at"] > state.as_of - WEEK) & (endings["at"] <= state.as_of) & endings["until"].isna()]
    recent = recent[recent["outcome"].isin(list(OUTCOMES))].drop_duplicates("deal_id", keep="last")
    recent = recent[[state.may_see_score(user_id, deal_id) for deal_id in recent["deal_id"]]]
    won = recent["outcome"].map(OUTCOMES).eq("won")
    said = pd.Series(float("nan"), index=recent.index)
    for place, row in recent.iterrows():
        published = ledger.scores_published_before(row["at"] - WEEK, [row["deal_id"]])
        if len(published):
            said[place] = float(published["win_probability"].iloc[0])
    scored = said.notna()
    told = recent.assign(said=said, won=won, surprise=(won.astype(float) - said).abs())[scored]
    told = told.sort_values("surprise", ascending=False, kind="stable").head(ENDED_TOLD)
    deals = state.tables.get("deals").set_index("deal_id")
    names = deals["name"] if "name" in deals else pd.Series(dtype="str")
    return {
        "deals": len(recent),
        "won": int(won.sum()),
        "unscored": int((~scored).sum()),
        "rows": [
            {
                "deal_id": row.deal_id,
                "name": to_plain(names.get(row.deal_id)) or row.deal_id,
                "outcome": "won" if row.won else "lost",
                "said": row.said,
            }
            for row in told.itertuples()
        ],
    }


# -- for Slack -------------------------------------------------------------------------------------------------------


def slack_of(say: Say, values: Mapping[str, Any]) -> dict[str, Any]:
    """The letter as a message of Slack: `text` for notifications, `blocks` for the rest."""
    _ = say.gettext
    title = f"{values['name'] or _('Company')} · {values['period'].label}"
    blocks: list[dict[str, Any]] = [{"type": "header", "text": {"type": "plain_text", "text": title[:150]}}]
    summary = number_in_words(say, values["number"])
    blocks.append(section(summary))
    for view, found in values["lists"].items():
        if found["rows"]:
            head = f"*{_(VIEWS[view])}* ({say.number(found['deals'])} · {say.short_money(found['worth'])})"
            blocks += [{"type": "divider"}, section("\n".join([head, *deals_in_words(say, found["rows"], values)]))]
    ended = values["ended"]
    did = how_it_did(say, values)
    if did:
        lines = [
            f"• {link(values, row['deal_id'], row['name'])}: {_(ENDINGS[row['outcome']])}, {say.percent(row['said'])}"
            for row in ended["rows"]
        ]
        head = f"*{_('What was said, and how it did')}*"
        blocks += [{"type": "divider"}, section("\n".join([head, *did, *lines]))]
    moment = _("What the CRM knew until %(moment)s") % {"moment": say.instant(values["as_of"])}
    blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": plain(moment)}]})
    return {"text": f"{title}: {summary}", "blocks": blocks}


def how_it_did(say: Say, values: Mapping[str, Any]) -> list[str]:
    """What is told of how it did, sentence by sentence."""
    number, ended = values["number"], values["ended"]
    before = before_in_words(say, number["before"]) if number else ""
    return [text for text in (before, ended_in_words(say, ended) if ended["deals"] else "") if text]


def number_in_words(say: Say, number: Mapping[str, Any] | None) -> str:
    """The forecast in a line."""
    if number is None:
        return say.gettext("No forecast for this reader: nobody's node.")
    text = say.gettext("%(mean)s expected, 8 in 10 times between %(low)s and %(high)s; %(won)s won so far.") % {
        "mean": say.short_money(number["mean"]),
        "low": say.short_money(number["p10"]),
        "high": say.short_money(number["p90"]),
        "won": say.short_money(number["won_to_date"]),
    }
    if number["since"] is None:
        return text
    moved = {"change": say.change(number["moved"]), "day": say.local_day(number["since"]["as_of"])}
    return text + " " + say.gettext("%(change)s since %(day)s.") % moved


def ended_in_words(say: Say, ended: Mapping[str, Any]) -> str:
    """How the deals that closed did against what was said a week before, in a line."""
    counts = {"deals": say.number(ended["deals"]), "won": say.number(ended["won"])}
    text = say.gettext("Closed this week: %(deals)s, of them won: %(won)s.") % counts
    if ended["rows"]:
        return text + " " + say.gettext("Those whose end was told least likely a week before:")
    return text + " " + say.gettext("No score of them had been published a week before.")


def before_in_words(say: Say, before: Mapping[str, Any] | None) -> str:
    """How the period before did against what was said at this point of it, in a line; empty where nothing was."""
    if before is None:
        return ""
    return say.gettext("At this point of %(period)s %(said)s were expected, %(low)s to %(high)s; %(came)s came.") % {
        "period": before["period"].label,
        "said": say.short_money(before["mean"]),
        "low": say.short_money(before["p10"]),
        "high": say.short_money(before["p90"]),
        "came": say.short_money(before["came"]),
    }


def deals_in_words(say: Say, rows: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> list[str]:
    """One line for each deal."""
    return [
        f"• {link(values, row['deal_id'], row['name'])}: {say.short_money(row['worth'])}, "
        f"{say.percent(row['period_win_probability'])}"
        + "".join(f" · {plain(signal['text'])}" for signal in row["signals"])
        for row in rows
    ]


def link(values: Mapping[str, Any], deal_id: str, name: Any) -> str:
    """A link to a deal's page, as Slack writes one."""
    shown = name if isinstance(name, str) and name else deal_id
    return f"<{values['address']}/deals/{quote(deal_id, safe='')}|{plain(shown).replace('|', '/')}>"


def section(text: str) -> dict[str, Any]:
    """A block of text; whole lines are left out where it is too long."""
    lines = text.split("\n")
    while len("\n".join(lines)) > SLACK_LONGEST:
        lines.pop()
    return {"type": "section", "text": {"type": "mrkdwn", "text": "\n".join(lines)}}


def plain(text: str) -> str:
    """Text in which Slack finds no markup of its own."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
