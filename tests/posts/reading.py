"""Read a file of posts as an import does, without a database."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pandas as pd

from retrainer.config import PostsLimits, PostsSettings
from retrainer.errors import PostsError
from retrainer.posts.conversion import ConversionOptions, FileResult
from retrainer.posts.importer import ImportOptions, stage_files
from retrainer.posts.readers import ReadOptions
from retrainer.posts.staging import COUNT_COLUMNS, Changes, open_staging

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from retrainer.posts.records import RejectedRow

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)


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
    columns: Mapping[str, str],
    limits: PostsLimits | None = None,
) -> PostsFile:
    options = ImportOptions(ReadOptions(), ConversionOptions(columns))
    settings = PostsSettings(limits=limits or PostsLimits())
    with open_staging(update=False) as staging:
        [result] = stage_files(staging, [path], options, settings, now)
        rows = [post[3:] for batch in staging.batches() for post in batch]
        return PostsFile(_table(rows), result, staging.changes, staging.repeated)


def read(path: Path, columns: Mapping[str, str] | None = None) -> PostsFile:
    return read_posts_file(path, columns=columns or {}, now=NOW)


def read_bytes(folder: Path, name: str, content: bytes | str) -> PostsFile:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read(path)


def error_of(folder: Path, name: str, content: bytes | str) -> str:
    import pytest  # late: a process whose memory is measured imports this module

    with pytest.raises(PostsError) as caught:
        read_bytes(folder, name, content)
    assert "\n" not in str(caught.value)
    return caught.value.message.replace(f"{folder}{os.sep}", "")


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
