"""The tables. What must never be true of them is forbidden here, by constraints and partial unique indexes.

Every name carries the prefix `retrainer_`, so that the tables can live in a database that others use too. Only
`posts` has the plain name that the settings start with; where a table of that name exists already, it is left alone.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from retrainer.model_types import ModelTypeName, parse_model_type

PREFIX = "retrainer_"
POSTS_TABLE = "posts"
POSTS_INDEX = "ix_retrainer_posts_created_at"  # its presence says that the posts table is ours
VERSION_TABLE = "retrainer_alembic_version"

VERSION_STATUSES = ("trained", "active", "archived", "failed")
RUN_STATUSES = ("running", "completed", "failed")
LEDGER_ACTIONS = (
    "promotion",
    "rejection",
    "rollback",
    "archive",
    "restore",
    "prune",
    "pin",
    "unpin",
    "hold",
    "release",
)


class UTCDateTime(TypeDecorator[datetime]):
    """An aware UTC time, kept as timestamptz on PostgreSQL and as ISO text in UTC on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a time without a zone: it would be a guess."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"time without a zone: {value!r}")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give every time its zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


class Base(DeclarativeBase):
    """The tables of retrainer."""

    type_annotation_map = {datetime: UTCDateTime, float: Double, dict[str, Any]: JSON, list[Any]: JSON}  # noqa: RUF012


class _HasModelType:
    """A row about one model type."""

    model_type: Mapped[str] = mapped_column(String(20))

    @property
    def model_type_name(self) -> ModelTypeName:
        """The model type, as the name that it is."""
        return parse_model_type(self.model_type)


class ModelVersion(_HasModelType, Base):
    """One trained model."""

    __tablename__ = f"{PREFIX}model_versions"

    version_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    algorithm: Mapped[str] = mapped_column(String(100))
    trained_at: Mapped[datetime]
    status: Mapped[str] = mapped_column(String(20))
    is_production: Mapped[bool] = mapped_column(default=False)
    promoted_at: Mapped[datetime | None]
    num_training_samples: Mapped[int]
    training_duration_seconds: Mapped[float]
    hyperparameters: Mapped[dict[str, Any]]
    file_path: Mapped[str] = mapped_column(Text)
    manifest_sha256: Mapped[str] = mapped_column(String(64))
    trained_through: Mapped[datetime]  # the last post it was trained on: its time …
    trained_through_post_id: Mapped[str] = mapped_column(Text)  # … and its id, since times may repeat
    pinned: Mapped[bool] = mapped_column(default=False)
    pruned_at: Mapped[datetime | None]  # when its files were deleted for good

    __table_args__ = (
        CheckConstraint(_one_of("status", VERSION_STATUSES), name="ck_retrainer_model_versions_status"),
        CheckConstraint("(status = 'active') = is_production", name="ck_retrainer_model_versions_active_is_production"),
        Index(
            "uq_retrainer_model_versions_production",
            "model_type",
            unique=True,
            sqlite_where=text("is_production = 1"),
            postgresql_where=text("is_production"),
        ),
        Index("ix_retrainer_model_versions_trained_at", "trained_at", "version_id"),
        Index("ix_retrainer_model_versions_type_trained_at", "model_type", "trained_at", "version_id"),
    )


class TrainingRun(_HasModelType, Base):
    """One attempt to retrain one model type. The row with status `running` is the lock of its model type."""

    __tablename__ = f"{PREFIX}training_runs"

    run_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    algorithm: Mapped[str] = mapped_column(String(100))
    model_version_id: Mapped[str | None] = mapped_column(ForeignKey(ModelVersion.version_id))
    status: Mapped[str] = mapped_column(String(20))
    started_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]
    duration_seconds: Mapped[float | None]
    as_of: Mapped[datetime | None]  # the past moment that the run was made for; none for an ordinary run
    num_training_samples: Mapped[int | None]
    num_test_samples: Mapped[int | None]
    test_mae_hours: Mapped[float | None]
    test_within_6h_accuracy: Mapped[float | None]
    test_overall_score: Mapped[float | None]
    compared_with: Mapped[str | None] = mapped_column(ForeignKey(ModelVersion.version_id))
    production_score: Mapped[float | None]
    promoted_to_production: Mapped[bool] = mapped_column(default=False)
    improvement_percentage: Mapped[float | None]
    promotion_reason: Mapped[str | None] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)
    tokens: Mapped[int | None]  # of paid calls, as are the cost and the refusals; none of a run of an earlier release
    cost_usd: Mapped[float | None]
    refusals: Mapped[int | None]
    host: Mapped[str] = mapped_column(Text)
    pid: Mapped[int]
    boot_id: Mapped[str] = mapped_column(Text)
    process_started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]

    __table_args__ = (
        CheckConstraint(_one_of("status", RUN_STATUSES), name="ck_retrainer_training_runs_status"),
        Index(
            "uq_retrainer_training_runs_running",
            "model_type",
            unique=True,
            sqlite_where=text("status = 'running'"),
            postgresql_where=text("status = 'running'"),
        ),
        Index("ix_retrainer_training_runs_started_at", "started_at", "run_id"),
        Index("ix_retrainer_training_runs_type_started_at", "model_type", "started_at", "run_id"),
        Index("ix_retrainer_training_runs_version", "model_version_id"),
    )


class ModelEvaluation(Base):
    """The scores of one version on one window of test posts. What does not belong to its type is null."""

    __tablename__ = f"{PREFIX}model_evaluations"

    evaluation_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    model_version_id: Mapped[str] = mapped_column(ForeignKey(ModelVersion.version_id))
    run_id: Mapped[str | None] = mapped_column(ForeignKey(TrainingRun.run_id))
    evaluated_at: Mapped[datetime]
    mae_hours: Mapped[float | None]
    rmse_hours: Mapped[float | None]
    within_6h_accuracy: Mapped[float | None]
    within_12h_accuracy: Mapped[float | None]
    within_24h_accuracy: Mapped[float | None]
    length_similarity: Mapped[float | None]
    word_overlap: Mapped[float | None]
    overall_score: Mapped[float]
    num_predictions: Mapped[int]
    metrics: Mapped[dict[str, Any]]  # all of them, the columns above included
    baseline_metrics: Mapped[dict[str, Any]]  # of the naive forecast, on the same posts
    window: Mapped[dict[str, Any]]
    forecasts_file: Mapped[str] = mapped_column(Text)  # its bytes and hash are in the version's files
    predictions_json: Mapped[list[Any]]

    __table_args__ = (
        Index("ix_retrainer_model_evaluations_version", "model_version_id", "evaluated_at"),
        Index("ix_retrainer_model_evaluations_run", "run_id"),
    )


class VersionFile(Base):
    """One file of a version: the manifest, the model's files, the forecasts of its evaluations."""

    __tablename__ = f"{PREFIX}version_files"

    version_id: Mapped[str] = mapped_column(ForeignKey(ModelVersion.version_id), primary_key=True)
    path: Mapped[str] = mapped_column(String(400), primary_key=True)  # relative to the version's folder
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    data: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)  # none where the version is over 32 MB


class LedgerEntry(_HasModelType, Base):
    """One decision, never changed afterwards: what happened to which version, who said so, and why."""

    __tablename__ = f"{PREFIX}ledger"

    entry_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime]  # the moment it counts from: the run's own, which `train --as-of` sets
    recorded_at: Mapped[datetime]  # the clock when it was written
    action: Mapped[str] = mapped_column(String(20))
    version_id: Mapped[str | None] = mapped_column(ForeignKey(ModelVersion.version_id))
    from_version_id: Mapped[str | None] = mapped_column(ForeignKey(ModelVersion.version_id))  # production before
    to_version_id: Mapped[str | None] = mapped_column(ForeignKey(ModelVersion.version_id))  # production after
    actor: Mapped[str] = mapped_column(Text)
    automatic: Mapped[bool]
    reason: Mapped[str] = mapped_column(Text)
    run_id: Mapped[str | None] = mapped_column(ForeignKey(TrainingRun.run_id))
    undoes: Mapped[int | None] = mapped_column(ForeignKey(f"{PREFIX}ledger.entry_id"), unique=True)
    evidence: Mapped[dict[str, Any]]

    __table_args__ = (
        CheckConstraint(_one_of("action", LEDGER_ACTIONS), name="ck_retrainer_ledger_action"),
        Index("ix_retrainer_ledger_type_action", "model_type", "action", "entry_id"),
        Index("ix_retrainer_ledger_version", "version_id"),
        Index("ix_retrainer_ledger_from_version", "from_version_id"),
        Index("ix_retrainer_ledger_type_recorded_at", "model_type", "action", "recorded_at", "entry_id"),
    )


class Hold(Base):
    """A model type whose automatic promotion is stopped until it is released."""

    __tablename__ = f"{PREFIX}holds"

    model_type: Mapped[str] = mapped_column(String(20), primary_key=True)
    since: Mapped[datetime]
    actor: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)


class Post(Base):
    """One post that was imported."""

    __tablename__ = POSTS_TABLE

    post_id: Mapped[str] = mapped_column(Text, primary_key=True)
    created_at: Mapped[datetime]
    content: Mapped[str | None] = mapped_column(Text)
    replies_count: Mapped[int | None] = mapped_column(BigInteger)
    reblogs_count: Mapped[int | None] = mapped_column(BigInteger)
    favourites_count: Mapped[int | None] = mapped_column(BigInteger)
    imported_at: Mapped[datetime]

    __table_args__ = (Index(POSTS_INDEX, "created_at", "post_id"),)
