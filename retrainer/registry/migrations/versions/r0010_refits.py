"""A version may have a live fit besides the evaluated one, and the ledger says which fit went live."""

import sqlalchemy as sa
from alembic import op

from retrainer.registry.tables import UTCDateTime

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("started_from", sa.String(200)),
        sa.Column("refit_id", sa.String(200)),
        sa.Column("refit_manifest_sha256", sa.String(64)),
        sa.Column("num_refit_samples", sa.Integer),
        sa.Column("refit_through", UTCDateTime),
        sa.Column("refit_through_post_id", sa.Text),
    ):
        op.add_column("retrainer_model_versions", column)
    op.add_column("retrainer_ledger", sa.Column("refit", sa.JSON))
