"""The bodies that the service takes and the values that it gives, as the contract writes them."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictStr

from crm.calendar import FIRST_YEAR, LAST_YEAR
from crm.plain import to_plain
from models.scorer import SCORE_COLUMNS as SCORED

MOST_DEALS = 1000
MOST_SUPPOSED = 100
LONGEST_NOTE = 2000

REASONS = SCORED.index("reasons")
SCORE_COLUMNS = (*SCORED[:REASONS], "score_change", "score_change_since", *SCORED[REASONS:])
"""The contract's score row, in its order."""


Day = Annotated[date, Field(ge=date(FIRST_YEAR, 1, 1), le=date(LAST_YEAR, 12, 31))]


def storable(text: str) -> str:
    """Text that every database keeps as it is.

    Raises
    ------
    ValueError
        It holds a zero character, or half of a pair.
    """
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("text holds no zero character and no half of a surrogate pair")
    return text


Words = Annotated[StrictStr, AfterValidator(storable)]


class Body(BaseModel):
    """A body of the contract: what it does not name is a mistake, not a wish to be ignored."""

    model_config = ConfigDict(extra="forbid")


class ScoreRequest(Body):
    """Which deals to score, by id, and whether to say why."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"deal_ids": ["006A3", "006B7"], "explain": True}]}
    )

    deal_ids: Annotated[list[Words], Field(max_length=MOST_DEALS)]
    explain: Annotated[bool, Field(strict=True)] = True


class SupposedDeal(Body):
    """An open deal as it might be: dropped, or with another close date or amount (base currency)."""

    deal_id: Words
    drop: Annotated[bool, Field(strict=True)] = False
    close_date: Day | None = None
    amount: Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e15, le=1e15)] | None = None


class ForecastRequest(Body):
    """Which period (null: the one that holds the data's moment), which nodes (null: all), and what else of them.

    `since`: why they are not what they were at an earlier moment. `gap`: which deals it takes to reach the quota.
    `what_if`: what they would be if deals were otherwise.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"period_start": "2026-01-01", "node_type": "company", "node_id": None}]},
    )

    period_start: Day | None = None
    node_type: Literal["company", "region", "team", "rep", "manager"] | None = None
    node_id: Words | None = None
    since: Words | None = None
    gap: Annotated[bool, Field(strict=True)] = False
    what_if: Annotated[list[SupposedDeal], Field(max_length=MOST_SUPPOSED)] = []


class Proposal(Body):
    """A deal as it would be: its row of the table deals, and the rows of other tables that belong to it."""

    deal: dict[str, Any]
    history: list[dict[str, Any]] = []
    activities: list[dict[str, Any]] = []
    contacts: list[dict[str, Any]] = []


class WhatIfRequest(Body):
    """Deals given in full, and the moment at which they are to be scored (null: the data's)."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "as_of": None,
                    "deals": [
                        {
                            "deal": {
                                "deal_id": "006A3",
                                "created_at": "2026-01-08T09:12:00Z",
                                "stage": "Negotiation",
                                "amount": 42000,
                            },
                            "history": [
                                {
                                    "changed_at": "2026-03-04T00:00:00Z",
                                    "field": "stage",
                                    "old_value": "Proposal",
                                    "new_value": "Negotiation",
                                }
                            ],
                        }
                    ],
                }
            ]
        },
    )

    as_of: Words | None = None
    deals: list[Proposal]


Note = Annotated[Words, Field(max_length=LONGEST_NOTE)]
Money = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e15, le=1e15)]


class EventsRequest(Body):
    """Rows of CRM tables as they changed; each is judged by itself."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "events": [
                        {
                            "event_id": "8f2c",
                            "table": "deals",
                            "row": {
                                "deal_id": "006A3",
                                "created_at": "2026-01-08T09:12:00Z",
                                "stage": "Negotiation",
                                "amount": 42000,
                                "updated_at": "2026-03-04T10:00:00Z",
                            },
                        }
                    ]
                }
            ]
        },
    )

    events: list[Any]


class Call(Body):
    """A row of `forecast_calls`; without user_id it is the key's user who calls, without submitted_at it is now."""

    user_id: Words | None = None
    period_start: Day
    submitted_at: Words | None = None
    category: Literal["commit", "most_likely", "best_case"]
    amount: Money
    currency: Words | None = None
    note: Note | None = None


class CallsRequest(Body):
    """What somebody calls."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "calls": [
                        {
                            "period_start": "2026-01-01",
                            "category": "commit",
                            "amount": 250000,
                            "note": "two renewals are safe",
                        }
                    ]
                }
            ]
        },
    )

    calls: Annotated[list[Call], Field(min_length=1)]


class Override(Body):
    """What somebody says a node (node_type, node_id) or a deal will bring in a period, in base currency."""

    node_type: Literal["company", "region", "team", "rep", "manager"] | None = None
    node_id: Words | None = None
    deal_id: Words | None = None
    period_start: Day | None = None
    submitted_at: Words | None = None
    value: Money
    note: Note | None = None


class OverridesRequest(Body):
    """What somebody says against the model."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"overrides": [{"deal_id": "006A3", "value": 42000, "note": "signed by mail"}]}]
        },
    )

    overrides: Annotated[list[Override], Field(min_length=1)]


class PanelLinkRequest(Body):
    """Which deal's panel, and for which user of the CRM."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"deal_id": "006A3", "user_id": "U42"}]})

    deal_id: Words
    user_id: Words


def rows_of(frame: pd.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    """A frame's rows with these columns, ready for JSON; a column that is not there is unknown."""
    values = [[to_plain(v) for v in frame[name]] if name in frame else [None] * len(frame) for name in columns]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]
