"""The ledger can only grow, by triggers; versions remember when their files were pruned."""

import sqlalchemy as sa
from alembic import op

from retrainer.registry.tables import UTCDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("retrainer_model_versions", sa.Column("pruned_at", UTCDateTime))
    op.create_index("ix_retrainer_ledger_from_version", "retrainer_ledger", ["from_version_id"])
    op.create_index(
        "ix_retrainer_ledger_type_recorded_at", "retrainer_ledger", ["model_type", "action", "recorded_at", "entry_id"]
    )
    guard_ledger()


def guard_ledger() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER retrainer_ledger_no_{change.lower()} BEFORE {change} ON retrainer_ledger "
                "BEGIN SELECT RAISE(ABORT, 'the ledger can only grow'); END"
            )
    else:
        op.execute(
            "CREATE FUNCTION retrainer_ledger_only_grows() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'the ledger can only grow'; END $$"
        )
        op.execute(
            "CREATE TRIGGER retrainer_ledger_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON retrainer_ledger "
            "FOR EACH STATEMENT EXECUTE FUNCTION retrainer_ledger_only_grows()"
        )
