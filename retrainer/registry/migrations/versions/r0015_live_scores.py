"""Live comparisons and their scores, A/B tests, which the ledger records, and the paid forecasts that were made."""

import sqlalchemy as sa
from alembic import op

from retrainer.registry.migrations.versions import r0004_cleanup
from retrainer.registry.tables import PlainText, UTCDateTime

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

COMPARISONS, SCORES, TESTS, FORECASTS = (
    f"retrainer_{name}" for name in ("live_comparisons", "live_scores", "ab_tests", "live_forecasts")
)
ADDED = "'ab_start', 'ab_end', 'degraded'"
VERSION_ID = "retrainer_model_versions.version_id"


def upgrade() -> None:
    r0004_cleanup.allow_actions(f"{r0004_cleanup.ACTIONS}, {r0004_cleanup.ADDED}, 'import'", ADDED)
    _create_comparisons()
    _create_scores()
    _create_ab_tests()
    _create_forecasts()


def _create_comparisons() -> None:
    op.create_table(
        COMPARISONS,
        sa.Column("comparison_id", sa.Integer, primary_key=True, autoincrement=True),
        *_model(),
        sa.Column("version_id", sa.String(200), sa.ForeignKey(VERSION_ID), nullable=False),
        sa.Column("fit", sa.Text, nullable=False),
        sa.Column("refit", sa.JSON),
        sa.Column("against", sa.String(20), nullable=False),
        sa.Column("other_version_id", sa.String(200), sa.ForeignKey(VERSION_ID)),
        sa.Column("other_fit", sa.Text, nullable=False),
        sa.Column("other_refit", sa.JSON),
        sa.Column("origin", sa.String(20), nullable=False),
        sa.Column("spacing_hours", sa.Double),
        sa.Column("starts_after", UTCDateTime, nullable=False),
        sa.Column("starts_after_post_id", sa.Text),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("is_current", sa.Boolean, nullable=False),
        sa.Column("through", UTCDateTime),
        sa.Column("through_post_id", sa.Text),
        sa.Column("rescore_from", UTCDateTime),
        sa.Column("posts_digest", sa.LargeBinary),
        sa.Column("num_scored", sa.Integer, nullable=False),
        sa.Column("sums", sa.JSON, nullable=False),
        sa.Column("other_sums", sa.JSON, nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
        sa.Column("naive_model", sa.LargeBinary),
        sa.CheckConstraint(
            "against IN ('naive', 'previous', 'challenger')", name="ck_retrainer_live_comparisons_against"
        ),
    )
    unique = ["stream", "model_type", "fit", "against", "other_fit", "origin", "starts_after"]
    op.create_index("uq_retrainer_live_comparisons", COMPARISONS, unique, unique=True)


def _create_scores() -> None:
    op.create_table(
        SCORES,
        sa.Column("comparison_id", sa.Integer, sa.ForeignKey(f"{COMPARISONS}.comparison_id"), primary_key=True),
        sa.Column("post_id", PlainText, primary_key=True),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("figures", sa.JSON, nullable=False),
        sa.Column("other_figures", sa.JSON, nullable=False),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("loss", "other_loss", "lose", "other_lose", "most")),
    )
    op.create_index("ix_retrainer_live_scores_created_at", SCORES, ["comparison_id", "created_at", "post_id"])


def _create_ab_tests() -> None:
    op.create_table(
        TESTS,
        sa.Column("test_id", sa.String(200), primary_key=True),
        *_model(),
        sa.Column("version_id", sa.String(200), sa.ForeignKey(VERSION_ID), nullable=False),
        sa.Column("challenger_id", sa.String(200), sa.ForeignKey(VERSION_ID), nullable=False),
        sa.Column("started_at", UTCDateTime, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("share", sa.Double, nullable=False),
        sa.Column("max_posts", sa.Integer, nullable=False),
        sa.Column("level", sa.Double, nullable=False),
        sa.Column("max_cost", sa.Double),
        sa.Column("comparison_id", sa.Integer, sa.ForeignKey(f"{COMPARISONS}.comparison_id")),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("ended_at", UTCDateTime),
        sa.Column("outcome", sa.String(20)),
        sa.Column("reason", sa.Text),
        sa.CheckConstraint("status IN ('running', 'ended')", name="ck_retrainer_ab_tests_status"),
    )
    op.create_index(
        "uq_retrainer_ab_tests_running",
        TESTS,
        ["stream", "model_type"],
        unique=True,
        sqlite_where=sa.text("status = 'running'"),
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_index("ix_retrainer_ab_tests_started_at", TESTS, ["stream", "model_type", "started_at"])


def _create_forecasts() -> None:
    op.create_table(
        FORECASTS,
        sa.Column("forecast_id", sa.Integer, primary_key=True, autoincrement=True),
        *_model(),
        sa.Column("version_id", sa.String(200), sa.ForeignKey(VERSION_ID), nullable=False),
        sa.Column("fit", sa.Text, nullable=False),
        sa.Column("last_post_id", sa.Text, nullable=False),
        sa.Column("last_post_at", UTCDateTime, nullable=False),
        sa.Column("made_at", UTCDateTime, nullable=False),
        sa.Column("target_time", UTCDateTime, nullable=False),
        sa.Column("post_id", sa.Text),
        sa.Column("forecast", sa.JSON, nullable=False),
    )
    op.create_index("ix_retrainer_live_forecasts_fit", FORECASTS, ["stream", "model_type", "fit", "last_post_at"])


def _model() -> tuple[sa.Column[str], sa.Column[str]]:
    return (
        sa.Column("stream", sa.Text, nullable=False, server_default="default"),
        sa.Column("model_type", sa.String(20), nullable=False),
    )
