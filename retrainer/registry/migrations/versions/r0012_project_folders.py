"""A run records its project folder: two projects that share a database notice each other."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("retrainer_training_runs", sa.Column("project_folder", sa.Text))
