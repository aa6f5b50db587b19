"""Budgets of paid calls that several processes share."""

import sqlalchemy as sa
from alembic import op

from retrainer.registry.tables import UTCDateTime

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "retrainer_budgets",
        sa.Column("budget_id", sa.String(200), primary_key=True),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("limit_usd", sa.Double, nullable=False),
        sa.Column("used_usd", sa.Double, nullable=False),
    )
