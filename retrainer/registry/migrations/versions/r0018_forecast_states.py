"""What the posts up to one mean for later forecasts of a fit, so that they need not be read again."""

import sqlalchemy as sa
from alembic import op

from retrainer.registry.tables import UTCDateTime

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

STATES = "retrainer_forecast_states"


def upgrade() -> None:
    op.create_table(
        STATES,
        sa.Column("stream", sa.Text, nullable=False, server_default="default"),
        sa.Column("model_type", sa.String(20), nullable=False),
        sa.Column("fit", sa.Text, primary_key=True),
        sa.Column("format", sa.Integer, nullable=False),
        sa.Column("through", UTCDateTime, nullable=False),
        sa.Column("through_post_id", sa.Text, nullable=False),
        sa.Column("good_for", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_retrainer_forecast_states_stream", STATES, ["stream", "model_type"])
