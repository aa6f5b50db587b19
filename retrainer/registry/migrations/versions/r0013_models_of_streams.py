"""Versions, runs, decisions and holds belong to streams, those there are to `default`."""

import sqlalchemy as sa
from alembic import op

from retrainer.registry.tables import UTCDateTime

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

VERSIONS, RUNS, LEDGER, HOLDS = (f"retrainer_{name}" for name in ("model_versions", "training_runs", "ledger", "holds"))


def upgrade() -> None:
    for table in (VERSIONS, RUNS, LEDGER):
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
    op.create_index("ix_retrainer_model_versions_stream", VERSIONS, ["stream", "trained_at", "version_id"])
    op.create_index("ix_retrainer_training_runs_stream", RUNS, ["stream", "started_at", "run_id"])
    op.create_index("ix_retrainer_ledger_stream_action", LEDGER, [*model, "action", "entry_id"])
    op.create_index("ix_retrainer_ledger_recorded_at", LEDGER, [*model, "action", "recorded_at", "entry_id"])
    op.drop_index("ix_retrainer_ledger_type_recorded_at", LEDGER)
    _add_stream_to_the_key_of_holds()


def _add_stream_to_the_key_of_holds() -> None:
    """Copy the holds to a new table, since SQLite cannot change a primary key."""
    before = f"{HOLDS}_before"
    op.rename_table(HOLDS, before)
    op.create_table(
        HOLDS,
        sa.Column("stream", sa.Text, primary_key=True, server_default="default"),
        sa.Column("model_type", sa.String(20), primary_key=True),
        sa.Column("since", UTCDateTime, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    columns = "model_type, since, actor, reason"
    op.execute(f"INSERT INTO {HOLDS} ({columns}) SELECT {columns} FROM {before}")  # noqa: S608  our own names
    op.drop_table(before)
