"""The tables of the ledger, each column with its unit, as SQLAlchemy sees them; `migrations/` creates them."""

from datetime import UTC, date, datetime
from typing import Any

import pandas as pd
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)

metadata = MetaData()


class UtcInstant(TypeDecorator[datetime]):
    """An instant, stored in UTC on every database; an instant without a zone is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        instant = value.to_pydatetime() if isinstance(value, pd.Timestamp) else value
        if instant.tzinfo is None:
            raise ValueError(f"{instant} has no time zone: the ledger keeps instants, in UTC")
        return instant.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Day(TypeDecorator[date]):
    """A calendar day; midnights of a frame become their day."""

    impl = Date
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> date | None:
        return value.date() if isinstance(value, datetime) else value


publication = Table(
    "publication",
    metadata,
    Column("publication_id", Integer, primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False, doc="scores or forecast"),
    Column("basis", Text, nullable=False, doc="published (said then) or replayed (computed later for a past moment)"),
    Column("as_of", UtcInstant, nullable=False),
    Column("published_at", UtcInstant, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("data_version", Text, nullable=False),
    Column("period_start", Day, doc="null only where there were no rows to take it from"),
    Column("period_end", Day),
    Index("publication_by_time", "kind", "basis", "published_at"),
    Index("publication_by_period", "kind", "basis", "period_start", "as_of"),
    sqlite_autoincrement=True,
)

PROBABILITIES = (
    "win_probability",
    "win_probability_low",
    "win_probability_high",
    "period_win_probability",
    "period_loss_probability",
    "period_slip_probability",
    "next_period_win_probability",
)

score_entry = Table(
    "score_entry",
    metadata,
    Column("publication_id", ForeignKey("publication.publication_id"), primary_key=True),
    Column("deal_id", Text, primary_key=True),
    *(Column(name, Double, nullable=False, doc="0..1") for name in PROBABILITIES),
    Column("expected_close_date", Day),
    Column("amount_base", Double, doc="base currency; null if unknown"),
    Column("amount_source", Text),
    Column("expected_amount", Double, doc="base currency, if won"),
    Column("score_change", Double, doc="points, 0..100"),
    Column("score_change_since", UtcInstant),
    Column("reasons", JSON, nullable=False, doc="list of {feature, text, effect}"),
    Index("score_entry_by_deal", "deal_id"),
)

forecast_entry = Table(
    "forecast_entry",
    metadata,
    Column("publication_id", ForeignKey("publication.publication_id"), primary_key=True),
    Column("scope", Text, primary_key=True, doc="all, or e.g. deal_type=renewal"),
    Column("node_type", Text, primary_key=True),
    Column("node_id", Text, primary_key=True),
    Column("quantity", Text, primary_key=True, doc="a column of the contract's forecast row"),
    Column("value", Double, doc="base currency, or 0..1 for probability_of_quota"),
    Column("value_text", Text, doc="where the quantity is an id, a node type or an instant"),
)

event = Table(
    "event",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True, doc="in the order in which they were taken in"),
    Column("event_id", Text, nullable=False, unique=True, doc="as the sender named it"),
    Column("table_name", Text, nullable=False, doc="the CRM table whose row it is"),
    Column("content", Text, nullable=False, doc="the row as JSON, keys in order"),
    Column("moment", UtcInstant, doc="the latest past timestamp in the row; null if it has none"),
    Column("received_at", UtcInstant, nullable=False),
    Column("key_id", Text, nullable=False, doc="the key that sent it"),
    sqlite_autoincrement=True,
)

call_entry = Table(
    "call_entry",
    metadata,
    Column("call_id", Integer, primary_key=True, autoincrement=True),
    Column("event_id", Text, nullable=False, unique=True, doc="the event that brings it to the forecast"),
    Column("user_id", Text, nullable=False, doc="who called"),
    Column("period_start", Day, nullable=False),
    Column("category", Text, nullable=False),
    Column("amount", Double, nullable=False, doc="currency of the call"),
    Column("currency", Text, doc="null: base currency"),
    Column("submitted_at", UtcInstant, nullable=False, doc="when it was said: known from then on"),
    Column("received_at", UtcInstant, nullable=False, doc="when the service took it in"),
    Column("key_id", Text, nullable=False),
    Column("model_seen", Boolean, nullable=False, doc="whether the caller had read the model's number for it"),
    sqlite_autoincrement=True,
)

override_entry = Table(
    "override_entry",
    metadata,
    Column("override_id", Integer, primary_key=True, autoincrement=True),
    Column("node_type", Text, doc="null for a deal"),
    Column("node_id", Text),
    Column("deal_id", Text, doc="null for a node"),
    Column("period_start", Day, nullable=False),
    Column("value", Double, nullable=False, doc="base currency"),
    Column("user_id", Text, doc="who said so; null if the key is nobody's"),
    Column("submitted_at", UtcInstant, nullable=False),
    Column("received_at", UtcInstant, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("model_seen", Boolean, nullable=False),
    Index("override_entry_by_period", "period_start", "submitted_at"),
    sqlite_autoincrement=True,
)

override_note = Table(
    "override_note",
    metadata,
    Column("override_id", ForeignKey("override_entry.override_id"), primary_key=True),
    Column("note", Text, nullable=False, doc="people's words may be erased; what they said in numbers may not"),
)

model_reading = Table(
    "model_reading",
    metadata,
    Column("reader", Text, primary_key=True, doc="a user, or a key that is nobody's"),
    Column("subject", Text, primary_key=True, doc="a deal's score, or a node's forecast of a period"),
    Column("read_at", UtcInstant, nullable=False, doc="when the service last told the model's number"),
)

api_key = Table(
    "api_key",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("secret_hash", Text, nullable=False, unique=True, doc="sha256 of the secret, which is never stored"),
    Column("scopes", JSON, nullable=False),
    Column("user_id", Text, doc="whose eyes the key has; null sees everything"),
    Column("created_at", UtcInstant, nullable=False),
    Column("expires_at", UtcInstant),
    Column("revoked_at", UtcInstant),
)

browser_session = Table(
    "browser_session",
    metadata,
    Column("token_hash", Text, primary_key=True, doc="sha256 of what the browser's cookie holds"),
    Column("key_id", ForeignKey("api_key.key_id"), doc="the key that signed in; null for a person"),
    Column("person", JSON, doc="who signed in without a key: email, name, authority; null for a key"),
    Column("expires_at", UtcInstant, nullable=False),
)

ticket = Table(
    "ticket",
    metadata,
    Column("token_hash", Text, primary_key=True, doc="sha256 of the secret in the link"),
    Column("purpose", Text, nullable=False, doc="sign_in, panel or oidc"),
    Column("content", JSON, nullable=False, doc="what it opens"),
    Column("expires_at", UtcInstant, nullable=False),
)

audit_entry = Table(
    "audit_entry",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("at", UtcInstant, nullable=False),
    Column("who", Text, nullable=False, doc="a key, a person's pseudonym, an account of the machine, an address"),
    Column("action", Text, nullable=False),
    Column("about", Text, doc="the id of what it was done to"),
    Column("details", JSON, nullable=False),
    sqlite_autoincrement=True,
)

APPEND_ONLY = (publication, score_entry, forecast_entry, event, call_entry, override_entry, audit_entry)

outbox = Table(
    "outbox",
    metadata,
    Column("connection", Text, primary_key=True, doc="the CRM it goes to"),
    Column("deal_id", Text, primary_key=True),
    Column("is_waiting", Boolean, nullable=False, doc="to be written; false once it is, or need not be any more"),
    Column("win_probability", Double, nullable=False, doc="0..1"),
    Column("score_change", Double, doc="points, 0..100"),
    Column("reasons", JSON, nullable=False, doc="list of sentences, the strongest first"),
    Column("as_of", UtcInstant, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("queued_at", UtcInstant, nullable=False),
    Column("tries", Integer, nullable=False, doc="how often the CRM refused it"),
    Column("refused_because", Text, doc="what the CRM said last; null unless it refused"),
    Column("written_probability", Double, doc="what the CRM holds, 0..1; null if nothing"),
    Column("written_at", UtcInstant),
)
