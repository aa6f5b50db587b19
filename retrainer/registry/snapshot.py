"""Copy the content of a database to another one, SQLite or PostgreSQL: the tables are the same in both."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from retrainer.registry.live_tables import ForecastState, LiveComparison, LiveForecast
from retrainer.registry.queries import has_own_posts, insert_new
from retrainer.registry.runs import close_interrupted, require_no_run
from retrainer.registry.tables import (
    POSTS_TABLE,
    Base,
    DatabaseIdentity,
    LedgerEntry,
    ModelVersion,
    TrainingRun,
    VersionFile,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from sqlalchemy.orm import Session

FileKey = tuple[str, str]  # the version's id, and the path in its folder

_ROWS_AT_ONCE = 1_000
_FILES_AT_ONCE = 1  # each may have 32 MB, or more in a backup


def copy_rows(source: sa.Connection, target: sa.Connection, without_data: Iterable[FileKey] = ()) -> dict[str, int]:
    """Copy all rows of our tables; posts that the target has already are left unchanged.

    A posts table that is not ours is neither read nor written.

    Args:
        source: a connection with a snapshot of a database.
        target: a connection with a write transaction, to tables that are empty but for posts.
        without_data: the files whose content is not copied.

    Returns:
        The number of rows in the source, by table.
    """
    dropped = set(without_data)
    counts = {}
    had_posts = False
    for table in Base.metadata.sorted_tables:
        if table.name == POSTS_TABLE and not all(has_own_posts(sa.inspect(side)) for side in (source, target)):
            continue
        if table.name == DatabaseIdentity.__tablename__:
            target.execute(table.delete())  # that of the new database
        if table.name == POSTS_TABLE:
            had_posts = bool(target.scalar(sa.select(sa.exists().select_from(table))))
        counts[table.name] = 0
        insert = insert_new(target.dialect.name, table) if table.name == POSTS_TABLE else table.insert()
        at_once = _FILES_AT_ONCE if table.name == VersionFile.__tablename__ else _ROWS_AT_ONCE
        query = sa.select(table).order_by(*table.primary_key).execution_options(yield_per=at_once)
        for rows in source.execute(query).mappings().partitions():
            values = [dict(row) for row in rows]
            for value in values:
                if (value.get("version_id"), value.get("path")) in dropped:
                    value["data"] = None
                _require_types(table, value)
            target.execute(insert, values)
            counts[table.name] += len(rows)
    if had_posts:  # which may differ from those that the scores are of
        target.execute(sa.update(LiveComparison).values(rescore_from=LiveComparison.starts_after))
        target.execute(sa.delete(ForecastState))
    _continue_ids(target)
    return counts


def _continue_ids(target: sa.Connection) -> None:
    """Let the next ids follow the given ones, which PostgreSQL does not notice."""
    if target.dialect.name != "postgresql":
        return
    for key in (LedgerEntry.entry_id, LiveComparison.comparison_id, LiveForecast.forecast_id):
        last = sa.select(sa.func.max(key)).scalar_subquery()
        sequence = sa.func.pg_get_serial_sequence(key.class_.__tablename__, key.key)
        target.execute(sa.select(sa.func.setval(sequence, sa.func.coalesce(last, 1), last.is_not(None))))


def _require_types(table: sa.Table, row: dict[str, Any]) -> None:
    """Check the types of a row's values: SQLite stores any value in any column.

    Raises:
        TypeError: one of them is wrong.
    """
    for column in table.columns:
        kind = column.type.python_type
        kinds = {float: (float, int), dict: (dict, list)}.get(kind, (kind,))
        value = row[column.name]
        if not (isinstance(value, kinds) or (value is None and column.nullable)):
            raise TypeError(f"{table.name}.{column.name}: {type(value).__name__}")


def add_missing_data(session: Session, read: Callable[[ModelVersion, str], bytes | None]) -> list[FileKey]:
    """Add the content of the files that the database does not hold, because their versions are too large.

    Args:
        read: returns the content of a version's file; None if it cannot be read.

    Returns:
        The files.
    """
    query = sa.select(VersionFile.version_id, VersionFile.path).join(ModelVersion)
    query = query.where(VersionFile.data.is_(None), ModelVersion.pruned_at.is_(None))
    missing = [(version_id, path) for version_id, path in session.execute(query)]
    for version_id, path in missing:
        row = (VersionFile.version_id == version_id) & (VersionFile.path == path)
        data = read(session.get_one(ModelVersion, version_id), path)
        session.execute(sa.update(VersionFile).where(row).values(data=data))
    return missing


def clear(session: Session) -> None:
    """Delete all rows but the posts.

    Raises:
        RunInProgress: a run is in progress.
    """
    require_no_run(session, None, hint="Wait for it to end, or stop that process")
    with _ledger_unlocked(session.connection()):
        for table in reversed(Base.metadata.sorted_tables):
            if table.name != POSTS_TABLE:
                session.execute(table.delete())


def is_empty(session: Session) -> bool:
    """Whether there are no rows but posts and the id of the database."""
    return not any(
        session.scalar(sa.select(sa.exists().select_from(table)))
        for table in Base.metadata.sorted_tables
        if table.name not in {POSTS_TABLE, DatabaseIdentity.__tablename__}
    )


def close_running_runs(session: Session, reason: str, at: datetime) -> None:
    """Close the runs in progress as failed."""
    for run in session.scalars(sa.select(TrainingRun).where(TrainingRun.status == "running")).all():
        close_interrupted(run, reason, at)


@contextmanager
def _ledger_unlocked(connection: sa.Connection) -> Iterator[None]:
    """Let rows of the ledger be deleted inside the block, in this transaction."""
    ledger = LedgerEntry.__tablename__
    if connection.dialect.name == "postgresql":
        before, after = ([f"ALTER TABLE {ledger} {state} TRIGGER USER"] for state in ("DISABLE", "ENABLE"))
    else:
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?"
        triggers = connection.exec_driver_sql(query, (ledger,)).all()
        before, after = [f"DROP TRIGGER {name}" for name, _ in triggers], [sql for _, sql in triggers]
    for statement in before:
        connection.exec_driver_sql(statement)
    yield
    for statement in after:
        connection.exec_driver_sql(statement)
