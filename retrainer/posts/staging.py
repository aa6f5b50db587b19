"""A private place for the posts of an import, on disk, until all files are read and the database takes them at once.

It is a temporary SQLite database that is deleted with its connection, also when the process is killed. It keeps one
post per stream and id, and settles what happens when an id comes again, so that memory does not grow with the files.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from retrainer.errors import PostsError
from retrainer.posts.validation import EPOCH, MICROSECOND

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

COUNT_COLUMNS = ("replies_count", "reblogs_count", "favourites_count")
VALUE_COLUMNS = ("created_at", "content", *COUNT_COLUMNS)
MAX_SHOWN_CHANGES = 20  # of each kind; the others are counted
BATCH_ROWS = 5_000

Values = tuple[int, str | None, int | None, int | None, int | None]
"""Of VALUE_COLUMNS: the time in microseconds since 1970 (UTC), the text and the counts; None where missing."""
StagedPost = tuple[int, int, str, str, int, str | None, int | None, int | None, int | None]
"""The index of the file, the line in it, the stream, the id, and the values."""

_CLASHING = 2  # of VALUE_COLUMNS: counts never clash
_CACHE_KIB = 65_536
_COLUMNS = ", ".join(VALUE_COLUMNS)
# The id comes first in the key: ids differ sooner than pairs of stream and id.
_CREATE = (
    f"CREATE TABLE post (file INTEGER, line INTEGER, stream TEXT, post_id TEXT, {_COLUMNS}, UNIQUE (post_id, stream))"
)
_INSERT = "INSERT OR IGNORE INTO post VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_UPDATE = f"UPDATE post SET {', '.join(f'{name} = ?' for name in VALUE_COLUMNS)} WHERE rowid = ?"  # noqa: S608  constants


@dataclass(frozen=True)
class Change:
    """A post that differs from the one with the same id that was there before.

    Attributes:
        file: the index of the file with the later one.
        line: its line there.
        post_id: the id.
        before: the values that were there before, by column, of the columns that differ; times in UTC.
        after: those of the later one.
        earlier: the index of the file and the line of the earlier one; None if it was in the database.
    """

    file: int
    line: int
    post_id: str
    before: Mapping[str, object]
    after: Mapping[str, object]
    earlier: tuple[int, int] | None


@dataclass
class Changes:
    """The posts that came again with other values: how many there are, and the first of them.

    Attributes:
        updated: the number of posts that were replaced or completed.
        clashing: the number of posts whose other values were ignored.
        first_updated, first_clashing: the first of each.
    """

    updated: int = 0
    clashing: int = 0
    first_updated: list[Change] = field(default_factory=list)
    first_clashing: list[Change] = field(default_factory=list)

    def add(
        self, post: StagedPost, before: Values, kept: Values | None, earlier: tuple[int, int] | None = None
    ) -> None:
        """Count a post that came again.

        Args:
            post: the later one.
            before: the values that were there.
            kept: the values that replace them; None if the new ones clash with them.
            earlier: see `Change`.
        """
        file, line, _, post_id = post[:4]
        if kept is None:
            self.clashing += 1
            first, differing, after = self.first_clashing, _CLASHING, post[4:]
        else:
            self.updated += 1
            first, differing, after = self.first_updated, len(VALUE_COLUMNS), kept
        if len(first) < MAX_SHOWN_CHANGES:
            values = zip(VALUE_COLUMNS[:differing], before, after, strict=False)
            columns: dict[str, tuple[object, object]] = {
                name: (old, new) for name, old, new in values if new is not None and new != old
            }
            if "created_at" in columns:
                columns["created_at"] = (EPOCH + before[0] * MICROSECOND, EPOCH + after[0] * MICROSECOND)
            old_values = {name: old for name, (old, _) in columns.items()}
            new_values = {name: new for name, (_, new) in columns.items()}
            first.append(Change(file, line, post_id, old_values, new_values, earlier))


class Settled(NamedTuple):
    """What becomes of a post that comes again: the values to keep, and whether the new ones clash with them."""

    values: Values
    clashes: bool


def settle(old: Values, new: Values, *, update: bool) -> Settled:
    """Decide what a post becomes whose id comes again.

    A missing value says nothing, so it never replaces another. With `update`, every other value replaces the old one.
    Without it, only a missing text is filled in; another time or text is a clash, and other counts are ignored, since
    they grow with time.
    """
    if old == new:
        return Settled(old, clashes=False)
    if update:
        replaced = tuple(before if after is None else after for before, after in zip(old, new, strict=True))
        return Settled(replaced, clashes=False)  # type: ignore[arg-type]  # zip loses the length
    text_differs = old[1] is not None and new[1] is not None and old[1] != new[1]
    if old[0] != new[0] or text_differs:
        return Settled(old, clashes=True)
    return Settled((old[0], new[1] if old[1] is None else old[1], *old[2:]), clashes=False)


class Staging:
    """The posts of an import, one per stream and id, in the order in which they came.

    Attributes:
        changes: the posts that came again with other values.
        repeated: the number of posts that came again and said nothing new.
    """

    def __init__(self, connection: sqlite3.Connection, *, update: bool) -> None:
        self._connection = connection
        self._update = update
        self.changes = Changes()
        self.repeated = 0

    def add(self, posts: Sequence[StagedPost]) -> None:
        """Add posts; one whose id came before is settled with the earlier one."""
        connection = self._connection
        count = connection.total_changes
        (last,) = connection.execute("SELECT coalesce(max(rowid), 0) FROM post").fetchone()
        connection.executemany(_INSERT, posts)
        if connection.total_changes - count == len(posts):
            return
        added = connection.execute("SELECT file, line, stream, post_id FROM post WHERE rowid > ?", (last,))
        new = Counter(added.fetchall())
        for post in posts:
            if new[post[:4]]:  # this one was added
                new[post[:4]] -= 1
            else:
                self._settle(post)

    def _settle(self, post: StagedPost) -> None:
        query = f"SELECT rowid, file, line, {_COLUMNS} FROM post WHERE stream = ? AND post_id = ?"  # noqa: S608  constants
        row, file, line, *old = self._connection.execute(query, post[2:4]).fetchone()
        before: Values = tuple(old)
        kept, clashes = settle(before, post[4:], update=self._update)
        if not clashes and kept == before:
            self.repeated += 1
            return
        self.changes.add(post, before, None if clashes else kept, (file, line))
        if not clashes:
            self._connection.execute(_UPDATE, (*kept, row))

    def batches(self) -> Iterator[list[StagedPost]]:
        """Yield the posts in batches, stream by stream, those of each in the order in which they came."""
        several = self._connection.execute("SELECT min(stream) <> max(stream) FROM post").fetchone()[0]
        cursor = self._connection.execute(f"SELECT * FROM post ORDER BY {'stream, rowid' if several else 'rowid'}")  # noqa: S608  constants
        while batch := cursor.fetchmany(BATCH_ROWS):
            yield batch

    def __len__(self) -> int:
        count: int = self._connection.execute("SELECT count(*) FROM post").fetchone()[0]
        return count


@contextmanager
def open_staging(*, update: bool) -> Iterator[Staging]:
    """Open an empty staging place; it is deleted at the end.

    Args:
        update: whether the later of two posts with one id replaces the earlier one.

    Raises:
        PostsError: the temporary file cannot be written.
    """
    connection = sqlite3.connect("", isolation_level=None)  # no name: a temporary file that is already unlinked
    try:
        for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
            connection.execute(f"PRAGMA {setting}")
        connection.execute(_CREATE)
        connection.execute("BEGIN")
        yield Staging(connection, update=update)
    except sqlite3.Error as error:
        hint = "Free some space in the folder for temporary files, or set TMPDIR to another one"
        raise PostsError(f"cannot write a temporary file for the import: {error}", hint=hint) from error
    finally:
        connection.close()
