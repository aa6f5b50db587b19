"""Open the posts of a project: our own table, or a foreign one."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from retrainer.errors import ConfigError, did_you_mean
from retrainer.posts.foreign import ForeignPostStore
from retrainer.posts.foreign_table import ForeignColumn, ForeignTable
from retrainer.posts.store import PostStore
from retrainer.posts.table import PostsTable
from retrainer.registry.database import create_engine, location, translate_error
from retrainer.registry.queries import has_own_posts
from retrainer.registry.tables import POSTS_TABLE

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.config import PostsSettings
    from retrainer.registry.database import Database


def open_posts(settings: PostsSettings, database: Database, folder: Path) -> PostStore:
    """Open the posts table of the settings.

    Raises:
        ConfigError: the table or one of its columns does not exist.
        DatabaseError: a foreign database cannot be reached.
    """
    engine = database.engine
    if settings.url is not None:
        engine = create_engine(settings.url, folder, read_only=True, setting="posts.url")
    try:
        inspector = sa.inspect(engine)
        if settings.url is None and settings.table == POSTS_TABLE and has_own_posts(inspector):
            return PostStore(PostsTable(settings.table, database), settings, database)
        types = _check_columns(inspector, settings, engine)
    except DBAPIError as error:
        raise translate_error(error, engine) from error
    name = settings.columns.stream
    column = None if name is None else ForeignColumn(name, types[name])
    return ForeignPostStore(ForeignTable(engine, settings, database, column), settings, database)


def _check_columns(inspector: sa.Inspector, settings: PostsSettings, engine: sa.Engine) -> dict[str, Any]:
    """Return the types of the columns of a foreign table, by name.

    Raises:
        ConfigError: the table, or a column of the settings, does not exist.
    """
    schema, _, name = settings.table.rpartition(".")
    tables = [*inspector.get_table_names(schema or None), *inspector.get_view_names(schema or None)]
    with suppress(NotImplementedError):  # SQLite has none
        tables += inspector.get_materialized_view_names(schema or None)
    if name not in tables:
        hint = did_you_mean(name, tables) or f"It has: {', '.join(sorted(tables)) or 'no table'}"
        raise ConfigError(f"posts.table: no table '{settings.table}' in {location(engine)}", hint=hint)
    existing = {str(column["name"]): column["type"] for column in inspector.get_columns(name, schema=schema or None)}
    for key, column in settings.columns.model_dump(exclude_none=True).items():
        if column not in existing:
            hint = did_you_mean(column, existing) or f"It has: {', '.join(existing)}"
            problem = f"the table '{settings.table}' in {location(engine)} has no column '{column}'"
            raise ConfigError(f"posts.columns.{key}: {problem}", hint=hint)
    return existing
