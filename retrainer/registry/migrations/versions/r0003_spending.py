"""A run remembers what its paid calls took."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, kind in (("tokens", sa.Integer), ("cost_usd", sa.Double), ("refusals", sa.Integer)):
        op.add_column("retrainer_training_runs", sa.Column(name, kind))
