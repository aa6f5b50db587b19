"""What the forecasts of a version depend on is kept with it."""

import sqlalchemy as sa
from alembic import op

from retrainer.registry.tables import UTCDateTime

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

TABLE = "retrainer_model_explanations"


def upgrade() -> None:
    op.create_table(
        TABLE,
        sa.Column("explanation_id", sa.String(200), primary_key=True),
        sa.Column(
            "model_version_id",
            sa.String(200),
            sa.ForeignKey("retrainer_model_versions.version_id"),
            nullable=False,
        ),
        sa.Column("explained_at", UTCDateTime, nullable=False),
        sa.Column("method", sa.String(20), nullable=False),
        sa.Column("window", sa.JSON, nullable=False),
        sa.Column("num_predictions", sa.Integer, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("parts", sa.JSON, nullable=False),
        sa.Column("seed", sa.BigInteger),
        sa.Column("cost_usd", sa.Double, nullable=False),
        sa.Column("problem", sa.Text, nullable=False),
    )
    op.create_index("ix_retrainer_model_explanations_version", TABLE, ["model_version_id", "explained_at"])
