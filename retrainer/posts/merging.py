"""Merge imported posts into our table of posts, within one transaction."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.posts.staging import VALUE_COLUMNS, Changes, settle
from retrainer.posts.validation import EPOCH, MICROSECOND
from retrainer.registry.live import find_scored_streams, mark_posts_changed
from retrainer.registry.tables import Post

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from retrainer.posts.staging import StagedPost, Values

_TABLE = Post.metadata.tables[Post.__tablename__]
_NAIVE_EPOCH = EPOCH.replace(tzinfo=None)
_COLUMNS = ("stream", "post_id", *VALUE_COLUMNS, "imported_at")


@dataclass
class Merged:
    """What a merge did.

    Attributes:
        added: the number of new posts, by stream.
        unchanged: the number of posts that were there already and about which nothing new was said.
        changes: the posts that were there with other values.
    """

    added: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0
    changes: Changes = field(default_factory=Changes)


class ChangedPosts:
    """The earliest times of the posts that are added, deleted, moved or edited in a transaction, by stream."""

    def __init__(self) -> None:
        self._times: dict[str, datetime] = {}
        self._edits: dict[str, datetime] = {}

    def add(self, stream: str, time: datetime) -> None:
        """Note that a post came to a time or went from it."""
        self._times[stream] = min(time, self._times.get(stream, time))

    def add_edit(self, stream: str, time: datetime) -> None:
        """Note that the text of a post was edited, which matters to content only."""
        self._edits[stream] = min(time, self._edits.get(stream, time))

    def mark(self, connection: sa.Connection) -> None:
        """Mark the live scores that are to be made again."""
        for stream in find_scored_streams(connection, self._times | self._edits):
            if stream in self._times:
                mark_posts_changed(connection, stream, self._times[stream], MODEL_TYPE_NAMES)
            if stream in self._edits:
                mark_posts_changed(connection, stream, self._edits[stream], ["content"])


def has_posts(connection: sa.Connection, stream: str) -> bool:
    """Whether a stream has posts.

    PostgreSQL answers this from an index. Asked whether there is one (EXISTS), it may read the table, expecting to find
    one soon: it never ends where there is none.
    """
    return connection.scalar(sa.select(sa.func.min(Post.created_at)).where(Post.stream == stream)) is not None


def merge_posts(
    connection: sa.Connection, batches: Iterable[Sequence[StagedPost]], *, now: datetime, update: bool
) -> Merged:
    """Add the new posts, and settle those whose ids are there with the stored ones.

    Args:
        connection: in a write transaction.
        batches: the posts, stream by stream; no id comes twice in one.
        now: the time of the import.
        update: whether they replace the stored ones.
    """
    merged = Merged()
    places = ChangedPosts()
    write = _copy if connection.dialect.driver == "psycopg" else _insert
    stream, is_empty = None, True
    for batch in batches:
        new: list[StagedPost] = []
        for name, posts in groupby(batch, key=itemgetter(2)):
            if name != stream:
                stream, is_empty = name, not has_posts(connection, name)
            found = list(posts)
            stored = {} if is_empty else _stored(connection, name, [post[3] for post in found])
            added = [post for post in found if post[3] not in stored] if stored else found
            new += added
            merged.added[name] += len(added)
            if added:
                places.add(name, _time(min(post[4] for post in added)))
            if stored:
                there = [post for post in found if post[3] in stored]
                _settle(connection, there, stored, merged, places, now=now, update=update)
        write(connection, new, now)
    places.mark(connection)
    return merged


def _stored(connection: sa.Connection, stream: str, ids: list[str]) -> dict[str, Values]:
    """Return the stored values of posts, by id."""
    columns = [_TABLE.c[name] for name in VALUE_COLUMNS]
    query = sa.select(Post.post_id, *columns).where(Post.stream == stream, Post.post_id.in_(ids))
    return {
        post_id: ((created_at - EPOCH) // MICROSECOND, content, *counts)
        for post_id, created_at, content, *counts in connection.execute(query)
    }


def _settle(
    connection: sa.Connection,
    posts: Iterable[StagedPost],
    stored: dict[str, Values],
    merged: Merged,
    places: ChangedPosts,
    *,
    now: datetime,
    update: bool,
) -> None:
    """Settle posts whose ids are there with the stored ones."""
    changed: list[dict[str, object]] = []
    moved: list[dict[str, object]] = []
    for post in posts:
        stream, post_id = post[2:4]
        before = stored[post_id]
        kept, clashes = settle(before, post[4:], update=update)
        if not clashes and kept == before:
            merged.unchanged += 1
            continue
        merged.changes.add(post, before, None if clashes else kept)
        if not clashes:
            row = dict(zip(VALUE_COLUMNS, kept, strict=True))
            time = _time(kept[0])
            rows = changed if kept[0] == before[0] else moved
            if kept[0] != before[0]:
                places.add(stream, min(time, _time(before[0])))
            elif kept[1] != before[1]:
                places.add_edit(stream, time)
            rows.append({**row, "created_at": time, "of_stream": stream, "of_id": post_id})
    of_post = (_TABLE.c.stream == sa.bindparam("of_stream")) & (_TABLE.c.post_id == sa.bindparam("of_id"))
    update_of_post = sa.update(_TABLE).where(of_post).values({name: sa.bindparam(name) for name in VALUE_COLUMNS})
    earliest = sa.case((_TABLE.c.moved_from < _TABLE.c.created_at, _TABLE.c.moved_from), else_=_TABLE.c.created_at)
    if changed:
        connection.execute(update_of_post, changed)
    if moved:
        connection.execute(update_of_post.values(moved_from=earliest, moved_at=now), moved)


def _time(microseconds: int) -> datetime:
    return EPOCH + microseconds * MICROSECOND


def _insert(connection: sa.Connection, posts: Sequence[StagedPost], now: datetime) -> None:
    """Insert posts past the conversions of SQLAlchemy, which take longer than the rest of an import."""
    marks = ", ".join(["?" if connection.dialect.paramstyle == "qmark" else "%s"] * len(_COLUMNS))
    statement = f"INSERT INTO {_TABLE.name} ({', '.join(_COLUMNS)}) VALUES ({marks})"  # noqa: S608  constants
    if posts:
        connection.exec_driver_sql(statement, _rows(posts, now, zone=""))


def _copy(connection: sa.Connection, posts: Sequence[StagedPost], now: datetime) -> None:
    """Copy posts into PostgreSQL."""
    import psycopg  # noqa: PLC0415  installed where the database is PostgreSQL

    statement = f"COPY {_TABLE.name} ({', '.join(_COLUMNS)}) FROM STDIN"
    try:
        with connection.connection.cursor() as cursor, cursor.copy(statement) as copy:  # type: ignore[attr-defined]
            for row in _rows(posts, now, zone="+00"):
                copy.write_row(row)
    except psycopg.Error as error:
        raise sa.exc.DBAPIError(statement, None, error) from error


def _rows(posts: Sequence[StagedPost], now: datetime, *, zone: str) -> list[tuple[Any, ...]]:
    """Return the rows of the table, with the times as the database writes them."""
    imported_at = now.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds") + zone
    return [
        (
            stream,
            post_id,
            (_NAIVE_EPOCH + timedelta(microseconds=time)).isoformat(" ", "microseconds") + zone,
            *others,
            imported_at,
        )
        for _, _, stream, post_id, time, *others in posts
    ]
