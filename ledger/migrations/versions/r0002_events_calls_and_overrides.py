"""The inbox of events, what people call and override, append-only by trigger, and who read the model's numbers when."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

INSTANT = sa.DateTime(timezone=True)
APPEND_ONLY = {
    "event": ("number", "event_id"),
    "call_entry": ("call_id", "event_id"),
    "override_entry": ("override_id",),
}
"""Each table with the columns that alone tell its rows apart."""


def upgrade() -> None:
    """Create every table, then guard what was said."""
    create_event()
    create_people()
    for table, keys in APPEND_ONLY.items():
        if op.get_bind().dialect.name == "sqlite":
            refuse_changes_on_sqlite(table, keys)
        else:
            op.execute(
                f"CREATE TRIGGER {table}_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
            )


def create_event() -> None:
    """What systems told, in the order in which it was taken in."""
    op.create_table(
        "event",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("event_id", sa.Text, nullable=False, unique=True),
        sa.Column("table_name", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("moment", INSTANT),
        sa.Column("received_at", INSTANT, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )


def create_people() -> None:
    """What people said, and which of the model's numbers they had read."""
    op.create_table(
        "call_entry",
        sa.Column("call_id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("event_id", sa.Text, nullable=False, unique=True),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("period_start", sa.Date, nullable=False),
        sa.Column("category", sa.Text, nullable=False),
        sa.Column("amount", sa.Double, nullable=False),
        sa.Column("currency", sa.Text),
        sa.Column("submitted_at", INSTANT, nullable=False),
        sa.Column("received_at", INSTANT, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("model_seen", sa.Boolean, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "override_entry",
        sa.Column("override_id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("node_type", sa.Text),
        sa.Column("node_id", sa.Text),
        sa.Column("deal_id", sa.Text),
        sa.Column("period_start", sa.Date, nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("user_id", sa.Text),
        sa.Column("submitted_at", INSTANT, nullable=False),
        sa.Column("received_at", INSTANT, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("model_seen", sa.Boolean, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("override_entry_by_period", "override_entry", ["period_start", "submitted_at"])
    op.create_table(
        "override_note",
        sa.Column("override_id", sa.Integer, sa.ForeignKey("override_entry.override_id"), primary_key=True),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_table(
        "model_reading",
        sa.Column("reader", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("read_at", INSTANT, nullable=False),
    )


def refuse_changes_on_sqlite(table: str, keys: tuple[str, ...]) -> None:
    """Triggers against UPDATE, DELETE and INSERT OR REPLACE, which deletes without firing a delete trigger."""
    refuse = f"SELECT RAISE(ABORT, '{table} is append-only: what was said stays as it was said')"
    for verb in ("UPDATE", "DELETE"):
        op.execute(f"CREATE TRIGGER {table}_refuses_{verb.lower()} BEFORE {verb} ON {table} BEGIN {refuse}; END")
    same_row = " OR ".join(f"{column} = NEW.{column}" for column in keys)
    op.execute(
        f"CREATE TRIGGER {table}_refuses_replace BEFORE INSERT ON {table} "
        f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {same_row}) BEGIN {refuse}; END"
    )
