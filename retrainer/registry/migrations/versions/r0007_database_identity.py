"""A database has an id, which marks the models folder that belongs to it."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    table = op.create_table("retrainer_database_identity", sa.Column("database_id", sa.String(32), primary_key=True))
    op.bulk_insert(table, [{"database_id": secrets.token_hex(16)}])
