"""Publications with their scores and forecasts, append-only by trigger, and API keys."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

INSTANT = sa.DateTime(timezone=True)
APPEND_ONLY = {
    "publication": ("publication_id",),
    "score_entry": ("publication_id", "deal_id"),
    "forecast_entry": ("publication_id", "scope", "node_type", "node_id", "quantity"),
}


def upgrade() -> None:
    """Create every table, then guard what was said."""
    create_publication()
    create_entries()
    create_keys()
    for table, key in APPEND_ONLY.items():
        if op.get_bind().dialect.name == "sqlite":
            refuse_changes_on_sqlite(table, key)
        else:
            refuse_changes_on_postgresql(table)


def create_publication() -> None:
    """The heads: what was said, for which moment, when, by which model."""
    op.create_table(
        "publication",
        sa.Column("publication_id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("kind", sa.Text, sa.CheckConstraint("kind IN ('scores', 'forecast')"), nullable=False),
        sa.Column("basis", sa.Text, sa.CheckConstraint("basis IN ('published', 'replayed')"), nullable=False),
        sa.Column("as_of", INSTANT, nullable=False),
        sa.Column("published_at", INSTANT, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("data_version", sa.Text, nullable=False),
        sa.Column("period_start", sa.Date),
        sa.Column("period_end", sa.Date),
        sqlite_autoincrement=True,
    )
    op.create_index("publication_by_time", "publication", ["kind", "basis", "published_at"])
    op.create_index("publication_by_period", "publication", ["kind", "basis", "period_start", "as_of"])


def create_entries() -> None:
    """What each publication said of every deal and node."""
    op.create_table(
        "score_entry",
        sa.Column("publication_id", sa.Integer, sa.ForeignKey("publication.publication_id"), primary_key=True),
        sa.Column("deal_id", sa.Text, primary_key=True),
        sa.Column("win_probability", sa.Double, nullable=False),
        sa.Column("win_probability_low", sa.Double, nullable=False),
        sa.Column("win_probability_high", sa.Double, nullable=False),
        sa.Column("period_win_probability", sa.Double, nullable=False),
        sa.Column("period_loss_probability", sa.Double, nullable=False),
        sa.Column("period_slip_probability", sa.Double, nullable=False),
        sa.Column("next_period_win_probability", sa.Double, nullable=False),
        sa.Column("expected_close_date", sa.Date),
        sa.Column("amount_base", sa.Double),
        sa.Column("amount_source", sa.Text),
        sa.Column("expected_amount", sa.Double),
        sa.Column("score_change", sa.Double),
        sa.Column("score_change_since", INSTANT),
        sa.Column("reasons", sa.JSON, nullable=False),
    )
    op.create_index("score_entry_by_deal", "score_entry", ["deal_id"])
    op.create_table(
        "forecast_entry",
        sa.Column("publication_id", sa.Integer, sa.ForeignKey("publication.publication_id"), primary_key=True),
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("node_type", sa.Text, primary_key=True),
        sa.Column("node_id", sa.Text, primary_key=True),
        sa.Column("quantity", sa.Text, primary_key=True),
        sa.Column("value", sa.Double),
        sa.Column("value_text", sa.Text),
    )


def create_keys() -> None:
    """Keys and the browsers that signed in with them, by the hash of what they show."""
    op.create_table(
        "api_key",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("secret_hash", sa.Text, nullable=False, unique=True),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("user_id", sa.Text),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT),
        sa.Column("revoked_at", INSTANT),
    )
    op.create_table(
        "browser_session",
        sa.Column("token_hash", sa.Text, primary_key=True),
        sa.Column("key_id", sa.Text, sa.ForeignKey("api_key.key_id"), nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
    )


def refuse_changes_on_sqlite(table: str, key: tuple[str, ...]) -> None:
    """Triggers against UPDATE, DELETE and INSERT OR REPLACE."""
    refuse = f"SELECT RAISE(ABORT, '{table} is append-only: what was said stays as it was said')"
    for verb in ("UPDATE", "DELETE"):
        op.execute(f"CREATE TRIGGER {table}_refuses_{verb.lower()} BEFORE {verb} ON {table} BEGIN {refuse}; END")
    # INSERT OR REPLACE deletes without firing a delete trigger: a key that exists is refused as well.
    same_row = " AND ".join(f"{column} = NEW.{column}" for column in key)
    op.execute(
        f"CREATE TRIGGER {table}_refuses_replace BEFORE INSERT ON {table} "
        f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {same_row}) BEGIN {refuse}; END"
    )


def refuse_changes_on_postgresql(table: str) -> None:
    """One trigger against UPDATE, DELETE and TRUNCATE."""
    op.execute(
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION '% is append-only: what was said stays as it was said', TG_TABLE_NAME; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
