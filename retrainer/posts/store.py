"""The posts: in our own table, filled by `posts import`, or in a foreign one that is only read."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import sqlalchemy as sa

from retrainer.errors import PostsError, UnknownName
from retrainer.posts.freshness import MAX_GAPS, measure_activity, measure_freshness
from retrainer.posts.merging import ChangedPosts, Merged, merge_posts
from retrainer.posts.staging import COUNT_COLUMNS
from retrainer.posts.validation import shorten
from retrainer.registry.tables import PlainText, Post
from retrainer.streams import DEFAULT_STREAM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from retrainer.config import PostsSettings
    from retrainer.posts.freshness import Freshness, PostsActivity
    from retrainer.posts.staging import StagedPost
    from retrainer.posts.table import PostsTable
    from retrainer.registry.database import Database


@dataclass(frozen=True)
class PostsSummary:
    """The numbers of posts and of those with content, and the first and last time (UTC; None without posts)."""

    count: int
    with_content: int
    first: datetime | None
    last: datetime | None


class _Move(NamedTuple):
    """A post that a correction has moved in time; the columns of these names."""

    post_id: str
    created_at: datetime
    moved_from: datetime
    moved_at: datetime


class PostStore:
    """The posts of one stream of a project.

    Attributes:
        table: the posts of all streams.
        stream: the stream.
    """

    def __init__(self, table: PostsTable, settings: PostsSettings, database: Database) -> None:
        self.table = table
        self._settings = settings
        self._database = database
        self.stream = DEFAULT_STREAM
        self._kept: dict[tuple[datetime, bool], pd.DataFrame] | None = None
        self._kept_moves: list[_Move] | None = None

    @contextmanager
    def keep_loaded(self) -> Iterator[None]:
        """Within the block, return the posts that `load` has read up to a time again, until `forget_loaded`."""
        self._kept = {}
        try:
            yield
        finally:
            self._kept = self._kept_moves = None

    def forget_loaded(self) -> None:
        """Read posts again that were kept: they may have changed."""
        self._kept_moves = None
        if self._kept is not None:
            self._kept.clear()

    def close(self) -> None:
        """Close the connections to a foreign database."""
        if self.table.engine is not self._database.engine:
            self.table.engine.dispose()

    @property
    def settings(self) -> PostsSettings:
        """How posts are read and stored."""
        return self._settings

    @property
    def is_foreign(self) -> bool:
        """Whether they are in a table that is only read."""
        return False

    @property
    def location(self) -> str:
        """Where the posts are, for messages."""
        return self.table.location_of(self.stream)

    def for_stream(self, stream: str) -> PostStore:
        """Return the posts of another stream, on the same connections."""
        other = copy.copy(self)
        other.stream, other._kept, other._kept_moves = stream, None, None  # noqa: SLF001  its own class
        return other

    def load(self, until: datetime, *, with_content: bool = True, warn: bool = True) -> pd.DataFrame:
        """Return the posts of a stream up to a time, ordered by (created_at, post_id).

        Args:
            until: the time (UTC).
            with_content: whether to load the texts, which takes most of the time and memory.
            warn: whether to warn about unusable posts of a foreign table.

        Returns:
            `post_id` (str), `created_at` (datetime64[us, UTC]) and, if wanted, `content` (str, or None).

        Raises:
            PostsError: a foreign table has an id twice.
            DatabaseError: the database cannot be read.
        """
        del warn
        if self._kept is not None and (until, with_content) in self._kept:
            return self._kept[until, with_content].copy(deep=False)
        query = self._select_posts({"content": Post.content} if with_content else {}, until)
        posts = self._read_posts(query.order_by(Post.created_at, Post.post_id))
        if self._kept is not None:
            self._kept[until, with_content] = posts.copy(deep=False)
        return posts

    def load_lengths(self, until: datetime) -> pd.DataFrame:
        """Return the posts as `load` does, with the lengths of their texts instead: `length` (float; NaN without)."""
        query = self._select_posts({"length": sa.func.length(Post.content)}, until)
        posts = self._read_posts(query.order_by(Post.created_at, Post.post_id))
        return posts.astype({"length": "float64"})

    def _select_posts(self, others: dict[str, Any], until: datetime) -> sa.Select[Any]:
        table = sa.inspect(Post).local_table
        # SQLite stores times as text, which pandas parses faster than the driver creates a million objects.
        is_sqlite = self._database.engine.dialect.name == "sqlite"
        time = sa.type_coerce(table.c.created_at, sa.String).label("created_at") if is_sqlite else table.c.created_at
        query = sa.select(table.c.post_id, time, *(value.label(name) for name, value in others.items()))
        return query.where(Post.stream == self.stream, Post.created_at <= until)

    def _read_posts(self, query: sa.Select[Any]) -> pd.DataFrame:
        self._kept_moves = None  # which must be of a later time than the posts
        with self._database.read() as session:
            rows = [tuple(row) for row in session.connection().execute(query)]
        posts = pd.DataFrame(rows, columns=list(query.selected_columns.keys()))
        posts["post_id"] = posts["post_id"].astype(object)
        posts["created_at"] = self._parse_times(posts)
        # A database may sort by the collation of a language; origins rely on the plain order of ids.
        if _are_in_order(posts):
            return posts
        return posts.sort_values(["created_at", "post_id"], kind="stable", ignore_index=True)

    def _parse_times(self, posts: pd.DataFrame) -> pd.Series[Any]:
        """Return the times of posts as the database returns them: texts, if it is SQLite.

        Raises:
            PostsError: one is not a time, as another program may have written it.
        """
        times = posts["created_at"]
        # A column of SQLite may hold numbers, some or all, and pandas would take them for times.
        if times.dtype == object or pd.api.types.is_numeric_dtype(times.dtype):
            times = times.map(str)
        found = pd.to_datetime(times, utc=True, format="ISO8601", errors="coerce").astype("datetime64[us, UTC]")
        unreadable = found.isna()
        if unreadable.any():
            row = int(unreadable.to_numpy().argmax())
            post_id, time = posts["post_id"].iloc[row], posts["created_at"].iloc[row]
            raise PostsError(
                f"cannot read the time '{time}' of the post '{shorten(str(post_id))}' in {self.location}",
                hint="Correct the row in the database",
            )
        return found

    def load_after(
        self,
        after: tuple[datetime, str | None],
        until: datetime,
        limit: int | None,
        *,
        with_content: bool,
        inclusive: bool = False,
    ) -> pd.DataFrame:
        """Return the first posts of a stream after a post and up to a time, like `load`.

        Args:
            after: time and id of the post; without an id, all posts of that time are before.
            until: the last time (UTC).
            limit: the maximum number of posts; None for all.
            with_content: whether to load the texts.
            inclusive: whether the post itself is one of them, if it has an id.
        """
        return self._read_posts(self._select_after(after, until, limit, with_content, inclusive))

    def list_after(
        self,
        connection: sa.Connection,
        after: tuple[datetime, str | None],
        until: datetime,
        limit: int,
        *,
        with_content: bool,
    ) -> list[tuple[Any, ...]]:
        """Return the posts of `load_after`, by a connection in a transaction, as tuples, which takes less time.

        Returns:
            Of each post the id, the time (UTC) and, if wanted, the text (None without).
        """
        columns = (Post.post_id, Post.created_at, *((Post.content,) if with_content else ()))
        query = self._select_after(after, until, limit, with_content).with_only_columns(*columns)
        return [tuple(row) for row in connection.execute(query)]

    def _select_after(
        self,
        after: tuple[datetime, str | None],
        until: datetime,
        limit: int | None,
        with_content: bool,
        inclusive: bool = False,
    ) -> sa.Select[Any]:
        time, post_id = after
        is_later = Post.created_at > time
        if post_id is not None:
            follows = self._plain_id >= post_id if inclusive else self._plain_id > post_id
            is_later = (Post.created_at >= time) & (is_later | follows)  # the first takes an index
        query = self._select_posts({"content": Post.content} if with_content else {}, until).where(is_later)
        return query.order_by(Post.created_at, self._plain_id).limit(limit)

    def load_before(self, before: tuple[datetime, str | None], limit: int, *, with_content: bool) -> pd.DataFrame:
        """Return the last posts of a stream up to a post, including it, like `load`.

        Args:
            before: time and id of the post; without an id, all posts of that time are included.
            limit: the maximum number of posts.
            with_content: whether to load the texts.
        """
        time, post_id = before
        query = self._select_posts({"content": Post.content} if with_content else {}, time)
        if post_id is not None:
            query = query.where((Post.created_at < time) | (self._plain_id <= post_id))
        query = query.order_by(Post.created_at.desc(), self._plain_id.desc()).limit(limit)
        return self._read_posts(query)

    @property
    def _plain_id(self) -> sa.ColumnElement[str]:
        """The id in the plain order of its characters, on which origins rely, whatever the collation."""
        return (
            sa.type_coerce(Post.post_id, PlainText)
            if self._database.engine.dialect.name == "sqlite"
            else sa.collate(Post.post_id, "C")
        )

    def summary(self, until: datetime, *, warn: bool = True) -> PostsSummary:
        """Count the posts of a stream up to a time; optionally, warn about unusable ones."""
        del warn  # none is
        times = (sa.func.min(Post.created_at), sa.func.max(Post.created_at))
        query = sa.select(sa.func.count(), sa.func.count(Post.content), *times)
        query = query.where(Post.stream == self.stream, Post.created_at <= until)
        with self._database.read() as session:
            return PostsSummary(*session.execute(query).one())

    def count(self, until: datetime, *, with_content: bool = False) -> int:
        """Count the posts of a stream up to a time, or only those with content."""
        query = sa.select(sa.func.count(Post.content) if with_content else sa.func.count())
        with self._database.read() as session:
            return session.scalar(query.where(Post.stream == self.stream, Post.created_at <= until)) or 0

    def freshness(self, now: datetime) -> Freshness | None:
        """Compare the time since the newest post of a stream with the gaps between its posts; None without posts."""
        return measure_freshness(self._load_times(now, MAX_GAPS + 1), now)

    def activity(self, now: datetime) -> PostsActivity:
        """Measure how many posts of a stream there are, and how many arrive."""
        with self._database.read() as session:
            first = session.scalar(sa.select(sa.func.min(Post.created_at)).where(Post.stream == self.stream))
        latest = self._load_times(now, MAX_GAPS + 1)
        return measure_activity(latest, first, self.count(now), self._count_between, now)

    def _count_between(self, after: datetime, until: datetime) -> int:
        """Count the posts of a stream after a time, up to another one."""
        query = sa.select(sa.func.count()).where(
            Post.stream == self.stream, Post.created_at > after, Post.created_at <= until
        )
        with self._database.read() as session:
            return session.scalar(query) or 0

    def _load_times(self, until: datetime, limit: int | None = None) -> pd.Series[Any]:
        """Return when the latest posts up to a time were created, in order."""
        for (time, _), posts in (self._kept or {}).items():
            if time == until:
                return posts["created_at"].iloc[-(limit or len(posts)) :].reset_index(drop=True)
        latest = sa.select(Post.created_at).where(Post.stream == self.stream, Post.created_at <= until)
        with self._database.read() as session:
            found = session.scalars(latest.order_by(Post.created_at.desc()).limit(limit)).all()
        return pd.Series(found[::-1], dtype="datetime64[us, UTC]")

    def list_posts(self, since: datetime | None, until: datetime, limit: int) -> tuple[list[Post], int]:
        """Return the latest posts of a stream in a period, oldest first, and the number of posts in the period.

        Args:
            since: the start of the period; None for the first post.
            until: the last time in the period.
            limit: the maximum number of posts to return.
        """
        period = [Post.stream == self.stream, Post.created_at <= until]
        if since is not None:
            period.append(Post.created_at >= since)
        latest = sa.select(Post).where(*period).order_by(Post.created_at.desc(), Post.post_id.desc()).limit(limit)
        with self._database.read() as session:
            count = session.scalar(sa.select(sa.func.count()).select_from(Post).where(*period)) or 0
            # As in `load`: a database may sort ids by the collation of a language.
            return sorted(session.scalars(latest), key=lambda post: (post.created_at, post.post_id)), count

    def get_post(self, post_id: str) -> Post:
        """Return a post.

        Raises:
            UnknownName: the stream has no such post.
        """
        with self._database.read() as session:
            return self._fetch(session, post_id)

    def find_moved(
        self, trained_at: datetime, trained_through: tuple[datetime, str], since: datetime | None = None
    ) -> set[str]:
        """Return the ids of the posts that were trained on, and then moved past the end of the training data.

        Args:
            trained_at: when the training began; a later correction may have moved a post that was trained on.
            trained_through: time and id of the last post that was trained on.
            since: the first time of interest, UTC; None for all that are past the end.
        """
        first = trained_through[0] if since is None else max(trained_through[0], since)
        return {
            move.post_id
            for move in self._list_moves(first)
            if move.created_at >= first
            and move.moved_at > trained_at
            and (move.moved_from, move.post_id) <= trained_through
        }

    def _list_moves(self, since: datetime) -> list[_Move]:
        """Return the posts from a time on that have moved; while posts are kept, those of all times, read once."""
        if self._kept_moves is not None:
            return self._kept_moves
        columns = [getattr(Post, name) for name in _Move._fields]
        query = sa.select(*columns).where(Post.stream == self.stream, Post.moved_at.is_not(None))
        if self._kept is None:
            query = query.where(Post.created_at >= since)
        with self._database.read() as session:
            moves = [_Move._make(row) for row in session.execute(query)]
        if self._kept is not None:
            self._kept_moves = moves
        return moves

    def count_late(self, until: datetime, known_at: datetime) -> int | None:
        """Count the posts of a stream up to a time that were imported after another time; None if that is unknown."""
        late = (Post.stream == self.stream, Post.created_at <= until, Post.imported_at > known_at)
        with self._database.read() as session:
            return session.scalar(sa.select(sa.func.count()).select_from(Post).where(*late)) or 0

    def delete(self, post_ids: Iterable[str]) -> None:
        """Delete posts of a stream, all or none of them.

        Raises:
            PostsError: the table is not ours.
            UnknownName: the stream has no such post.
        """
        self.require_writable("delete posts")
        with self._database.write() as session:
            changed = ChangedPosts()
            for post_id in post_ids:
                post = self._fetch(session, post_id)
                session.delete(post)
                changed.add(self.stream, post.created_at)
            changed.mark(session.connection())

    def _fetch(self, session: Session, post_id: str) -> Post:
        post = session.get(Post, (self.stream, post_id)) if "\0" not in post_id else None
        if post is None:
            raise unknown_post(post_id, self.location)
        return post

    def are_past(self, now: datetime) -> bool:
        """Whether the posts of a stream are in the project's database, and none of them is later than now."""
        with self._database.read() as session:
            newest = session.scalar(sa.select(sa.func.max(Post.created_at)).where(Post.stream == self.stream))
            return newest is None or newest <= now

    def require_writable(self, action: str = "import") -> None:
        """Check that posts can be imported or deleted.

        Args:
            action: what is wanted, for the message.

        Raises:
            PostsError: the table is not ours.
        """

    def merge(
        self,
        batches: Iterable[Sequence[StagedPost]],
        now: datetime,
        *,
        update: bool = False,
        then: Callable[[Session], None] | None = None,
    ) -> Merged:
        """Merge posts into their streams in one transaction, at whose end `then` is called; see `merge_posts`."""
        self.require_writable()
        with self._database.write() as session:
            merged = merge_posts(session.connection(), batches, now=now, update=update)
            if then is not None:
                then(session)
            return merged

    def add(self, posts: pd.DataFrame, now: datetime) -> int:
        """Add the posts with new ids to a stream in one transaction; return how many there are.

        Args:
            posts: `post_id`, `created_at` (UTC), `content`, and the counts.
            now: the time of the import.
        """
        times = posts["created_at"].astype("datetime64[us, UTC]").astype("int64")
        values = posts[["content", *COUNT_COLUMNS]].astype(object)
        values = values.where(values.notna(), None)
        rows = zip(posts["post_id"], times.tolist(), *(values[name] for name in values), strict=True)
        return self.merge([[(0, 0, self.stream, *row) for row in rows]], now).added.total()


def _are_in_order(posts: pd.DataFrame) -> bool:
    """Whether posts are ordered by time and plain id; comparing is faster than sorting."""
    later = np.diff(posts["created_at"].to_numpy("datetime64[us]").astype("int64"))
    ids = posts["post_id"].to_numpy()
    return bool((later >= 0).all()) and all(ids[row] < ids[row + 1] for row in np.flatnonzero(later == 0))


def unknown_post(post_id: str, where: str) -> UnknownName:
    """Return the error that there is no such post."""
    return UnknownName(f"no post '{shorten(post_id)}' in {where}", hint="`retrainer posts list` lists the latest")
