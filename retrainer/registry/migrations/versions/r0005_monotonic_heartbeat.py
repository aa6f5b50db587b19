"""A heartbeat is also recorded by a clock that nobody sets."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("retrainer_training_runs", sa.Column("heartbeat_monotonic", sa.Double))
