"""Queries and changes that several parts of the registry make inside a transaction."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, select, update

from retrainer.errors import ArtifactError, DatabaseError, RetrainerError, RunInProgress, UnknownName
from retrainer.registry.live_tables import ABTest
from retrainer.registry.tables import (
    POSTS_INDEX,
    POSTS_TABLE,
    Budget,
    ModelEvaluation,
    ModelExplanation,
    ModelVersion,
    TrainingRun,
)

if TYPE_CHECKING:
    from sqlalchemy import CTE, ColumnElement, FromClause, Insert, Inspector
    from sqlalchemy.orm import InstrumentedAttribute, Session

    from retrainer.registry.live_tables import LiveComparison, LiveForecast
    from retrainer.registry.refits import Refit
    from retrainer.registry.tables import LedgerEntry
    from retrainer.streams import ModelKey


_LONG_DIGITS = 8
PLAIN = {"synchronize_session": False}  # no objects of the session are changed too


def fetch_production(session: Session, key: ModelKey) -> ModelVersion | None:
    query = select(ModelVersion).where(is_of(ModelVersion, key), ModelVersion.is_production)
    return session.scalars(query).one_or_none()


def is_of(
    table: type[ModelVersion | TrainingRun | LedgerEntry | LiveComparison | LiveForecast | ABTest], key: ModelKey
) -> ColumnElement[bool]:
    """Return the condition that a row is about a model."""
    return and_(table.stream == key.stream, table.model_type == key.model_type)


def fetch_version(session: Session, version_id: str) -> ModelVersion:
    version = session.get(ModelVersion, version_id) if "\0" not in version_id else None
    if version is None:
        raise UnknownName(f"unknown version '{version_id}'", hint="`retrainer versions` lists them")
    return version


def fetch_running_test(session: Session, key: ModelKey) -> ABTest | None:
    return session.scalars(select(ABTest).where(is_of(ABTest, key), ABTest.status == "running")).one_or_none()


def require_not_pruned(version: ModelVersion, hint: str, kind: type[RetrainerError] = ArtifactError) -> None:
    """Check that the files of a version were not deleted for good.

    Raises:
        kind: they were.
    """
    if version.pruned_at is not None:
        time = f"{version.pruned_at:%Y-%m-%d %H:%M} UTC"
        raise kind(f"the files of '{version.version_id}' were pruned on {time}", hint=hint)


def fetch_own_run(session: Session, run_id: str) -> TrainingRun:
    """Return a run that this process has started.

    Raises:
        DatabaseError: PostgreSQL lost its start in a crash.
    """
    run = session.get(TrainingRun, run_id)
    if run is None:
        raise DatabaseError(f"the run '{run_id}' is no longer in the database", hint="Start it again")
    return run


def fetch_running_run(session: Session, run_id: str) -> TrainingRun:
    run = fetch_own_run(session, run_id)
    if run.status != "running":
        raise RunInProgress(f"the run '{run_id}' was closed by another process: {run.error}", hint="Start it again")
    return run


def update_running_run(session: Session, run_id: str, **values: Any) -> None:
    """Change columns of a run in progress.

    Raises:
        RunInProgress: another process closed it.
    """
    query = update(TrainingRun).where(TrainingRun.run_id == run_id, TrainingRun.status == "running")
    changed = session.execute(query.values(values).returning(TrainingRun.run_id), execution_options=PLAIN)
    if changed.first() is None:
        fetch_running_run(session, run_id)  # says why


def fetch_run_and_versions(session: Session, run_id: str) -> tuple[TrainingRun, ModelVersion, ModelVersion | None]:
    """Return a run in progress, the version that it trained and the one in production, by one query.

    Raises:
        RunInProgress: another process closed the run.
    """
    is_either = (ModelVersion.version_id == TrainingRun.model_version_id) | ModelVersion.is_production
    of_model = (ModelVersion.stream == TrainingRun.stream) & (ModelVersion.model_type == TrainingRun.model_type)
    query = select(TrainingRun, ModelVersion).join(ModelVersion, of_model & is_either)
    found = session.execute(query.where(TrainingRun.run_id == run_id)).all()
    run = fetch_running_run(session, run_id)  # what was found is not asked for again
    production = next((version for _, version in found if version.is_production), None)
    return run, fetch_version(session, run.model_version_id or ""), production


def set_production(
    session: Session, version: ModelVersion, production: ModelVersion | None, refit: Refit | None
) -> None:
    """Put a version into production in place of the present one, with a live fit; None for the evaluated one."""
    if production is not None:
        production.is_production, production.status = False, "trained"
        session.flush()  # first, since the index never allows two production versions
    version.is_production, version.status, version.promoted_at = True, "active", datetime.now(UTC)
    version.refit = refit
    session.flush()


def distinct_values(column: InstrumentedAttribute[str]) -> CTE:
    """Return a subquery with the different values of an indexed column as `value`, and a NULL after the last.

    It takes one look at the index for each, whatever the number of rows.
    """
    found = select(func.min(column).label("value")).cte("found", recursive=True)
    after = select(func.min(column)).where(column > found.c.value).scalar_subquery()
    return found.union_all(select(after).where(found.c.value.is_not(None)))


def list_distinct(session: Session, column: InstrumentedAttribute[str]) -> list[str]:
    """Return the different values of an indexed column."""
    found = distinct_values(column)
    return list(session.scalars(select(found.c.value).where(found.c.value.is_not(None))))


def version_id_of(version: ModelVersion | None) -> str | None:
    return version.version_id if version else None


def has_own_posts(inspector: Inspector) -> bool:
    """Whether a database has a posts table that is ours."""
    if not inspector.has_table(POSTS_TABLE):
        return False
    return any(index["name"] == POSTS_INDEX for index in inspector.get_indexes(POSTS_TABLE))


def insert_new(dialect: str, table: FromClause) -> Insert:
    """Return a statement that inserts the rows whose primary key is new."""
    module = import_module(f"sqlalchemy.dialects.{dialect}")  # the other one is slow to import
    insert: Insert = module.insert(table).on_conflict_do_nothing(index_elements=list(table.primary_key))
    return insert


def new_id(
    session: Session,
    table: type[ModelVersion | TrainingRun | ModelEvaluation | ModelExplanation | Budget | ABTest],
    prefix: str,
    now: datetime,
    digits: int = 4,
) -> str:
    """Return an unused id `{prefix}_{YYYYMMDD}_{HHMMSS}_{hex digits}`.

    One of 8 digits is not looked up: the same twice in a second is all but impossible, and the table refuses it.
    """
    stem = f"{prefix}_{now.astimezone(UTC):%Y%m%d_%H%M%S}"
    while True:
        candidate = f"{stem}_{secrets.token_hex(digits // 2)}"
        if digits >= _LONG_DIGITS or session.get(table, candidate) is None:
            return candidate
