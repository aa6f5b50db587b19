"""Versions, runs, decisions and holds belong to streams, those there are to `default`."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

VERSIONS, RUNS, LEDGER, HOLDS = (f"retrainer_{name}" for name in ("model_versions", "training_runs", "ledger", "holds"))


def upgrade() -> None:
    for table in (VERSIONS, RUNS, LEDGER, HOLDS):
        op.add_column(table, sa.Column("stream", sa.Text, nullable=False, server_default="default"))
    for table, index, sqlite, postgresql in (
        (VERSIONS, "uq_retrainer_model_versions_production", "is_production = 1", "is_production"),
        (RUNS, "uq_retrainer_training_runs_running", "status = 'running'", "status = 'running'"),
    ):
        op.drop_index(index, table)
        op.create_index(
            index,
            table,
            ["stream", "model_type"],
            unique=True,
            sqlite_where=sa.text(sqlite),
            postgresql_where=sa.text(postgresql),
        )
    model = ["stream", "model_type"]
    op.create_index("ix_retrainer_model_versions_stream", VERSIONS, [*model, "trained_at", "version_id"])
    op.create_index("ix_retrainer_training_runs_stream", RUNS, [*model, "started_at", "run_id"])
    op.create_index("ix_retrainer_ledger_stream_action", LEDGER, [*model, "action", "entry_id"])
    op.create_index("ix_retrainer_ledger_recorded_at", LEDGER, [*model, "action", "recorded_at", "entry_id"])
    op.drop_index("ix_retrainer_ledger_type_recorded_at", LEDGER)
    with op.batch_alter_table(HOLDS) as batch:  # SQLite copies the table
        if op.get_bind().dialect.name == "postgresql":
            batch.drop_constraint("retrainer_holds_pkey", type_="primary")
        batch.create_primary_key("retrainer_holds_pkey", model)
