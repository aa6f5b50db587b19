"""The ledger records the import of a version."""

from retrainer.registry.migrations.versions import r0004_cleanup

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    r0004_cleanup.allow_actions(f"{r0004_cleanup.ACTIONS}, {r0004_cleanup.ADDED}", "'import'")
