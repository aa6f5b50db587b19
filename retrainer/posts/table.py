"""Our table of posts: what it says about all streams at once, each by a few queries."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import pandas as pd
import sqlalchemy as sa

from retrainer.posts.freshness import MAX_GAPS, measure_freshness
from retrainer.posts.merging import has_posts
from retrainer.posts.validation import shorten
from retrainer.registry.database import location
from retrainer.registry.queries import distinct_values, list_distinct
from retrainer.registry.tables import Post
from retrainer.streams import DEFAULT_STREAM

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from retrainer.posts.freshness import Freshness
    from retrainer.registry.database import Database

_MAX_NAMES = 1_000  # of streams in one query; databases limit the number of its parameters


@dataclass(frozen=True)
class PostsSpan:
    """The number of posts of a stream, and the first and last time (UTC)."""

    count: int
    first: datetime
    last: datetime


class PostsTable:
    """The posts of all streams.

    Attributes:
        engine: of the database that holds the table.
    """

    def __init__(self, name: str, database: Database) -> None:
        self.engine = database.engine
        self._name = name
        self._database = database

    def location_of(self, stream: str) -> str:
        """Return where the posts of a stream are, for messages."""
        table = f"the table '{self._name}' of {location(self.engine)}"
        return table if stream == DEFAULT_STREAM else f"the stream '{shorten(stream)}' of {table}"

    def list_streams(self) -> list[str]:
        with self._database.read() as session:
            return list_distinct(session, Post.stream)

    def has_stream(self, name: str) -> bool:
        with self._database.read() as session:
            return "\0" not in name and has_posts(session.connection(), name)

    def spans(self, until: datetime) -> dict[str, PostsSpan]:
        """Count the posts of the streams up to a time, by their index alone; streams without posts are left out."""
        numbers = (sa.func.count(), sa.func.min(Post.created_at), sa.func.max(Post.created_at))
        query = sa.select(Post.stream, *numbers).where(Post.created_at <= until).group_by(Post.stream)
        with self._database.read() as session:
            return {row[0]: PostsSpan(*row[1:]) for row in session.execute(query)}

    def newest_times(self, until: datetime) -> dict[str, datetime]:
        """Return when the newest post of each stream up to a time was created, by a few looks at an index for each."""
        streams = distinct_values(Post.stream)
        of_stream = (Post.stream == streams.c.value) & (Post.created_at <= until)
        newest = sa.select(sa.func.max(Post.created_at)).where(of_stream).scalar_subquery()
        with self._database.read() as session:
            rows = session.execute(sa.select(streams.c.value, newest).where(streams.c.value.is_not(None)))
            return {name: time for name, time in rows if time is not None}

    def list_freshness(self, streams: Collection[str], now: datetime) -> dict[str, Freshness]:
        """Measure the freshness of streams; those without posts are left out."""
        names = sorted(streams)
        found: dict[str, Freshness] = {}
        for start in range(0, len(names), _MAX_NAMES):
            part = names[start : start + _MAX_NAMES]
            place = sa.func.row_number().over(partition_by=Post.stream, order_by=Post.created_at.desc())
            posts = sa.select(Post.stream, Post.created_at, place.label("place"))
            latest = posts.where(Post.stream.in_(part), Post.created_at <= now).subquery()
            # Hundreds for each stream: as the driver returns them, and pandas converts them all at once.
            created_at = sa.type_coerce(latest.c.created_at, sa.DateTime(timezone=True))
            query = sa.select(latest.c.stream, created_at).where(latest.c.place <= MAX_GAPS + 1)
            query = query.order_by(latest.c.stream, latest.c.created_at).execution_options(yield_per=MAX_GAPS)
            with self._database.snapshot() as connection:  # a transaction, which reading in parts needs
                for name, rows in groupby(connection.execute(query), key=itemgetter(0)):
                    times = pd.Series([row[1] for row in rows], dtype="datetime64[us, UTC]")
                    freshness = measure_freshness(times, now)
                    if freshness is not None:
                        found[name] = freshness
        return found
