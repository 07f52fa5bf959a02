"""Scores on their way into CRMs."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the outbox: a row for each connection and deal, replaced by whatever is to be written next."""
    op.create_table(
        "outbox",
        sa.Column("connection", sa.Text, primary_key=True),
        sa.Column("deal_id", sa.Text, primary_key=True),
        sa.Column("is_waiting", sa.Boolean, nullable=False),
        sa.Column("win_probability", sa.Double, nullable=False),
        sa.Column("score_change", sa.Double),
        sa.Column("reasons", sa.JSON, nullable=False),
        sa.Column("as_of", INSTANT, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("queued_at", INSTANT, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("refused_because", sa.Text),
        sa.Column("written_probability", sa.Double),
        sa.Column("written_at", INSTANT),
    )
