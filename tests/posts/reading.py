"""Read a file of posts as an import does, without a database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from retrainer.config import PostsLimits, PostsSettings
from retrainer.posts.conversion import ConversionOptions, FileResult
from retrainer.posts.importer import ImportOptions, stage_files
from retrainer.posts.readers import ReadOptions
from retrainer.posts.staging import COUNT_COLUMNS, Changes, open_staging

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from retrainer.posts.records import RejectedRow


@dataclass(frozen=True)
class PostsFile:
    """The content of one file.

    Attributes:
        posts: the accepted posts in the order of the file: post_id (str), created_at (datetime64[us, UTC]), content
            (object: str, or None if missing), and replies_count, reblogs_count, favourites_count (Int64, may be
            missing).
        result: what was found out about it.
        changes: the rows whose id came before with other values.
        repeated: the number of rows dropped because they repeat an earlier one.
    """

    posts: pd.DataFrame
    result: FileResult
    changes: Changes
    repeated: int

    @property
    def mapping(self) -> dict[str, str]:
        return self.result.mapping

    @property
    def rejected(self) -> list[RejectedRow]:
        return self.result.rejected

    @property
    def rows(self) -> int:
        return self.result.rows


def read_posts_file(
    path: Path,
    *,
    now: datetime,
    columns: Mapping[str, str] | None = None,
    limits: PostsLimits | None = None,
    reading: ReadOptions | None = None,
    time_format: str | None = None,
    timezone: str | None = None,
    update: bool = False,
) -> PostsFile:
    conversion = ConversionOptions(columns or {}, time_format, timezone)
    options = ImportOptions(reading or ReadOptions(), conversion)
    settings = PostsSettings(limits=limits or PostsLimits())
    with open_staging(update=update) as staging:
        [result] = stage_files(staging, [path], options, settings, now)
        rows = [post[3:] for batch in staging.batches() for post in batch]
        return PostsFile(_table(rows), result, staging.changes, staging.repeated)


def _table(rows: Sequence[tuple[object, ...]]) -> pd.DataFrame:
    ids, times, texts, *counts = zip(*rows, strict=True) if rows else ([],) * 6
    return pd.DataFrame(
        {
            "post_id": pd.Series(list(ids), dtype="str"),
            "created_at": pd.Series(list(times), dtype="int64").astype("datetime64[us]").dt.tz_localize("UTC"),
            "content": pd.Series(list(texts), dtype=object),
            **{name: pd.array(list(values), dtype="Int64") for name, values in zip(COUNT_COLUMNS, counts, strict=True)},
        }
    )
