"""The latest runs of a model are found by an index, also where another model has nearly all runs."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    columns = ["stream", "model_type", "started_at", "run_id"]
    op.create_index("ix_retrainer_training_runs_model", "retrainer_training_runs", columns)
