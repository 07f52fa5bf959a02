"""Why a deal's score is what it is, and why it is not what it was: the `explain` document."""

from typing import Any

import pandas as pd

from crm.errors import Detail, NotFound, UsageError
from crm.plain import to_plain
from dealcast.session import Progress, Session
from dealcast.steps import View, view_at
from models.scorer import score_deals
from serving.explained import change_since_published
from serving.schema import SCORE_COLUMNS
from serving.state import with_change


def explain(session: Session, deal_id: str, *, as_of: str | None, progress: Progress) -> dict[str, Any]:
    """The score of one open deal with its reasons, and what changed since the last one published a week before or more.

    Raises
    ------
    NotFound : there was no such deal at the moment.
    UsageError : the deal is closed, and how and since when; or not a moment the data reach.
    """
    progress("read", 0.0)
    view = view_at(session.workspace, as_of)
    at = view.moment.at
    must_be_open(view, deal_id)
    progress("score", 0.4)
    spine = pd.DataFrame({"deal_id": [deal_id], "as_of": [at]}).astype(
        {"deal_id": "str", "as_of": "datetime64[us, UTC]"}
    )
    scored = score_deals(view.bundle, view.tables, view.history, spine)
    score = with_change(scored, session.ledger, at)[list(SCORE_COLUMNS)].iloc[0].to_dict()
    progress("compare", 0.7)
    told = change_since_published(
        session.ledger, session.workspace, view.bundle, view.tables, view.history, deal_id=deal_id, as_of=at
    )
    since = told and {"as_of": told.since.as_of, "win_probability": told.since.win_probability}
    change = told.changes if told else []
    return {"deal_id": deal_id, "as_of": at, "score": score, "since": since, "change": change}


def must_be_open(view: View, deal_id: str) -> None:
    """Refuse a deal that has no score at the moment, and say what became of it.

    Raises
    ------
    NotFound : nobody knew of it then.
    UsageError : it is closed, merged away, or closed nobody knows when.
    """
    at, deals, spells = view.moment.at, view.tables.get("deals"), view.history.spells
    mine = spells[(spells["deal_id"] == deal_id) & (spells["opened_at"] <= at)]
    if (~(mine["ended_at"] <= at)).any():
        return
    created_at = deals.loc[deals["deal_id"] == deal_id, "created_at"]
    if not (created_at <= at).any():
        when = "" if created_at.empty else f"; it was created at {to_plain(created_at.iloc[0])}"
        rule = f"a deal that existed at {to_plain(at)}{when}"
        detail = Detail("DEAL_ID", deal_id, rule, "See the ids of open deals: `dealcast --json score`.")
        raise NotFound(f"There is no deal {deal_id}.", detail)
    endings = view.history.endings
    closings = endings[(endings["deal_id"] == deal_id) & (endings["at"] <= at)]
    if closings.empty:
        became, step = "is closed, but nobody knows since when", "Give its closed_at, and import again."
    else:
        last = closings.sort_values("at", kind="stable").iloc[-1]
        outcome = "merged into another" if last["outcome"] == "merged" else last["outcome"]
        became = f"was {outcome} at {to_plain(last['at'])}"
        step = f"Ask for a moment when it was open: `dealcast explain {deal_id} --as-of D`."
    raise UsageError(f"The deal {deal_id} {became}.", Detail("DEAL_ID", deal_id, "only open deals have a score", step))
