"""A silence of a stream is notified once."""

import sqlalchemy as sa
from alembic import op

from retrainer.registry.tables import UTCDateTime

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "retrainer_silences",
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("since", UTCDateTime, nullable=False),
    )
