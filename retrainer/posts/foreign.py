"""Posts in a foreign table, which is only read: its times may be texts, so that they are parsed here, each time."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from retrainer.errors import PostsError
from retrainer.posts.freshness import measure_activity
from retrainer.posts.store import PostsSpan, PostsSummary, PostStore, unknown_post
from retrainer.posts.times import MAX_TIME, TimeColumn
from retrainer.posts.validation import quote
from retrainer.registry.database import translate_error
from retrainer.registry.tables import Post
from retrainer.streams import DEFAULT_STREAM, check_stream_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from retrainer.config import PostsSettings
    from retrainer.posts.freshness import Freshness, PostsActivity
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


class ForeignPostStore(PostStore):
    """The posts of one stream in a table that is only read.

    Without a column of streams, all posts are of the stream `default`.
    """

    def __init__(
        self, engine: sa.Engine, settings: PostsSettings, database: Database, stream_column: ForeignColumn | None
    ) -> None:
        super().__init__(engine, settings, database)
        self._stream_column = stream_column
        self._names = settings.columns.model_dump()
        schema, _, name = settings.table.rpartition(".")
        self._table = sa.table(name, schema=schema or None)
        self._warnings: set[str] = set()  # given so far, so that none is repeated

    @property
    def is_foreign(self) -> bool:
        """Whether they are in a table that is only read."""
        return True

    def list_streams(self) -> list[str]:
        """Return the streams of the table, whether their posts can be used or not."""
        if self._stream_column is None:
            return [DEFAULT_STREAM]
        stream = self._stream_expression(self._stream_column)
        query = sa.select(stream).select_from(self._table).distinct()
        names = {name for frame in self._frames(query, ["stream"]) for name in frame["stream"]}
        return sorted(self._valid_streams(names))

    def has_stream(self, name: str) -> bool:
        """Whether the table has a stream."""
        if self._stream_column is None:
            return name == DEFAULT_STREAM
        # Counted, since for EXISTS PostgreSQL may read the table, as in `has_posts`.
        query = sa.select(sa.func.count()).select_from(self._table).where(self._is_of(name))
        return bool(self._query(query, ["count"])["count"].iloc[0])

    def load(self, until: datetime, *, with_content: bool = True, warn: bool = True) -> pd.DataFrame:
        """Return the posts of a stream up to a time, like `PostStore.load`."""
        return self._load(["post_id", "created_at", *(["content"] if with_content else [])], until, warn=warn)

    def load_lengths(self, until: datetime) -> pd.DataFrame:
        """Return the posts with the lengths of their texts, like `PostStore.load_lengths`."""
        posts = self._load(["post_id", "created_at", "content"], until, warn=False)
        lengths = posts.pop("content").fillna("").map(str).str.strip().str.len().astype("float64")
        return posts.assign(length=lengths.where(lengths > 0))

    def load_after(
        self,
        after: tuple[datetime, str | None],
        until: datetime,
        limit: int | None,
        *,
        with_content: bool,
        inclusive: bool = False,
    ) -> pd.DataFrame:
        """Refuse: the times of a foreign table may be texts in any form, so a part of it cannot be selected.

        Raises:
            NotImplementedError: always; use `load`.
        """
        raise NotImplementedError

    def load_before(self, before: tuple[datetime, str | None], limit: int, *, with_content: bool) -> pd.DataFrame:
        """Refuse, as `load_after` does.

        Raises:
            NotImplementedError: always; use `load`.
        """
        raise NotImplementedError

    def summary(self, until: datetime, *, warn: bool = True) -> PostsSummary:
        """Count the posts of a stream up to a time; optionally, warn about unusable ones."""
        posts = self._load(["post_id", "created_at", "content"], until, warn=warn)
        if posts.empty:
            return PostsSummary(0, 0, None, None)
        first, last = (posts["created_at"].iloc[row].to_pydatetime() for row in (0, -1))
        return PostsSummary(len(posts), int(_has_text(posts["content"]).sum()), first, last)

    def summaries(self, until: datetime, streams: Collection[str] | None = None) -> dict[str, PostsSummary]:
        """Count the posts of all streams up to a time, or of the given ones, reading the whole table once."""
        if self._stream_column is None:
            summary = self.summary(until, warn=False)
            wanted = streams is None or DEFAULT_STREAM in streams
            return {DEFAULT_STREAM: summary} if summary.count and wanted else {}
        columns = ["post_id", "created_at", "content"]
        query = self._select(columns, self._stream_expression(self._stream_column))
        counts: Counter[str] = Counter()
        with_content: Counter[str] = Counter()
        times: dict[str, tuple[pd.Timestamp, pd.Timestamp]] = {}
        for posts in self._frames(query, [*columns, "stream"]):
            posts["created_at"] = _parse_times(posts["created_at"])
            posts["content"] = _has_text(posts["content"])
            usable = posts["post_id"].notna() & posts["stream"].notna() & (posts["created_at"] <= pd.Timestamp(until))
            for stream, group in posts[usable].groupby("stream", sort=False):
                name = str(stream)
                counts[name] += len(group)
                with_content[name] += int(group["content"].sum())
                found = [group["created_at"].min(), group["created_at"].max(), *times.get(name, ())]
                times[name] = (min(found), max(found))
        names = self._valid_streams(counts)
        return {
            name: PostsSummary(counts[name], with_content[name], *(time.to_pydatetime() for time in times[name]))
            for name in (names if streams is None else sorted(set(names).intersection(streams)))
        }

    def spans(self, until: datetime) -> dict[str, PostsSpan]:
        """Count the posts of all streams up to a time, reading the whole table once."""
        return {
            name: PostsSpan(summary.count, summary.first, summary.last)
            for name, summary in self.summaries(until).items()
            if summary.first is not None and summary.last is not None
        }

    def list_freshness(self, streams: Collection[str], now: datetime) -> dict[str, Freshness]:
        """Measure the freshness of streams, one by one."""
        found = {name: self.for_stream(name).freshness(now) for name in sorted(streams)}
        return {name: freshness for name, freshness in found.items() if freshness is not None}

    def newest_times(self, until: datetime) -> dict[str, datetime]:
        """Return when the newest post of each stream up to a time was created, reading the whole table once."""
        return {name: summary.last for name, summary in self.summaries(until).items() if summary.last is not None}

    def count(self, until: datetime, *, with_content: bool = False) -> int:
        """Count the posts of a stream up to a time, or only those with content; none of them is warned about."""
        if with_content:
            return self.summary(until, warn=False).with_content
        return len(self._load_times(until))

    def activity(self, now: datetime) -> PostsActivity:
        """Measure how many posts of a stream there are, and how many arrive."""
        times = self._load_times(now)
        first = None if times.empty else times.iloc[0].to_pydatetime()

        def count(after: datetime, until: datetime) -> int:
            low, high = (int(times.searchsorted(pd.Timestamp(time), "right")) for time in (after, until))
            return high - low

        return measure_activity(times, first, len(times), count, now)

    def list_posts(self, since: datetime | None, until: datetime, limit: int) -> tuple[list[Post], int]:
        """Return the latest posts of a stream in a period, like `PostStore.list_posts`."""
        posts = self._load(["post_id", "created_at", "content"], until)
        posts = posts if since is None else posts[posts["created_at"] >= since]
        return [self._post(row) for row in posts.tail(limit).itertuples(index=False)], len(posts)

    def get_post(self, post_id: str) -> Post:
        """Return a post.

        Raises:
            UnknownName: the stream has no such post.
        """
        posts = self._load(["post_id", "created_at", "content"], datetime.max.replace(tzinfo=UTC))
        for row in posts[posts["post_id"] == post_id].itertuples(index=False):
            return self._post(row)
        raise unknown_post(post_id, self.location)

    def find_moved(
        self, trained_at: datetime, trained_through: tuple[datetime, str], since: datetime | None = None
    ) -> set[str]:
        """Return nothing: what happened to a foreign post is not known."""
        del trained_at, trained_through, since
        return set()

    def count_late(self, until: datetime, known_at: datetime) -> int | None:
        """Return None: the table does not say when posts arrived."""
        del until, known_at
        return None

    def are_past(self, now: datetime) -> bool:
        """Whether the posts are in the project's database: they are not."""
        del now
        return False

    def require_writable(self, action: str = "import") -> None:
        """Refuse: the table is not ours.

        Raises:
            PostsError: always.
        """
        raise PostsError(
            f"cannot {action}: {self.location} was not created by retrainer and is read-only",
            hint="Change it by other means, or set posts.url to null and posts.table to 'posts' in an empty database",
        )

    def _load(self, columns: list[str], until: datetime, *, warn: bool = True) -> pd.DataFrame:
        """Load the posts of a stream, leaving out those without an id or a readable time."""
        query = self._select(columns).where(self._is_of(self.stream))
        posts = self._query(query, columns)
        without_id = posts["post_id"].isna()
        times = _parse_times(posts["created_at"])
        if warn:
            self._warn_left_out(posts["post_id"][without_id], "without an id")
            self._warn_left_out(posts["created_at"][~without_id & times.isna()], "with an unreadable time")
        posts["post_id"] = posts["post_id"].map(str).astype(object)
        posts["created_at"] = times
        posts = posts[~without_id & (times <= pd.Timestamp(until))]  # NaT compares as false
        posts = posts.sort_values(["created_at", "post_id"], kind="stable", ignore_index=True)
        duplicates = posts["post_id"][posts["post_id"].duplicated()]
        if len(duplicates):
            raise PostsError(
                f"{self.location} has the id '{duplicates.iloc[0]}' twice",
                hint="Set posts.columns.post_id to a unique column",
            )
        return posts

    def _load_times(self, until: datetime, limit: int | None = None) -> pd.Series[Any]:
        del limit
        return self._load(["post_id", "created_at"], until, warn=False)["created_at"]

    def _select(self, columns: Sequence[str], *others: sa.ColumnElement[Any]) -> sa.Select[Any]:
        selected: list[Any] = [sa.column(self._names[column]) for column in columns]
        return sa.select(*selected, *others).select_from(self._table)

    def _stream_expression(self, stream_column: ForeignColumn) -> sa.ColumnElement[Any]:
        """Return the stream of a row, as a text that compares exactly, or as a whole number."""
        column: sa.ColumnElement[Any] = sa.column(stream_column.name, stream_column.type)
        if isinstance(stream_column.type, sa.Integer):
            return column
        if not isinstance(stream_column.type, sa.Text | sa.VARCHAR):  # such as CHAR, padded, or CITEXT
            column = sa.cast(column, sa.Text)
        return sa.collate(column, _BINARY[self._engine.dialect.name])

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
            self._warn(f"Left out posts of {self.location} whose stream is not a valid name, such as {example}")
        return [name for name, is_valid in names.items() if is_valid]

    def _frames(self, query: sa.Executable, columns: list[str]) -> Iterator[pd.DataFrame]:
        """Yield the rows in frames, so that memory does not grow with the table."""
        try:
            with (
                self._engine.connect() as connection,
                connection.execution_options(yield_per=_CHUNK_ROWS).execute(query) as result,
            ):
                for rows in result.partitions():
                    yield pd.DataFrame([tuple(row) for row in rows], columns=columns, dtype=object)
        except DBAPIError as error:
            raise translate_error(error, self._engine) from error

    def _post(self, row: Any) -> Post:
        return Post(stream=self.stream, post_id=row.post_id, created_at=row.created_at, content=row.content)

    def _warn_left_out(self, values: pd.Series[Any], problem: str) -> None:
        """Warn about posts with unusable values, with an example."""
        present = values.dropna()
        example = f", such as {quote(present.iloc[0])}" if len(present) else ""
        if len(values):
            self._warn(f"Left out {len(values)} posts of {self.location} {problem}{example}")

    def _warn(self, message: str) -> None:
        if message not in self._warnings:
            self._warnings.add(message)
            log.warning("%s", message)


def _is_stream(name: str) -> bool:
    try:
        check_stream_name(name)
    except ValueError:
        return False
    return True


def _has_text(values: pd.Series[Any]) -> pd.Series[Any]:
    return values.fillna("").map(str).str.strip().astype(bool)


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
