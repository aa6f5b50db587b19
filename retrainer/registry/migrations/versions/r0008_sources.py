"""The fetches of a source of posts go on where the last one ended."""

import sqlalchemy as sa
from alembic import op

from retrainer.registry.tables import UTCDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "retrainer_sources",
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("options_sha256", sa.String(64), nullable=False),
        sa.Column("state", sa.JSON, nullable=False),
        sa.Column("pages", sa.Integer, nullable=False),
        sa.Column("fetched_at", UTCDateTime, nullable=False),
    )
