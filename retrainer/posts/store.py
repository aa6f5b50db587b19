"""Where the posts are: our own table, filled by `posts import`, or a foreign one that is only read."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from retrainer.errors import ConfigError, PostsError, did_you_mean
from retrainer.posts.validation import to_microseconds
from retrainer.registry.database import create_engine, location, translate_error
from retrainer.registry.tables import POSTS_INDEX, POSTS_TABLE, Post

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.config import PostsSettings
    from retrainer.registry.database import Database

log = logging.getLogger(__name__)

COUNT_COLUMNS = ("replies_count", "reblogs_count", "favourites_count")
_INSERT_ROWS = 2_000
_SHOWN = 40  # letters of a wrong value that a message repeats


@dataclass(frozen=True)
class PostsSummary:
    """How many posts there are, and from when to when (UTC; None without posts)."""

    count: int
    with_content: int
    first: datetime | None
    last: datetime | None


class PostStore:
    """The posts of a project."""

    def __init__(self, engine: sa.Engine, settings: PostsSettings, database: Database, *, foreign: bool) -> None:
        self._engine = engine
        self._settings = settings
        self._database = database
        self._foreign = foreign
        self._warned: set[str] = set()  # what was warned of: once is enough

    @classmethod
    def open(cls, settings: PostsSettings, database: Database, folder: Path) -> PostStore:
        """Open the posts that the settings name.

        Raises:
            ConfigError: the table or one of its columns does not exist.
            DatabaseError: a foreign database cannot be reached.
        """
        engine = database.engine if settings.url is None else create_engine(settings.url, folder, read_only=True)
        try:
            inspector = sa.inspect(engine)
            foreign = settings.url is not None or not _is_ours(inspector, settings.table)
            if foreign:
                _check_columns(inspector, settings, engine)
        except DBAPIError as error:
            raise translate_error(error, engine) from error
        return cls(engine, settings, database, foreign=foreign)

    def close(self) -> None:
        """Give the connections to a foreign database back."""
        if self._engine is not self._database.engine:
            self._engine.dispose()

    @property
    def location(self) -> str:
        """Where the posts are, for messages."""
        return f"the table '{self._settings.table}' of {location(self._engine)}"

    def load(self, until: datetime, *, with_content: bool = True) -> pd.DataFrame:
        """Return the posts up to a moment, ordered by (created_at, post_id).

        Args:
            until: posts later than this (UTC) are left out.
            with_content: whether texts are wanted; reading them takes most of the time and memory.

        Returns:
            `post_id` (str), `created_at` (datetime64[us, UTC]) and, if wanted, `content` (str, or None).

        Raises:
            PostsError: a foreign table holds an id twice.
            DatabaseError: the database cannot be read.
        """
        wanted = ["post_id", "created_at", *(["content"] if with_content else [])]
        if not self._foreign:
            return self._load_ours(wanted, until)
        return self._load_foreign(wanted, until)

    def _load_foreign(self, wanted: list[str], until: datetime, *, warn: bool = True) -> pd.DataFrame:
        """Load from a table of somebody else, whatever is in it."""
        names = self._settings.columns.model_dump()
        schema, _, name = self._settings.table.rpartition(".")
        table = sa.table(name, schema=schema or None)
        posts = self._frame(sa.select(*(sa.column(names[one]) for one in wanted)).select_from(table), wanted)
        without_id = posts["post_id"].isna()
        times = _foreign_times(posts["created_at"])
        if warn:
            self._warn_left_out(without_id, "without an id")
            unreadable = posts["created_at"][~without_id & times.isna()]
            self._warn_left_out(~without_id & times.isna(), f"whose time cannot be read{_example(unreadable)}")
        posts["post_id"] = posts["post_id"].map(str).astype(object)
        posts["created_at"] = times
        posts = posts[~without_id & (times <= pd.Timestamp(until))]  # NaT is never up to a moment
        posts = posts.sort_values(["created_at", "post_id"], kind="stable", ignore_index=True)
        twice = posts["post_id"][posts["post_id"].duplicated()]
        if len(twice):
            raise PostsError(
                f"{self.location} holds the id '{twice.iloc[0]}' twice",
                hint="posts.columns.post_id must name a unique column",
            )
        return posts

    def _load_ours(self, wanted: list[str], until: datetime) -> pd.DataFrame:
        """Load from our own table, which is clean and has an index in the order of time."""
        columns = [sa.inspect(Post).local_table.c[name] for name in wanted]
        # As text: SQLite keeps times so, and pandas parses a million of them faster than the driver makes objects.
        plain = [sa.type_coerce(c, sa.String) if c.name == "created_at" and self._is_sqlite else c for c in columns]
        query = sa.select(*plain).where(Post.created_at <= until).order_by(Post.created_at, Post.post_id)
        posts = self._frame(query, wanted)
        posts["post_id"] = posts["post_id"].astype(object)
        posts["created_at"] = pd.to_datetime(posts["created_at"], utc=True, format="ISO8601").astype(
            "datetime64[us, UTC]"
        )
        # A database may sort letters by the rules of a language; origins know posts by the plain order of their ids.
        return posts.sort_values(["created_at", "post_id"], kind="stable", ignore_index=True)

    @property
    def _is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    def summary(self, until: datetime, *, warn: bool = True) -> PostsSummary:
        """Count the posts up to a moment; say which cannot be used, unless told not to."""
        if not self._foreign:
            known = Post.created_at <= until
            first, last = sa.func.min(Post.created_at), sa.func.max(Post.created_at)
            with self._database.read() as session:
                query = sa.select(sa.func.count(), sa.func.count(Post.content), first, last).where(known)
                return PostsSummary(*session.execute(query).one())
        posts = self._load_foreign(["post_id", "created_at", "content"], until, warn=warn)
        if posts.empty:
            return PostsSummary(0, 0, None, None)
        with_content = int(posts["content"].fillna("").map(str).str.strip().astype(bool).sum())
        first_time, last_time = posts["created_at"].iloc[0], posts["created_at"].iloc[-1]
        return PostsSummary(len(posts), with_content, first_time.to_pydatetime(), last_time.to_pydatetime())

    def require_writable(self) -> None:
        """Check that posts can be imported.

        Raises:
            PostsError: the table is not ours.
        """
        if self._foreign:
            raise PostsError(
                f"cannot import: {self.location} was not made by retrainer and is only read",
                hint="Add posts there by its own means, or set posts.url to null and posts.table to 'posts' in an "
                "empty database",
            )

    def add(self, posts: pd.DataFrame, now: datetime) -> int:
        """Add the posts whose ids are not there yet, in one transaction; return how many were added.

        Args:
            posts: `post_id`, `created_at` (UTC), `content`, and the counts.
            now: the time of the import.
        """
        self.require_writable()
        table = sa.inspect(Post).local_table
        records = _records(posts, now)
        with self._database.write() as session:
            before = session.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            insert = _insert_new(session.connection().dialect.name, table)
            for start in range(0, len(records), _INSERT_ROWS):
                session.execute(insert, records[start : start + _INSERT_ROWS])
            after = session.scalar(sa.select(sa.func.count()).select_from(table)) or 0
        return after - before

    def _frame(self, query: sa.Executable, names: list[str]) -> pd.DataFrame:
        try:
            with self._engine.connect() as connection:
                return pd.DataFrame([tuple(row) for row in connection.execute(query)], columns=names)
        except DBAPIError as error:
            raise translate_error(error, self._engine) from error

    def _warn_left_out(self, rows: pd.Series[bool], why: str) -> None:
        message = f"Left out {int(rows.sum())} posts of {self.location} {why}"
        if rows.any() and message not in self._warned:
            self._warned.add(message)
            log.warning("%s", message)


def _example(values: pd.Series[Any]) -> str:
    """Return an example of values that are there; empty where all are NULL."""
    there = values.dropna()
    return f", such as '{str(there.iloc[0])[:_SHOWN]}'" if len(there) else ""


def _is_ours(inspector: sa.Inspector, table: str) -> bool:
    if table != POSTS_TABLE or not inspector.has_table(POSTS_TABLE):
        return False
    return any(index["name"] == POSTS_INDEX for index in inspector.get_indexes(POSTS_TABLE))


def _check_columns(inspector: sa.Inspector, settings: PostsSettings, engine: sa.Engine) -> None:
    schema, _, name = settings.table.rpartition(".")
    tables = [*inspector.get_table_names(schema or None), *inspector.get_view_names(schema or None)]
    with suppress(NotImplementedError):  # not every database has them
        tables += inspector.get_materialized_view_names(schema or None)
    if name not in tables:
        hint = did_you_mean(name, tables) or f"It has: {', '.join(sorted(tables)) or 'no table'}"
        raise ConfigError(f"posts.table: there is no table '{settings.table}' in {location(engine)}", hint=hint)
    existing = [str(column["name"]) for column in inspector.get_columns(name, schema=schema or None)]
    for key, column in settings.columns.model_dump().items():
        if column not in existing:
            hint = did_you_mean(column, existing) or f"It has: {', '.join(existing)}"
            raise ConfigError(
                f"posts.columns.{key}: the table '{settings.table}' in {location(engine)} has no column '{column}'",
                hint=hint,
            )


def _foreign_times(values: pd.Series[Any]) -> pd.Series[Any]:
    """Parse the times of a foreign table by the rules of an import; NaT where a value is no time."""
    parsed = np.array([_micros_or_nat(value) for value in values], dtype="datetime64[us]")
    return pd.Series(parsed, index=values.index).dt.tz_localize("UTC")


def _micros_or_nat(value: object) -> np.datetime64:
    try:
        return np.datetime64(to_microseconds(value), "us")
    except (ValueError, ArithmeticError):  # no time at all, or NULL, which a frame may hold as a NaN
        return np.datetime64("NaT", "us")


def _records(posts: pd.DataFrame, now: datetime) -> list[dict[str, Any]]:
    counts = {name: posts[name].astype(object).where(posts[name].notna(), None) for name in COUNT_COLUMNS}
    content = posts["content"].astype(object).where(posts["content"].notna(), None)
    times = [moment.to_pydatetime() for moment in posts["created_at"]]
    columns = [posts["post_id"], times, content, *counts.values()]
    moment = now.astimezone(UTC)
    names = ["post_id", "created_at", "content", *COUNT_COLUMNS, "imported_at"]
    return [
        dict(zip(names, (*(int(v) if isinstance(v, np.integer) else v for v in row), moment), strict=True))
        for row in zip(*columns, strict=True)
    ]


def _insert_new(dialect: str, table: sa.FromClause) -> sa.Insert:
    from sqlalchemy.dialects import postgresql, sqlite  # noqa: PLC0415

    assert isinstance(table, sa.Table)  # noqa: S101  what a mapped class is made on
    module = postgresql if dialect == "postgresql" else sqlite
    insert: sa.Insert = module.insert(table).on_conflict_do_nothing(index_elements=[table.c.post_id])
    return insert
