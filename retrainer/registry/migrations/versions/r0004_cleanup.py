"""The ledger records what is removed and set aside in the models folder."""

from alembic import op

from retrainer.registry.migrations.versions.r0002_guarded_ledger import guard_ledger

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

CONSTRAINT = "ck_retrainer_ledger_action"


def upgrade() -> None:
    with op.batch_alter_table("retrainer_ledger") as table:
        table.drop_constraint(CONSTRAINT, type_="check")
        table.create_check_constraint(
            CONSTRAINT,
            "action IN ('promotion', 'rejection', 'rollback', 'archive', 'restore', 'prune', "
            "'pin', 'unpin', 'hold', 'release', 'cleanup', 'set_aside')",
        )
    if op.get_bind().dialect.name == "sqlite":  # which makes the table anew
        guard_ledger()
