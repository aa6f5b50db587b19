"""The live posts that are to be scored, in batches, with the posts that their forecasts depend on."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from retrainer.model_types import get_model_type
from retrainer.model_types.base import utc_times

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from numpy.typing import NDArray
    from sqlalchemy import Connection

    from retrainer.model_types import ModelTypeName
    from retrainer.posts.store import PostStore

    PostKey = tuple[datetime, str | None]
    """Time and id of a post; without an id, the last post of that time, whichever it is."""

BATCH_POSTS = 1_000


class Context(NamedTuple):
    """The posts on which forecasts of the posts after one depend.

    Attributes:
        last: at least so many, the last ones; None for all posts.
        since: all from this one on, too; None for no more.
    """

    last: int | None
    since: PostKey | None = None

    def joined(self, other: Context) -> Context:
        """Return the posts on which either of two forecasts depends."""
        if self.last is None or other.last is None:
            return Context(None)
        starts = [since for since in (self.since, other.since) if since is not None]
        return Context(max(self.last, other.last), min(starts, key=place_of) if starts else None)


@dataclass(frozen=True)
class Batch:
    """The next live posts of a comparison.

    Attributes:
        after: the post that they follow.
        posts: the usable posts up to the last of them, or the latest of these.
        rows: (n,) the rows of those that are to be forecast.
        seen: the posts as they were read, usable or not.
        is_last: whether no more follow.
    """

    after: PostKey
    posts: pd.DataFrame
    rows: NDArray[np.int64]
    seen: pd.DataFrame
    is_last: bool

    @property
    def through(self) -> tuple[datetime, str]:
        """Time and id of the last post."""
        return post_key(self.seen, -1)

    def up_to(self, count: int) -> Batch:
        """Return the batch of which only the first posts are looked at."""
        last = post_key(self.posts, int(self.rows[count - 1]))
        return Batch(
            self.after, self.posts, self.rows[:count], self.seen.iloc[: first_row_after(self.seen, last)], is_last=True
        )


class LivePosts:
    """The posts of a stream up to a time, for one update of its comparisons.

    Where forecasts depend on a few posts only, no more are read. What was read is used again until `forget`.
    """

    def __init__(self, store: PostStore, model_type: ModelTypeName, until: datetime) -> None:
        self.store = store
        self.until = until
        self._type = get_model_type(model_type)
        self._with_content = model_type == "content"
        self._latest: tuple[PostKey, Context, Batch | None] | None = None

    def read(self, after: PostKey, context: Context) -> Batch | None:
        """Return the first posts after one, and those up to it that their forecasts depend on; None if there are none.

        Args:
            after: the post.
            context: the posts up to it on which forecasts depend.
        """
        if self._latest is None or self._latest[:2] != (after, context):
            if context.last is None or self.store.is_foreign:
                batch = None if self._is_last(after) else self._cut(after)
            else:
                batch = self._read_few(after, context.last, context.since)
            self._latest = after, context, batch
        return self._latest[2]

    def _is_last(self, after: PostKey) -> bool:
        """Whether a look at an index shows that no post follows, so that the posts need not be read."""
        is_read = "_all" in self.__dict__
        return not is_read and not self.store.is_foreign and self._load_after(after, 1).empty

    def _read_few(self, after: PostKey, count: int, since: PostKey | None) -> Batch | None:
        """Read the first posts after one, and some before."""
        seen = self._load_after(after, BATCH_POSTS)
        if not len(seen):
            return None
        known = self._load_before(after, count) if since is None else self._load_between(since, after)
        if len(known) < count:
            known = self._load_before(after, count)
        usable = self._type.usable_posts(seen)
        posts = pd.concat([known, usable], ignore_index=True) if len(known) else usable
        rows = np.arange(len(known), len(posts), dtype=np.int64)
        return Batch(after, posts, rows[rows > 0], seen, len(seen) < BATCH_POSTS)  # none precedes the very first one

    def _cut(self, after: PostKey) -> Batch | None:
        """Return the first posts after one, with all posts before, of those that are read once."""
        first = first_row_after(self._all, after, self._times)
        seen = self._all.iloc[first : first + BATCH_POSTS]
        if not len(seen):
            return None
        ends = (first_row_after(self._usable, key, self._usable_times) for key in (after, post_key(seen, -1)))
        rows = np.arange(*ends, dtype=np.int64)
        posts = self._usable.iloc[: rows[-1] + 1] if len(rows) else self._usable
        return Batch(after, posts, rows[rows > 0], seen, first + BATCH_POSTS >= len(self._all))

    def read_until(self, last: PostKey) -> pd.DataFrame:
        """Return all usable posts up to one."""
        if last[0] <= self.until:  # of those that are mostly needed next
            return self._usable.iloc[: first_row_after(self._usable, last, self._usable_times)]
        posts = self.store.load(last[0], with_content=self._with_content, warn=False)
        return self._type.usable_posts(posts.iloc[: first_row_after(posts, last)])

    def is_current(self, connection: Connection, batch: Batch) -> bool:
        """Whether the posts of a batch are still as they were read, in a transaction that excludes other writers.

        Posts before the batch need no look: a change of them has marked the comparison. A foreign table is compared
        with `digest` by the next update.
        """
        if self.store.is_foreign:
            return True
        count, until = len(batch.seen), batch.through[0]
        now = self.store.list_after(connection, batch.after, until, count, with_content=self._with_content)
        return now == _plain(batch.seen)

    def digest(self, through: tuple[datetime, str] | None) -> bytes | None:
        """Return the SHA-256 of all posts of a foreign table up to one; None for our own, where changes are marked."""
        if through is None or not self.store.is_foreign:
            return None
        posts = self._all.iloc[: first_row_after(self._all, through, self._times)]
        return sha256(pd.util.hash_pandas_object(posts, index=False).to_numpy().tobytes()).digest()

    def find_change(self, after: PostKey, scored: Iterable[tuple[datetime, str]]) -> datetime:
        """Return from when on the posts differ from those that were scored, or a time before all of them."""
        if self._with_content:  # the texts that were scored are not kept
            return after[0]
        first = first_row_after(self._usable, after, self._usable_times)
        for row, key in zip(range(first, len(self._usable)), scored, strict=False):
            if post_key(self._usable, row) != key:
                return min(key[0], post_key(self._usable, row)[0])
        return after[0]

    def forget(self) -> None:
        """Read the posts again: they have changed."""
        self._latest = None
        self.store.forget_loaded()
        for name in ("_all", "_times", "_usable", "_usable_times"):
            self.__dict__.pop(name, None)

    @cached_property
    def _all(self) -> pd.DataFrame:
        return self.store.load(self.until, with_content=self._with_content, warn=False)

    @cached_property
    def _times(self) -> NDArray[np.datetime64]:
        return utc_times(self._all)

    @cached_property
    def _usable_times(self) -> NDArray[np.datetime64]:
        return utc_times(self._usable)

    @cached_property
    def _usable(self) -> pd.DataFrame:
        return self._type.usable_posts(self._all)

    def _load_after(self, after: PostKey, limit: int) -> pd.DataFrame:
        return self.store.load_after(after, self.until, limit, with_content=self._with_content)

    def _load_between(self, since: PostKey, until: PostKey) -> pd.DataFrame:
        """Return the usable posts from one to another."""
        posts = self.store.load_after(since, until[0], None, with_content=self._with_content, inclusive=True)
        return self._type.usable_posts(posts.iloc[: first_row_after(posts, until)])

    def _load_before(self, before: PostKey, count: int) -> pd.DataFrame:
        """Return the last usable posts up to one, as many as there are."""
        limit = count
        while True:
            posts = self.store.load_before(before, limit, with_content=self._with_content)
            usable = self._type.usable_posts(posts)
            if len(usable) >= count or len(posts) < limit:
                return usable.iloc[-count:]
            limit *= 4


def first_row_after(posts: pd.DataFrame, last: PostKey, times: NDArray[np.datetime64] | None = None) -> int:
    """Return the row of the first of some posts, in order, that is later than one.

    Args:
        times: (n,) the times of the posts, if they are at hand.
    """
    times = utc_times(posts) if times is None else times
    time, post_id = np.datetime64(last[0].replace(tzinfo=None), "us"), last[1]
    end = int(np.searchsorted(times, time, side="right"))
    if post_id is None:
        return end
    start = int(np.searchsorted(times, time, side="left"))
    return start + bisect_right([str(other) for other in posts["post_id"].iloc[start:end]], post_id)


def place_of(post: PostKey) -> tuple[datetime, bool, str]:
    """Return what orders posts, by their time and id."""
    return post[0], post[1] is None, post[1] or ""


def post_key(posts: pd.DataFrame, row: int) -> tuple[datetime, str]:
    """Return time and id of the post in a row."""
    return posts["created_at"].iloc[row].to_pydatetime(), str(posts["post_id"].iloc[row])


def _plain(posts: pd.DataFrame) -> list[tuple[object, ...]]:
    """Return posts as `PostStore.list_after` does."""
    columns = [posts["post_id"].tolist(), [time.to_pydatetime() for time in posts["created_at"]]]
    if "content" in posts:
        columns.append([text if isinstance(text, str) else None for text in posts["content"]])
    return list(zip(*columns, strict=True))
