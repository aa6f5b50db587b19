"""Read the rows of the query of a source of type `sql`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, get_args
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from retrainer.errors import ConfigError, SourceError, did_you_mean
from retrainer.export_format import ExportFormat, PostColumn
from retrainer.posts.sources.hookspecs import Page
from retrainer.posts.sources.secrets import read_secret
from retrainer.registry.database import create_engine, translate_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retrainer.posts.sources.hookspecs import Since
    from retrainer.posts.sources.sql import SqlOptions

PAGE_ROWS = 1_000


def read_pages(config: SqlOptions, since: Since) -> Iterator[Page]:
    """Yield the rows of the query, from the last value of its cursor column on.

    Raises:
        ConfigError: a column is missing, or the URL is invalid.
        SourceError: the query is wrong.
        DatabaseError: the database cannot be read.
    """
    engine = create_engine(config.url or read_secret(config.url_variable or ""), since.folder, read_only=True)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql(
                    f"SET LOCAL statement_timeout = {since.timeout // timedelta(milliseconds=1)}"
                )
            yield from _read(connection, config, since)
    except DBAPIError as error:
        raise translate_error(error, engine) from error
    except SQLAlchemyError as error:
        raise SourceError(f"the query failed: {' '.join(str(error).split())}", hint="Correct `query`") from error
    finally:
        engine.dispose()


def _read(connection: sa.Connection, config: SqlOptions, since: Since) -> Iterator[Page]:
    query = sa.text(config.query)
    is_incremental = "since" in query.compile().params
    state = {"since": since.state.get("since", config.start)} if is_incremental else {}
    # A cursor of the server: it takes one SELECT, and does not send all rows at once.
    with connection.execution_options(stream_results=True).execute(query, state) as result:
        names = list(result.keys())
        if is_incremental:
            _require_column(config.cursor, names, "cursor")
        columns = _columns(config, names)
        export = ExportFormat(requires=[columns["created_at"]], columns=columns, clean_ups=config.clean_ups)
        cursors = _Cursors(connection.dialect.name, state.get("since"))
        pages = iter(result.mappings().partitions(PAGE_ROWS))
        rows = next(pages, None)
        while rows is not None:
            following = next(pages, None)
            if is_incremental:
                cursors.read([row[config.cursor] for row in rows], config.cursor)
                state = {"since": _plain(cursors.complete if following else cursors.last)}
            # The import of posts reads no UUID.
            records = [{k: str(v) if isinstance(v, UUID) else v for k, v in row.items()} for row in rows]
            yield Page(records, state, export)
            rows = following


def _columns(config: SqlOptions, names: list[str]) -> dict[PostColumn, str]:
    """Return column of posts -> column of the result."""
    columns: dict[PostColumn, str] = {name: name for name in get_args(PostColumn) if name in names}
    columns |= config.columns
    for name in ("created_at", *config.columns):
        _require_column(columns.get(name, name), names, f"columns.{name}")
    return columns


class _Cursors:
    """The values of the cursor column so far.

    Attributes:
        last: the last one, of which more rows may follow.
        complete: the last one of which all rows were read.
    """

    def __init__(self, dialect: str, start: Any) -> None:
        self.last = self.complete = start
        self._is_first = True
        self._texts_compare = dialect == "sqlite"  # other databases may sort texts by the collation of a language

    def read(self, values: list[Any], column: str) -> None:
        """Read the values of a page.

        Raises:
            SourceError: they are not sorted, so that the next fetch would leave out posts.
        """
        for value in values:
            if value is None:
                raise SourceError(f"the cursor column '{column}' has a NULL", hint="Leave such rows out in `query`")
            if not self._is_first and value != self.last:
                if (self._texts_compare or not isinstance(value, str)) and value < self.last:
                    raise SourceError(
                        f"the query does not sort by '{column}'", hint=f"Add ORDER BY {column} to `query`"
                    )
                self.complete = self.last
            self.last, self._is_first = value, False


def _require_column(name: str, names: list[str], key: str) -> None:
    if name not in names:
        hint = did_you_mean(name, names) or f"It returns: {', '.join(names)}"
        raise ConfigError(f"{key}: the query returns no column '{name}'", hint=hint)


def _plain(value: Any) -> str | int | float:
    """Return a value that JSON can hold and the database compares with its own."""
    if isinstance(value, datetime):
        return value.isoformat(" ")
    return value if isinstance(value, str | int | float) else str(value)
