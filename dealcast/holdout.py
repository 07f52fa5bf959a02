"""The holdout told: which teams see no scores, what could be found with them, and what has been found."""

from typing import Any

import pandas as pd

from crm.errors import Detail, UsageError
from crm.history import DealHistory, build_history
from crm.store import read_tables
from crm.tables import CrmTables
from dealcast.session import Session
from ledger.ledger import Publication
from models.holdout import detectable_points, measured_effect

NO_TEAM = "(none)"


def holdout(session: Session) -> dict[str, Any]:
    """The `holdout` document: the teams, the power there is, and the effect of scores so far (null: not measurable).

    Raises
    ------
    UsageError : no holdout is set.
    """
    setting = session.settings.access.holdout
    if not setting.share:
        rule = "[holdout] share is the share of teams that see no scores"
        raise UsageError("There is no holdout.", Detail("settings.toml", None, rule, "Set it (docs/holdout.md)."))
    tables = read_tables(session.workspace)
    history = build_history(tables)
    team_of = _teams(tables)
    said = _said_and_won(session, tables, history, team_of)
    latest = session.ledger.latest_scores()
    now = pd.DataFrame({"deal_id": [], "period_win_probability": []}) if latest is None else latest[1]
    of_teams = now["deal_id"].map(team_of).dropna()
    chances = now.loc[of_teams.index, "period_win_probability"]
    effect = measured_effect(said.assign(withheld=said["team"].map(setting.holds_out))) if len(said) else None
    teams = sorted({team for team in team_of.values() if isinstance(team, str)})
    counts = of_teams.value_counts()
    return {
        "share": setting.share,
        "key": setting.key,
        "since": setting.since or None,
        "teams": [
            {"team": team, "sees_scores": not setting.holds_out(team), "open_deals": int(counts.get(team, 0))}
            for team in teams
        ],
        "detectable_points": detectable_points(chances, of_teams.map(setting.holds_out).astype(bool)),
        "effect": None if effect is None else vars(effect),
    }


def withheld_deals(session: Session, tables: CrmTables) -> frozenset[str]:
    """The deals whose scores are not shown: those of the owners of held-out teams."""
    owners = session.settings.access.holdout.withheld_owners(tables.get("users"))
    deals = tables.get("deals")
    return frozenset(deals.loc[deals["owner_id"].isin(list(owners)), "deal_id"]) if owners else frozenset()


def _teams(tables: CrmTables) -> dict[str, str]:
    """The team of each deal: of its owner, both as they are now."""
    users = tables.get("users")
    if "team" not in users:
        return {}
    team_of_user = users.dropna(subset="team").set_index("user_id")["team"]
    deals = tables.get("deals")
    teams = deals["owner_id"].map(team_of_user)
    return dict(zip(deals.loc[teams.notna(), "deal_id"], teams.dropna(), strict=True))


def _said_and_won(session: Session, tables: CrmTables, history: DealHistory, team_of: dict[str, str]) -> pd.DataFrame:
    """For each finished period what was said first in it, since the holdout began, and what became of the deals."""
    rows = []
    wins = history.endings[history.endings["outcome"] == "won"]
    for head in _first_of_each_period(session, tables):
        end = tables.calendar.midnight(pd.Timestamp(head.period_end).date())
        if end > tables.as_of:
            continue
        chances = session.ledger.period_chances([int(head.publication_id or 0)])
        won = wins.loc[(wins["at"] > head.as_of) & (wins["at"] < end), "deal_id"]
        rows.append(chances[["deal_id", "said"]].assign(won=chances["deal_id"].isin(won)))
    if not rows:
        return pd.DataFrame({"deal_id": [], "said": [], "won": [], "team": []})
    said = pd.concat(rows, ignore_index=True)
    return said.assign(team=said["deal_id"].map(team_of)).dropna(subset="team")


def _first_of_each_period(session: Session, tables: CrmTables) -> list[Publication]:
    since = session.settings.access.holdout.since
    begin = tables.calendar.midnight(pd.Timestamp(since).date()) if since else None
    first: dict[Any, Publication] = {}
    for head in session.ledger.publications("scores", basis="published"):
        if head.period_start is not None and (begin is None or head.as_of >= begin):
            first.setdefault(head.period_start, head)
    return list(first.values())
