"""The first schema: versions, runs, evaluations, files, the ledger, holds, posts."""

import sqlalchemy as sa
from alembic import op

from retrainer.registry.tables import POSTS_TABLE, UTCDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _model_versions()
    _training_runs()
    _model_evaluations()
    _version_files()
    _ledger()
    _holds()
    if not sa.inspect(op.get_bind()).has_table(POSTS_TABLE):
        _posts()


def _model_versions() -> None:
    op.create_table(
        "retrainer_model_versions",
        sa.Column("version_id", sa.String(200), primary_key=True),
        sa.Column("model_type", sa.String(20), nullable=False),
        sa.Column("algorithm", sa.String(100), nullable=False),
        sa.Column("trained_at", UTCDateTime, nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("is_production", sa.Boolean, nullable=False),
        sa.Column("promoted_at", UTCDateTime),
        sa.Column("num_training_samples", sa.Integer, nullable=False),
        sa.Column("training_duration_seconds", sa.Double, nullable=False),
        sa.Column("hyperparameters", sa.JSON, nullable=False),
        sa.Column("file_path", sa.Text, nullable=False),
        sa.Column("manifest_sha256", sa.String(64), nullable=False),
        sa.Column("trained_through", UTCDateTime, nullable=False),
        sa.Column("trained_through_post_id", sa.Text, nullable=False),
        sa.Column("pinned", sa.Boolean, nullable=False),
        sa.CheckConstraint(
            "status IN ('trained', 'active', 'archived', 'failed')", name="ck_retrainer_model_versions_status"
        ),
        sa.CheckConstraint(
            "(status = 'active') = is_production", name="ck_retrainer_model_versions_active_is_production"
        ),
    )
    op.create_index(
        "uq_retrainer_model_versions_production",
        "retrainer_model_versions",
        ["model_type"],
        unique=True,
        sqlite_where=sa.text("is_production = 1"),
        postgresql_where=sa.text("is_production"),
    )
    op.create_index("ix_retrainer_model_versions_trained_at", "retrainer_model_versions", ["trained_at", "version_id"])
    op.create_index(
        "ix_retrainer_model_versions_type_trained_at",
        "retrainer_model_versions",
        ["model_type", "trained_at", "version_id"],
    )


def _training_runs() -> None:
    op.create_table(
        "retrainer_training_runs",
        sa.Column("run_id", sa.String(200), primary_key=True),
        sa.Column("model_type", sa.String(20), nullable=False),
        sa.Column("algorithm", sa.String(100), nullable=False),
        sa.Column("model_version_id", sa.String(200), sa.ForeignKey("retrainer_model_versions.version_id")),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("started_at", UTCDateTime, nullable=False),
        sa.Column("completed_at", UTCDateTime),
        sa.Column("duration_seconds", sa.Double),
        sa.Column("as_of", UTCDateTime),
        sa.Column("num_training_samples", sa.Integer),
        sa.Column("num_test_samples", sa.Integer),
        sa.Column("test_mae_hours", sa.Double),
        sa.Column("test_within_6h_accuracy", sa.Double),
        sa.Column("test_overall_score", sa.Double),
        sa.Column("compared_with", sa.String(200), sa.ForeignKey("retrainer_model_versions.version_id")),
        sa.Column("production_score", sa.Double),
        sa.Column("promoted_to_production", sa.Boolean, nullable=False),
        sa.Column("improvement_percentage", sa.Double),
        sa.Column("promotion_reason", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("boot_id", sa.Text, nullable=False),
        sa.Column("process_started_at", UTCDateTime, nullable=False),
        sa.Column("heartbeat_at", UTCDateTime, nullable=False),
        sa.CheckConstraint("status IN ('running', 'completed', 'failed')", name="ck_retrainer_training_runs_status"),
    )
    op.create_index(
        "uq_retrainer_training_runs_running",
        "retrainer_training_runs",
        ["model_type"],
        unique=True,
        sqlite_where=sa.text("status = 'running'"),
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_index("ix_retrainer_training_runs_started_at", "retrainer_training_runs", ["started_at", "run_id"])
    op.create_index(
        "ix_retrainer_training_runs_type_started_at", "retrainer_training_runs", ["model_type", "started_at", "run_id"]
    )
    op.create_index("ix_retrainer_training_runs_version", "retrainer_training_runs", ["model_version_id"])


def _model_evaluations() -> None:
    op.create_table(
        "retrainer_model_evaluations",
        sa.Column("evaluation_id", sa.String(200), primary_key=True),
        sa.Column(
            "model_version_id",
            sa.String(200),
            sa.ForeignKey("retrainer_model_versions.version_id"),
            nullable=False,
        ),
        sa.Column("run_id", sa.String(200), sa.ForeignKey("retrainer_training_runs.run_id")),
        sa.Column("evaluated_at", UTCDateTime, nullable=False),
        sa.Column("mae_hours", sa.Double),
        sa.Column("rmse_hours", sa.Double),
        sa.Column("within_6h_accuracy", sa.Double),
        sa.Column("within_12h_accuracy", sa.Double),
        sa.Column("within_24h_accuracy", sa.Double),
        sa.Column("length_similarity", sa.Double),
        sa.Column("word_overlap", sa.Double),
        sa.Column("overall_score", sa.Double, nullable=False),
        sa.Column("num_predictions", sa.Integer, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("baseline_metrics", sa.JSON, nullable=False),
        sa.Column("window", sa.JSON, nullable=False),
        sa.Column("forecasts_file", sa.Text, nullable=False),
        sa.Column("predictions_json", sa.JSON, nullable=False),
    )
    op.create_index(
        "ix_retrainer_model_evaluations_version",
        "retrainer_model_evaluations",
        ["model_version_id", "evaluated_at"],
    )
    op.create_index("ix_retrainer_model_evaluations_run", "retrainer_model_evaluations", ["run_id"])


def _version_files() -> None:
    op.create_table(
        "retrainer_version_files",
        sa.Column(
            "version_id",
            sa.String(200),
            sa.ForeignKey("retrainer_model_versions.version_id"),
            primary_key=True,
        ),
        sa.Column("path", sa.String(400), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("data", sa.LargeBinary),
    )


def _ledger() -> None:
    op.create_table(
        "retrainer_ledger",
        sa.Column("entry_id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", UTCDateTime, nullable=False),
        sa.Column("recorded_at", UTCDateTime, nullable=False),
        sa.Column("model_type", sa.String(20), nullable=False),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("version_id", sa.String(200), sa.ForeignKey("retrainer_model_versions.version_id")),
        sa.Column("from_version_id", sa.String(200), sa.ForeignKey("retrainer_model_versions.version_id")),
        sa.Column("to_version_id", sa.String(200), sa.ForeignKey("retrainer_model_versions.version_id")),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("automatic", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("run_id", sa.String(200), sa.ForeignKey("retrainer_training_runs.run_id")),
        sa.Column("undoes", sa.Integer, sa.ForeignKey("retrainer_ledger.entry_id"), unique=True),
        sa.Column("evidence", sa.JSON, nullable=False),
        sa.CheckConstraint(
            "action IN ('promotion', 'rejection', 'rollback', 'archive', 'restore', 'prune', "
            "'pin', 'unpin', 'hold', 'release')",
            name="ck_retrainer_ledger_action",
        ),
    )
    op.create_index("ix_retrainer_ledger_type_action", "retrainer_ledger", ["model_type", "action", "entry_id"])
    op.create_index("ix_retrainer_ledger_version", "retrainer_ledger", ["version_id"])


def _holds() -> None:
    op.create_table(
        "retrainer_holds",
        sa.Column("model_type", sa.String(20), primary_key=True),
        sa.Column("since", UTCDateTime, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )


def _posts() -> None:
    op.create_table(
        POSTS_TABLE,
        sa.Column("post_id", sa.Text, primary_key=True),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("content", sa.Text),
        sa.Column("replies_count", sa.BigInteger),
        sa.Column("reblogs_count", sa.BigInteger),
        sa.Column("favourites_count", sa.BigInteger),
        sa.Column("imported_at", UTCDateTime, nullable=False),
    )
    op.create_index("ix_retrainer_posts_created_at", POSTS_TABLE, ["created_at", "post_id"])
