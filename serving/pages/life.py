"""A deal's life in words and points: what the timeline draws, and the table that tells the same."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from serving.pages.words import Say, later
from serving.state import State
from serving.timeline import Happening, Stay

LANES = {
    "inbound": later("From the buyer"),
    "meeting": later("Meeting"),
    "outbound": later("From us"),
    "other": later("Other activity"),
    "edit": later("Changed on the deal"),
}
"""The rows below the score, from the top."""
EDITS = {
    "stage": later("Stage"),
    "pushed": later("Close date pushed"),
    "pulled": later("Close date pulled in"),
    "amount": later("Amount"),
    "category": later("Category"),
    "owner": later("Owner"),
}
TYPES = {
    "email": later("E-mail"),
    "call": later("Call"),
    "meeting": later("Meeting"),
    "task": later("Task"),
    "other": later("Other"),
}
BASES = {"published": later("published"), "replayed": later("replayed")}


def life_told(
    say: Say, state: State, happened: Sequence[Happening], lived: Sequence[Stay], said: Mapping[str, pd.DataFrame]
) -> dict[str, Any]:
    """The drawing's figures and the table's rows.

    Parameters
    ----------
    said : by basis, the scores of the ledger: `Ledger.score_history`. Each basis is a line of its own.
    """
    words = [*points_said(say, said), *(row_of(say, each) for each in happened)]
    lanes = [
        {
            "key": name,
            "name": say.gettext(LANES[name]),
            "points": [[row["ms"], row["text"]] for row in words if row["lane"] == name],
        }
        for name in LANES
    ]
    end = state.as_of
    drawing = {
        "from": milliseconds(lived[0].since),
        "to": milliseconds(end),
        "stays": [
            {"stage": stay.stage or "–", "from": milliseconds(stay.since), "to": milliseconds(stay.until or end)}
            for stay in lived
        ],
        "lines": [
            {
                "basis": basis,
                "name": f"{say.gettext(later('Win probability'))} ({say.gettext(BASES[basis])})",
                "points": [[milliseconds(row.as_of), row.win_probability] for row in rows.itertuples()],
            }
            for basis, rows in said.items()
            if len(rows)
        ],
        "lanes": lanes,
    }
    return {"drawing": drawing, "rows": sorted(words, key=lambda row: -row["ms"])}


def points_said(say: Say, said: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """The scores as rows of the table."""
    return [
        {
            "ms": milliseconds(row.as_of),
            "at": say.instant(row.as_of),
            "lane": "score",
            "basis": basis,
            "text": say.percent(row.win_probability),
        }
        for basis, rows in said.items()
        for row in rows.itertuples()
    ]


def row_of(say: Say, happening: Happening) -> dict[str, Any]:
    """One happening in words."""
    is_edit = happening.kind in EDITS
    if is_edit:
        before, after = (value_told(say, happening.kind, value) for value in (happening.before, happening.after))
        text = f"{say.gettext(EDITS[happening.kind])}: {before} → {after}"
    else:
        text = say.gettext(TYPES.get(str(happening.after), TYPES["other"]))
    lane = "edit" if is_edit else happening.kind
    when = {"ms": milliseconds(happening.at), "at": say.instant(happening.at)}
    return {**when, "lane": lane, "lane_name": say.gettext(LANES[lane]), "basis": None, "text": text}


def value_told(say: Say, kind: str, value: str | None) -> str:
    """A field's value as the viewer reads it; as the CRM writes it where it is something else."""
    try:
        if kind in ("pushed", "pulled"):
            return say.day(value)
        return say.number(value) if kind == "amount" else value or say.day(None)
    except ValueError:
        return str(value)


def milliseconds(at: pd.Timestamp) -> int:
    """An instant as scripts count it."""
    return int(pd.Timestamp(at).timestamp() * 1000)
