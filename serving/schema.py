"""The bodies that the service takes and the values that it gives, as the contract writes them."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, StrictStr

from crm.plain import to_plain
from models.scorer import SCORE_COLUMNS as SCORED

MOST_DEALS = 1000

REASONS = SCORED.index("reasons")
SCORE_COLUMNS = (*SCORED[:REASONS], "score_change", "score_change_since", *SCORED[REASONS:])
"""The contract's score row, in its order."""


class Body(BaseModel):
    """A body of the contract: what it does not name is a mistake, not a wish to be ignored."""

    model_config = ConfigDict(extra="forbid")


class ScoreRequest(Body):
    """Which deals to score, by id, and whether to say why."""

    deal_ids: Annotated[list[StrictStr], Field(max_length=MOST_DEALS)]
    explain: Annotated[bool, Field(strict=True)] = True


class ForecastRequest(Body):
    """Which period (null: the one that holds the data's moment) and which nodes (null: all)."""

    period_start: date | None = None
    node_type: Literal["company", "region", "team", "rep", "manager"] | None = None
    node_id: StrictStr | None = None


class Proposal(Body):
    """A deal as it would be: its row of the table deals, and the rows of other tables that belong to it."""

    deal: dict[str, Any]
    history: list[dict[str, Any]] = []
    activities: list[dict[str, Any]] = []
    contacts: list[dict[str, Any]] = []


class WhatIfRequest(Body):
    """Deals given in full, and the moment at which they are to be scored (null: the data's)."""

    as_of: StrictStr | None = None
    deals: list[Proposal]


def rows_of(frame: pd.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    """A frame's rows with these columns, ready for JSON; a column that is not there is unknown."""
    values = [[to_plain(v) for v in frame[name]] if name in frame else [None] * len(frame) for name in columns]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]
