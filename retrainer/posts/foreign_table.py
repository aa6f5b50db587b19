"""A foreign table of posts, which is only read: its times may be texts, so that they are parsed here, each time."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from retrainer.errors import PostsError
from retrainer.posts.freshness import measure_freshness
from retrainer.posts.table import PostsSpan, PostsTable
from retrainer.posts.times import MAX_TIME, TimeColumn
from retrainer.posts.validation import number, quote
from retrainer.registry.database import translate_error
from retrainer.streams import DEFAULT_STREAM, check_stream_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from retrainer.config import PostsSettings
    from retrainer.posts.freshness import Freshness
    from retrainer.registry.database import Database

log = logging.getLogger(__name__)

_CHUNK_ROWS = 50_000  # of posts that are only counted
_MAX_INTEGER = 2**63 - 1
_BINARY = {"sqlite": "BINARY", "postgresql": "C"}  # the collations that compare exactly


@dataclass(frozen=True)
class ForeignColumn:
    """A column of a foreign table.

    Attributes:
        name: its name.
        type: its type, as the database tells it.
    """

    name: str
    type: sa.types.TypeEngine[Any]


class ForeignTable(PostsTable):
    """The posts of all streams in a table that is only read.

    Without a column of streams, all posts are of the stream `default`.
    """

    def __init__(
        self, engine: sa.Engine, settings: PostsSettings, database: Database, stream_column: ForeignColumn | None
    ) -> None:
        super().__init__(settings.table, database)
        self.engine = engine
        self._reading_engine = database.reading_engine if engine is database.engine else engine
        self._stream_column = stream_column
        self._columns = settings.columns.model_dump()
        schema, _, name = settings.table.rpartition(".")
        self._table = sa.table(name, schema=schema or None)
        self._warnings: set[str] = set()  # given so far, so that none is repeated

    def load(self, stream: str, columns: list[str], until: datetime, *, warn: bool = True) -> pd.DataFrame:
        """Return the posts of a stream up to a time, leaving out those without an id or a readable time.

        Args:
            stream: the stream.
            columns: `post_id` and `created_at`, and `content` if it is wanted.
            until: the time (UTC).
            warn: whether to warn about posts that are left out.

        Returns:
            The columns, ordered by (created_at, post_id).

        Raises:
            PostsError: an id is there twice.
            DatabaseError: the database cannot be read.
        """
        posts = self._read(self._select(columns).where(self._is_of(stream)), columns)
        without_id = posts["post_id"].isna()
        times = _parse_times(posts["created_at"])
        if warn:
            self._warn_left_out(stream, posts["post_id"][without_id], "without an id")
            self._warn_left_out(stream, posts["created_at"][~without_id & times.isna()], "with an unreadable time")
        posts["post_id"] = posts["post_id"].map(str).astype(object)
        posts["created_at"] = times
        posts = posts[~without_id & (times <= pd.Timestamp(until))]  # NaT compares as false
        posts = posts.sort_values(["created_at", "post_id"], kind="stable", ignore_index=True)
        duplicates = posts["post_id"][posts["post_id"].duplicated()]
        if len(duplicates):
            raise PostsError(
                f"{self.location_of(stream)} has the id '{duplicates.iloc[0]}' twice",
                hint="Set posts.columns.post_id to a unique column",
            )
        return posts

    def load_times(self, stream: str, until: datetime) -> pd.Series[Any]:
        """Return when the posts of a stream up to a time were created, in order."""
        return self.load(stream, ["post_id", "created_at"], until, warn=False)["created_at"]

    def list_streams(self) -> list[str]:
        """Return the streams of the table, whether their posts can be used or not."""
        if self._stream_column is None:
            return [DEFAULT_STREAM]
        query = sa.select(self._stream_expression(self._stream_column)).select_from(self._table).distinct()
        names = {name for frame in self._frames(query, ["stream"]) for name in frame["stream"]}
        return sorted(self._valid_streams(names))

    def has_stream(self, name: str) -> bool:
        if self._stream_column is None:
            return name == DEFAULT_STREAM
        # Counted, since for EXISTS PostgreSQL may read the table, as in `has_posts`.
        query = sa.select(sa.func.count()).select_from(self._table).where(self._is_of(name))
        return bool(self._read(query, ["count"])["count"].iloc[0])

    def spans(self, until: datetime) -> dict[str, PostsSpan]:
        """Count the posts of the streams up to a time, reading the whole table once."""
        if self._stream_column is None:
            times = self.load_times(DEFAULT_STREAM, until)
            return {} if times.empty else {DEFAULT_STREAM: _span(len(times), times.iloc[0], times.iloc[-1])}
        columns = ["post_id", "created_at"]
        query = self._select(columns, self._stream_expression(self._stream_column))
        counts: Counter[str] = Counter()
        limits: dict[str, tuple[pd.Timestamp, pd.Timestamp]] = {}
        for posts in self._frames(query, [*columns, "stream"]):
            posts["created_at"] = _parse_times(posts["created_at"])
            usable = posts["post_id"].notna() & posts["stream"].notna() & (posts["created_at"] <= pd.Timestamp(until))
            for stream, times in posts[usable].groupby("stream", sort=False)["created_at"]:
                name = str(stream)
                counts[name] += len(times)
                found = [times.min(), times.max(), *limits.get(name, ())]
                limits[name] = (min(found), max(found))
        return {name: _span(counts[name], *limits[name]) for name in self._valid_streams(counts)}

    def newest_times(self, until: datetime) -> dict[str, datetime]:
        """Return when the newest post of each stream up to a time was created, reading the whole table once."""
        return {name: span.last for name, span in self.spans(until).items()}

    def list_freshness(self, streams: Collection[str], now: datetime) -> dict[str, Freshness]:
        """Measure the freshness of streams, one by one."""
        found = {name: measure_freshness(self.load_times(name, now), now) for name in sorted(streams)}
        return {name: freshness for name, freshness in found.items() if freshness is not None}

    def _select(self, columns: Sequence[str], *others: sa.ColumnElement[Any]) -> sa.Select[Any]:
        selected: list[Any] = [sa.column(self._columns[column]) for column in columns]
        return sa.select(*selected, *others).select_from(self._table)

    def _stream_expression(self, stream_column: ForeignColumn) -> sa.ColumnElement[Any]:
        """Return the stream of a row, as a text that compares exactly, or as a whole number."""
        column: sa.ColumnElement[Any] = sa.column(stream_column.name, stream_column.type)
        if isinstance(stream_column.type, sa.Integer):
            return column
        if not isinstance(stream_column.type, sa.Text | sa.VARCHAR):  # such as CHAR, padded, or CITEXT
            column = sa.cast(column, sa.Text)
        return sa.collate(column, _BINARY[self.engine.dialect.name])

    def _is_of(self, stream: str) -> sa.ColumnElement[bool]:
        """Return the condition that a row is of a stream, in a form for which the database can use an index."""
        if self._stream_column is None:
            return sa.true() if stream == DEFAULT_STREAM else sa.false()
        if not _is_stream(stream):
            return sa.false()
        expression = self._stream_expression(self._stream_column)
        if isinstance(self._stream_column.type, sa.Integer):
            is_number = stream.removeprefix("-").isdecimal() and str(int(stream)) == stream
            return expression == int(stream) if is_number and abs(int(stream)) <= _MAX_INTEGER else sa.false()
        if isinstance(self._stream_column.type, sa.Text | sa.VARCHAR):
            column: sa.ColumnElement[Any] = sa.column(self._stream_column.name, sa.Text())
            return (column == stream) & (expression == stream)  # the first takes an index of any collation
        return expression == stream

    def _valid_streams(self, values: Collection[Any]) -> list[str]:
        """Return the values that are names of streams, warning about the others."""
        names = {str(value): _is_stream(str(value)) for value in values if value is not None}
        invalid = sorted(name for name, is_valid in names.items() if not is_valid)
        if None in values or invalid:
            example = quote(invalid[0]) if invalid else "NULL"
            where = self.location_of(DEFAULT_STREAM)
            self._warn(f"Left out posts of {where} whose stream is not a valid name, such as {example}")
        return [name for name, is_valid in names.items() if is_valid]

    def _read(self, query: sa.Executable, columns: list[str]) -> pd.DataFrame:
        try:
            with self._reading_engine.connect() as connection:
                return pd.DataFrame([tuple(row) for row in connection.execute(query)], columns=columns)
        except DBAPIError as error:
            raise translate_error(error, self.engine) from error

    def _frames(self, query: sa.Executable, columns: list[str]) -> Iterator[pd.DataFrame]:
        """Yield the rows in frames, so that memory does not grow with the table."""
        try:
            with (
                self.engine.connect() as connection,
                connection.execution_options(yield_per=_CHUNK_ROWS).execute(query) as result,
            ):
                for rows in result.partitions():
                    yield pd.DataFrame([tuple(row) for row in rows], columns=columns, dtype=object)
        except DBAPIError as error:
            raise translate_error(error, self.engine) from error

    def _warn_left_out(self, stream: str, values: pd.Series[Any], problem: str) -> None:
        """Warn about posts with unusable values, with an example."""
        present = values.dropna()
        example = f", such as {quote(present.iloc[0])}" if len(present) else ""
        if len(values):
            self._warn(f"Left out {number(len(values), 'post')} of {self.location_of(stream)} {problem}{example}")

    def _warn(self, message: str) -> None:
        if message not in self._warnings:
            self._warnings.add(message)
            log.warning("%s", message)


def _span(count: int, first: pd.Timestamp, last: pd.Timestamp) -> PostsSpan:
    return PostsSpan(count, first.to_pydatetime(), last.to_pydatetime())


def _is_stream(name: str) -> bool:
    try:
        check_stream_name(name)
    except ValueError:
        return False
    return True


def _parse_times(values: pd.Series[Any]) -> pd.Series[Any]:
    """Parse times by the rules of an import; NaT for a value that is not a time, or has several readings."""
    read = TimeColumn(now=MAX_TIME).reader(str(values.name))

    def parse(value: object) -> np.datetime64:
        try:
            return np.datetime64(read(value), "us")
        except (ValueError, ArithmeticError):  # not a time, or NULL, which a frame may hold as NaN
            return np.datetime64("NaT", "us")

    parsed = np.array([parse(value) for value in values], dtype="datetime64[us]")
    return pd.Series(parsed, index=values.index).dt.tz_localize("UTC")
