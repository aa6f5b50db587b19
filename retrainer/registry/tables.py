"""The tables, with the constraints and partial unique indexes that keep them consistent.

Every table has the prefix `retrainer_`, so that they can share a database with others. Only `posts` has the plain name
that is the default setting; an existing table of that name is left alone.

The migrations create the tables. An index here names only the SQLite condition of a partial index: naming the
PostgreSQL one would import that dialect, which takes longer than most commands need to start.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
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

from retrainer.errors import DamagedValue
from retrainer.model_types import ModelTypeName, parse_model_type
from retrainer.registry.liveness import ProcessIdentity
from retrainer.registry.refits import Refit
from retrainer.streams import DEFAULT_STREAM, ModelKey

PREFIX = "retrainer_"
POSTS_TABLE = "posts"
POSTS_INDEX = "ix_retrainer_posts_stream_created_at"  # tells our posts table from a foreign one
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
    "cleanup",
    "set_aside",
    "import",
    "ab_start",
    "ab_end",
    "degraded",
)


class UTCDateTime(TypeDecorator[datetime]):
    """An aware UTC time, stored as timestamptz on PostgreSQL and as ISO text in UTC on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @property
    def python_type(self) -> type[datetime]:
        return datetime

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC; refuse a time without a zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"time without a zone: {value!r}")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """Return what reads a value; SQLite lets other programs write anything into a column of times."""
        process: Any = super().result_processor(dialect, coltype)

        def read(value: object) -> Any:
            try:
                return process(value)
            except (TypeError, ValueError) as error:
                raise DamagedValue.instead_of(value, "a time") from error

        return read

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Add the zone that the database dropped."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Number(TypeDecorator[float]):
    """A number; SQLite lets other programs write any text into its column, PostgreSQL `NaN`."""

    impl = Double
    cache_ok = True

    @property
    def python_type(self) -> type[float]:
        """The type of the values."""
        return float

    def process_result_value(self, value: Any | None, dialect: Dialect) -> float | None:  # noqa: ARG002
        """Check that it is a number."""
        if value is None or (isinstance(value, float | int) and not math.isnan(value)):
            return value
        raise DamagedValue.instead_of(value, "a number")


class Numbers(TypeDecorator[list[float]]):
    """A list of finite numbers as JSON; other programs can write any JSON into its column."""

    impl = JSON
    cache_ok = True

    def process_result_value(self, value: Any | None, dialect: Dialect) -> list[float] | None:  # noqa: ARG002
        """Check that it is one."""
        try:
            if isinstance(value, list) and all(map(math.isfinite, value)):
                return value
        except (TypeError, OverflowError):
            pass
        raise DamagedValue.instead_of(value, "a list of numbers")


PlainText = Text().with_variant(Text(collation="C"), "postgresql")
"""Texts in the plain order of their characters, which SQLite has anyway, not in that of a language."""


def one_of(column: str, values: tuple[str, ...]) -> str:
    """Return the SQL condition that a column has one of some values."""
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


class Base(DeclarativeBase):
    """Base of the tables."""

    type_annotation_map = {datetime: UTCDateTime, float: Number, dict[str, Any]: JSON, list[Any]: JSON}  # noqa: RUF012


class DatabaseIdentity(Base):
    """The one row with the id of the database. A copy of the database, such as one from a backup, has the same id."""

    __tablename__ = f"{PREFIX}database_identity"

    database_id: Mapped[str] = mapped_column(String(32), primary_key=True)


class OfModel:
    """A row about one model type of a stream."""

    stream: Mapped[str] = mapped_column(Text, default=DEFAULT_STREAM, server_default=DEFAULT_STREAM)
    model_type: Mapped[str] = mapped_column(String(20))

    @property
    def model_key(self) -> ModelKey:
        """The stream and the model type."""
        return ModelKey(self.stream, self.model_type_name)

    @property
    def model_type_name(self) -> ModelTypeName:
        """The model type, checked."""
        return parse_model_type(self.model_type)


class ModelVersion(OfModel, Base):
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
    trained_through: Mapped[datetime]  # the time of the last post it was trained on …
    trained_through_post_id: Mapped[str] = mapped_column(Text)  # … and its id, since times may repeat
    pinned: Mapped[bool] = mapped_column(default=False)
    pruned_at: Mapped[datetime | None]  # when its files were deleted for good
    started_from: Mapped[str | None] = mapped_column(String(200))  # the version whose model training started from
    # The live fit, if it was fitted again before it went live. Until it goes live again, the one that was live or was
    # tested by an A/B test last.
    refit_id: Mapped[str | None] = mapped_column(String(200))
    refit_manifest_sha256: Mapped[str | None] = mapped_column(String(64))
    num_refit_samples: Mapped[int | None]
    refit_through: Mapped[datetime | None]
    refit_through_post_id: Mapped[str | None] = mapped_column(Text)

    @property
    def refit(self) -> Refit | None:
        """The live fit; None if the evaluated fit is live too."""
        if self.refit_id is None:
            return None
        return Refit(
            self.refit_id,
            self.num_refit_samples or 0,
            self.refit_through or self.trained_through,
            self.refit_through_post_id or "",
            self.refit_manifest_sha256 or "",
        )

    @refit.setter
    def refit(self, refit: Refit | None) -> None:
        self.refit_id = refit.refit_id if refit else None
        self.refit_manifest_sha256 = refit.manifest_sha256 if refit else None
        self.num_refit_samples = refit.num_samples if refit else None
        self.refit_through = refit.through if refit else None
        self.refit_through_post_id = refit.through_post_id if refit else None

    @property
    def fit(self) -> str:
        """The name of the live fit: `VERSION`, or `VERSION/REFIT_ID` if it was fitted again."""
        return self.version_id if self.refit_id is None else f"{self.version_id}/{self.refit_id}"

    @property
    def training_began_at(self) -> datetime:
        """When it began to be trained: what happened to a post later did not change what it learned."""
        return self.trained_at - timedelta(seconds=self.training_duration_seconds)

    __table_args__ = (
        CheckConstraint(one_of("status", VERSION_STATUSES), name="ck_retrainer_model_versions_status"),
        CheckConstraint("(status = 'active') = is_production", name="ck_retrainer_model_versions_active_is_production"),
        Index(
            "uq_retrainer_model_versions_production",
            "stream",
            "model_type",
            unique=True,
            sqlite_where=text("is_production = 1"),
        ),
        Index("ix_retrainer_model_versions_trained_at", "trained_at", "version_id"),
        Index("ix_retrainer_model_versions_type_trained_at", "model_type", "trained_at", "version_id"),
        Index("ix_retrainer_model_versions_stream", "stream", "trained_at", "version_id"),
    )


class TrainingRun(OfModel, Base):
    """One attempt to retrain a model type. The row with status `running` is the lock of its stream and type."""

    __tablename__ = f"{PREFIX}training_runs"

    run_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    algorithm: Mapped[str] = mapped_column(String(100))
    model_version_id: Mapped[str | None] = mapped_column(ForeignKey(ModelVersion.version_id))
    status: Mapped[str] = mapped_column(String(20))
    started_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]
    duration_seconds: Mapped[float | None]
    as_of: Mapped[datetime | None]  # the past time the run is for; NULL for an ordinary run
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
    tokens: Mapped[int | None]  # of paid calls, like cost and refusals; NULL for runs of earlier releases
    cost_usd: Mapped[float | None]
    refusals: Mapped[int | None]
    host: Mapped[str] = mapped_column(Text)
    pid: Mapped[int]
    boot_id: Mapped[str] = mapped_column(Text)
    process_started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]
    heartbeat_monotonic: Mapped[float | None]  # the same in seconds since the boot; NULL for runs of earlier releases
    project_folder: Mapped[str | None] = mapped_column(Text)  # on that host; NULL for runs of earlier releases

    __table_args__ = (
        CheckConstraint(one_of("status", RUN_STATUSES), name="ck_retrainer_training_runs_status"),
        Index(
            "uq_retrainer_training_runs_running",
            "stream",
            "model_type",
            unique=True,
            sqlite_where=text("status = 'running'"),
        ),
        Index("ix_retrainer_training_runs_started_at", "started_at", "run_id"),
        Index("ix_retrainer_training_runs_type_started_at", "model_type", "started_at", "run_id"),
        Index("ix_retrainer_training_runs_stream", "stream", "started_at", "run_id"),
        Index("ix_retrainer_training_runs_model", "stream", "model_type", "started_at", "run_id"),
        Index("ix_retrainer_training_runs_version", "model_version_id"),
    )

    @property
    def process(self) -> ProcessIdentity:
        """The process that carries the run out."""
        return ProcessIdentity(self.host, self.pid, self.boot_id, self.process_started_at)


class ModelEvaluation(Base):
    """The scores of a version on a window of test posts. Columns of the other model type are NULL."""

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
    metrics: Mapped[dict[str, Any]]  # all of them, including the columns above
    baseline_metrics: Mapped[dict[str, Any]]  # of the naive forecast on the same posts
    window: Mapped[dict[str, Any]]
    forecasts_file: Mapped[str] = mapped_column(Text)  # among the version's files
    predictions_json: Mapped[list[Any]]

    __table_args__ = (
        Index("ix_retrainer_model_evaluations_version", "model_version_id", "evaluated_at"),
        Index("ix_retrainer_model_evaluations_run", "run_id"),
    )


class ModelExplanation(Base):
    """What the forecasts of a version depend on, measured on a window of test posts; see `evaluation.explanation`."""

    __tablename__ = f"{PREFIX}model_explanations"

    explanation_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    model_version_id: Mapped[str] = mapped_column(ForeignKey(ModelVersion.version_id))
    explained_at: Mapped[datetime]
    method: Mapped[str] = mapped_column(String(20))
    window: Mapped[dict[str, Any]]
    num_predictions: Mapped[int]
    metrics: Mapped[dict[str, Any]]  # of the full forecasts
    parts: Mapped[list[Any]]
    seed: Mapped[int | None] = mapped_column(BigInteger)
    cost_usd: Mapped[float]
    problem: Mapped[str] = mapped_column(Text)  # why parts are missing; empty if none are

    __table_args__ = (Index("ix_retrainer_model_explanations_version", "model_version_id", "explained_at"),)


class VersionFile(Base):
    """One file of a version: the manifest, the model's files, the forecasts of its evaluations."""

    __tablename__ = f"{PREFIX}version_files"

    version_id: Mapped[str] = mapped_column(ForeignKey(ModelVersion.version_id), primary_key=True)
    path: Mapped[str] = mapped_column(String(400), primary_key=True)  # relative to the version's folder
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    data: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)  # NULL if the version is larger than 32 MB


class LedgerEntry(OfModel, Base):
    """One decision, never changed afterwards: what happened to which version, by whom, and why."""

    __tablename__ = f"{PREFIX}ledger"

    entry_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime]  # the time it counts from; in the past for `train --as-of`
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
    refit: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # the live fit as of then

    @property
    def refit_through(self) -> datetime | None:
        """The time of the last post that the fit which went live was fitted to; None for an evaluated fit."""
        refit = Refit.from_document(self.refit)
        return refit.through if refit else None

    __table_args__ = (
        CheckConstraint(one_of("action", LEDGER_ACTIONS), name="ck_retrainer_ledger_action"),
        Index("ix_retrainer_ledger_type_action", "model_type", "action", "entry_id"),
        Index("ix_retrainer_ledger_stream_action", "stream", "model_type", "action", "entry_id"),
        Index("ix_retrainer_ledger_version", "version_id"),
        Index("ix_retrainer_ledger_from_version", "from_version_id"),
        Index("ix_retrainer_ledger_recorded_at", "stream", "model_type", "action", "recorded_at", "entry_id"),
    )


class Hold(Base):
    """A stop of automatic promotion of a model type of a stream, until it is released."""

    __tablename__ = f"{PREFIX}holds"

    stream: Mapped[str] = mapped_column(Text, primary_key=True, default=DEFAULT_STREAM, server_default=DEFAULT_STREAM)
    model_type: Mapped[str] = mapped_column(String(20), primary_key=True)
    since: Mapped[datetime]
    actor: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)


class Post(Base):
    """An imported post. An id is unique in its stream.

    A correction that changes the time of a post sets `moved_at` to the time of the correction and `moved_from` to the
    earliest time that the post ever had, so that no version is judged by a post that it was trained on.
    """

    __tablename__ = POSTS_TABLE

    stream: Mapped[str] = mapped_column(Text, primary_key=True, default=DEFAULT_STREAM, server_default=DEFAULT_STREAM)
    post_id: Mapped[str] = mapped_column(Text, primary_key=True)
    created_at: Mapped[datetime]
    content: Mapped[str | None] = mapped_column(Text)
    replies_count: Mapped[int | None] = mapped_column(BigInteger)
    reblogs_count: Mapped[int | None] = mapped_column(BigInteger)
    favourites_count: Mapped[int | None] = mapped_column(BigInteger)
    imported_at: Mapped[datetime | None] = mapped_column(nullable=False)  # None for one read from a foreign table
    moved_from: Mapped[datetime | None]
    moved_at: Mapped[datetime | None]

    __table_args__ = (Index(POSTS_INDEX, "stream", "created_at", "post_id"),)


class Silence(Base):
    """The latest silence of a stream that was notified."""

    __tablename__ = f"{PREFIX}silences"

    stream: Mapped[str] = mapped_column(Text, primary_key=True)
    since: Mapped[datetime]  # the time of the newest post


class Budget(Base):
    """What the paid calls of several processes may cost together."""

    __tablename__ = f"{PREFIX}budgets"

    budget_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    created_at: Mapped[datetime]
    limit_usd: Mapped[float]
    used_usd: Mapped[float]  # by the calls made, at their cost, and by those in flight, at their estimate


class SourceState(Base):
    """Where the fetches of a source of posts stand."""

    __tablename__ = f"{PREFIX}sources"

    stream: Mapped[str] = mapped_column(Text, primary_key=True)
    source: Mapped[str] = mapped_column(Text, primary_key=True)  # its name in the settings
    options_sha256: Mapped[str] = mapped_column(String(64))  # of its own settings: the state is of no use for others
    state: Mapped[dict[str, Any]]  # of the last page that was stored
    pages: Mapped[int]  # stored so far: two fetches at the same time notice each other by it
    fetched_at: Mapped[datetime]  # when the last page was stored
