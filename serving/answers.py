"""What the service answers, as the OpenAPI description tells it; the answers themselves are tested against this."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from serving.errors import STATUS

Instant = Annotated[str, Field(description="ISO 8601, UTC", examples=["2026-03-04T00:00:00Z"])]
DayText = Annotated[str, Field(description="YYYY-MM-DD", examples=["2026-03-31"])]
Probability = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(description="in base currency")]
Points = Annotated[float, Field(description="points of win_probability", ge=-100, le=100)]
DealId = Annotated[str, Field(examples=["006A3"])]


class Trouble(BaseModel):
    """One finding: where, the value seen, the rule it breaks, what to do next."""

    where: str
    value: str | None
    rule: str
    next_step: str


class ErrorTold(BaseModel):
    """Why it failed."""

    code: Literal[
        "invalid", "unauthorized", "forbidden", "not_found", "conflict", "too_large", "rate_limited", "unavailable"
    ]
    message: str
    details: list[Trouble]


class Failure(BaseModel):
    """How every failure is answered."""

    error: ErrorTold


class Reason(BaseModel):
    """A feature that moves the score, in words, with its effect."""

    feature: Annotated[str, Field(examples=["close_date_pushes"])]
    text: Annotated[str, Field(examples=["close date pushed 3 times"])]
    effect: Points


class Score(BaseModel):
    """The score of an open deal."""

    deal_id: DealId
    as_of: Instant
    period_start: DayText
    period_end: Annotated[DayText, Field(description="exclusive")]
    win_probability: Annotated[Probability, Field(description="won within 365 days", examples=[0.62])]
    win_probability_low: Annotated[Probability, Field(description="5 % point of the probability itself")]
    win_probability_high: Annotated[Probability, Field(description="95 % point of it")]
    period_win_probability: Annotated[Probability, Field(description="won in the period; with the next two sums to 1")]
    period_loss_probability: Probability
    period_slip_probability: Annotated[Probability, Field(description="still open when the period ends")]
    next_period_win_probability: Annotated[Probability, Field(description="won in the period after")]
    expected_close_date: Annotated[DayText | None, Field(description="median day of winning, given a win in 365 days")]
    expected_close_date_low: DayText | None
    expected_close_date_high: DayText | None
    amount_base: Annotated[Amount | None, Field(description="as the CRM has it; null if unknown")]
    amount_source: Literal["crm", "estimated"] | None
    expected_amount: Annotated[Amount, Field(description="if won")]
    expected_amount_low: Amount | None
    expected_amount_high: Amount | None
    score_change: Annotated[Points | None, Field(description="against the last score published 7 days before or more")]
    score_change_since: Instant | None
    reasons: Annotated[list[Reason], Field(description="strongest first; without explain none", max_length=5)]
    model_version: str
    data_version: str


class Head(BaseModel):
    """Where an answer comes from."""

    as_of: Instant
    model_version: str
    data_version: str


class ClosedDeal(BaseModel):
    """How a deal ended, and when."""

    deal_id: DealId
    outcome: Literal["won", "lost"]
    closed_at: Instant


class ScoreAnswer(Head):
    """Scores in the order asked; ids that do not exist, or may not be seen, and deals that have closed."""

    stale: Annotated[bool, Field(description="newer data or a newer model is there, but not in these scores yet")]
    scores: list[Score]
    unknown: list[str]
    closed: list[ClosedDeal]


class ProposedScore(Score):
    """The score of a deal as it was proposed."""

    index: Annotated[int, Field(ge=0, description="its place in the request")]
    warnings: list[str]


class ProposalTrouble(BaseModel):
    """What is wrong with a proposed deal, which has no score."""

    index: int
    details: list[Trouble]


class WhatIfAnswer(Head):
    """Scores of deals as they would be."""

    scores: list[ProposedScore]
    errors: list[ProposalTrouble]


class SaidScore(BaseModel):
    """What was published of a deal."""

    as_of: Instant
    published_at: Instant
    win_probability: Probability
    period_win_probability: Probability
    model_version: str


class DealAnswer(BaseModel):
    """A deal: its fields as the CRM has them, its score if it is open, and what was said of it, oldest first."""

    deal: dict[str, Any]
    state: Literal["open", "won", "lost"]
    score: Score | None
    history: Annotated[list[SaidScore], Field(description="without the database as it was when last asked for")]
    stale: Annotated[bool, Field(description="newer data or a newer model is there, or the database does not answer")]


class ForecastNode(BaseModel):
    """What a node of the hierarchy will bring in the period, in base currency."""

    as_of: Instant
    period_start: DayText
    period_end: Annotated[DayText, Field(description="exclusive")]
    scope: Annotated[str, Field(examples=["all", "deal_type=renewal"])]
    node_type: Literal["company", "region", "team", "rep", "manager"]
    node_id: str
    node_name: str | None
    parent_type: str | None
    parent_id: str | None
    won_to_date: Amount
    open_pipeline: Annotated[Amount, Field(description="expected from deals that are open")]
    not_yet_created: Annotated[Amount, Field(description="expected from deals that do not exist yet")]
    mean: Annotated[Amount, Field(description="the sum of the three before")]
    p05: Amount
    p10: Amount
    p25: Amount
    p50: Amount
    p75: Amount
    p90: Amount
    p95: Amount
    call_commit: Annotated[Amount | None, Field(description="what the head calls, cumulative")]
    call_most_likely: Amount | None
    call_best_case: Amount | None
    call_user_id: str | None
    call_submitted_at: Instant | None
    call_rolled_up: Annotated[Amount | None, Field(description="sum of the direct reports' latest commit")]
    quota: Amount | None
    probability_of_quota: Probability | None
    model_version: str
    data_version: str


class ForecastAnswer(Head):
    """The nodes asked for, and, where asked for, why they moved, what their quota takes, and what would be."""

    period_start: DayText
    period_end: DayText
    published_at: Annotated[Instant | None, Field(description="null if it was not published as it is told here")]
    nodes: list[ForecastNode]
    since: Annotated[dict[str, Any] | None, Field(description="with `since`: the earlier moment and model")] = None
    moved: Annotated[list[dict[str, Any]] | None, Field(description="with `since`: each step, with its deals")] = None
    gap: Annotated[list[dict[str, Any]] | None, Field(description="with `gap`: what each node's quota takes")] = None
    what_if: Annotated[dict[str, Any] | None, Field(description="with `what_if`: nodes and deals as they'd be")] = None


class EventResult(BaseModel):
    """What became of an event."""

    event_id: str | None
    status: Literal["accepted", "duplicate", "refused"]
    details: list[Trouble]


class EventsAnswer(BaseModel):
    """Each event's fate, in the order sent; what was accepted is kept for good."""

    results: list[EventResult]


class SaidCall(BaseModel):
    """A call as it was kept."""

    user_id: str
    period_start: DayText
    submitted_at: Instant
    category: Literal["commit", "most_likely", "best_case"]
    amount: float
    currency: Annotated[str | None, Field(description="null: base currency")]
    model_seen: Annotated[bool, Field(description="whether the model's number had been read")]


class CallsAnswer(BaseModel):
    """What was kept."""

    calls: list[SaidCall]


class SaidOverride(BaseModel):
    """An override as it was kept."""

    override_id: int
    node_type: str | None
    node_id: str | None
    deal_id: str | None
    period_start: DayText
    value: Amount
    note: str | None
    user_id: str | None
    submitted_at: Instant
    model_seen: bool


class OverridesAnswer(BaseModel):
    """What was kept."""

    overrides: list[SaidOverride]


class PanelLinkAnswer(BaseModel):
    """A link that opens once."""

    url: Annotated[str, Field(examples=["/panel/006A3?token=dt_…"])]
    expires_at: Instant


class ModelAnswer(BaseModel):
    """The card of the model in use."""

    model_version: str
    trained_as_of: Instant
    data_version: str
    promoted_at: Instant | None
    feature_set_hash: str
    features: list[dict[str, Any]]
    deals_won: int
    deals_lost: int
    metrics: dict[str, Any]
    baselines: dict[str, Any]
    fallback: Annotated[str | None, Field(description="the baseline that serves in the model's place")]
    limits: list[str]


class Alive(BaseModel):
    """The process runs."""

    status: Literal["alive"]


class Ready(BaseModel):
    """How model, data and database are; more may be told."""

    status: Literal["ready", "degraded"]


MEANINGS = {
    "invalid": "The request breaks a rule: each place with its value, the rule and the next step",
    "unauthorized": "No key, or one that opens nothing",
    "forbidden": "The key is not made for this",
    "not_found": "It does not exist, or may not be seen",
    "conflict": "It contradicts what is there",
    "too_large": "More at once than one call may bring",
    "rate_limited": "Too often; Retry-After says when again",
    "unavailable": "Not now; Retry-After may say when again",
}


def answers(
    good: type[BaseModel] | None, *codes: str, status: int = 200, rule: bool = True
) -> dict[int | str, dict[str, Any]]:
    """The answers of a route, for its description.

    Parameters
    ----------
    good : what it answers; None: plain text.
    codes : the failures it has besides those that every call with a key has.
    rule : whether it needs a key.
    """
    every = ("unauthorized", "forbidden", "rate_limited", "unavailable") if rule else ("unavailable",)
    told: dict[int | str, dict[str, Any]] = {} if good is None else {status: {"model": good}}
    for code in dict.fromkeys((*codes, *every)):
        told[STATUS[code]] = {"model": Failure, "description": MEANINGS[code]}
    return told
