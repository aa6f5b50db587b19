"""The posts of one stream in a foreign table, which is read as a whole each time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from retrainer.errors import PostsError
from retrainer.posts.freshness import measure_activity
from retrainer.posts.store import PostsSummary, PostStore, unknown_post
from retrainer.registry.tables import Post

if TYPE_CHECKING:
    import sqlalchemy as sa

    from retrainer.posts.foreign_table import ForeignTable
    from retrainer.posts.freshness import PostsActivity


class ForeignPostStore(PostStore):
    """The posts of one stream in a table that is only read."""

    table: ForeignTable

    @property
    def is_foreign(self) -> bool:
        """Whether they are in a table that is only read."""
        return True

    def load(self, until: datetime, *, with_content: bool = True, warn: bool = True) -> pd.DataFrame:
        """Return the posts of a stream up to a time, like `PostStore.load`."""
        return self._load(["post_id", "created_at", *(["content"] if with_content else [])], until, warn=warn)

    def load_lengths(self, until: datetime) -> pd.DataFrame:
        """Return the posts with the lengths of their texts, like `PostStore.load_lengths`."""
        posts = self._load(["post_id", "created_at", "content"], until, warn=False)
        lengths = posts.pop("content").fillna("").map(str).str.strip().str.len().astype("float64")
        return posts.assign(length=lengths.where(lengths > 0))

    def load_before(self, before: tuple[datetime, str | None], limit: int, *, with_content: bool) -> pd.DataFrame:
        """Return the last posts of a stream up to a post, like `PostStore.load_before`, reading all."""
        time, post_id = before
        posts = self.load(time, with_content=with_content, warn=False)
        if post_id is not None:
            posts = posts[(posts["created_at"] < pd.Timestamp(time)) | (posts["post_id"] <= post_id)]
        return posts.tail(limit).reset_index(drop=True)

    def _select_posts(self, others: dict[str, Any], until: datetime) -> sa.Select[Any]:
        """Refuse, so `load_after` does too: the times may be texts in any form, by which no rows can be selected.

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

    def count(self, until: datetime, *, with_content: bool = False) -> int:
        """Count the posts of a stream up to a time, or only those with content; none of them is warned about."""
        if with_content:
            return self.summary(until, warn=False).with_content
        return len(self.table.load_times(self.stream, until))

    def activity(self, now: datetime) -> PostsActivity:
        """Measure how many posts of a stream there are, and how many arrive."""
        times = self.table.load_times(self.stream, now)
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
        return self.table.load(self.stream, columns, until, warn=warn)

    def _load_times(self, until: datetime, limit: int | None = None) -> pd.Series[Any]:
        del limit
        return self.table.load_times(self.stream, until)

    def _post(self, row: Any) -> Post:
        return Post(stream=self.stream, post_id=row.post_id, created_at=row.created_at, content=row.content)


def _has_text(values: pd.Series[Any]) -> pd.Series[Any]:
    return values.fillna("").map(str).str.strip().astype(bool)
