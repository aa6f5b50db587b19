"""The streams of posts that a benchmark is run on: the synthetic sample, and each CSV of a folder."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from retrainer.errors import RetrainerError
from retrainer.posts.importer import read_posts_file
from retrainer.posts.sample import sample_posts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pandas as pd


def streams(
    folder: Path, prepared: Callable[[pd.DataFrame], pd.DataFrame], fewest: int, what: str
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each stream's name and its posts, prepared; say which are left out.

    Args:
        folder: of the CSV files; where it is not there, only the sample is measured.
        prepared: returns the posts that count.
        fewest: a stream with fewer of them measures nothing.
        what: they are called.
    """
    yield "(synthetic sample)", prepared(sample_posts())
    if not folder.is_dir():
        print(f"There is no folder '{folder}': only the synthetic sample is measured")
        return
    for path in sorted(folder.glob("*.csv")):
        try:
            posts = prepared(read_posts_file(path, columns={}, now=datetime.now(tz=UTC)).posts)
        except RetrainerError as error:
            print(f"'{path.name}' is left out: {error}")
            continue
        if len(posts) < fewest:
            print(f"'{path.name}' is left out: {len(posts) or 'no'} {what}")
            continue
        yield path.stem, posts
