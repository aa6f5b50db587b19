"""The streams of posts that benchmarks run on: the synthetic sample and each CSV file of a folder."""

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
    folder: Path, prepare: Callable[[pd.DataFrame], pd.DataFrame], min_posts: int, noun: str
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the name and the prepared posts of each stream; print which are skipped.

    Args:
        folder: of the CSV files; if it is missing, only the sample is measured.
        prepare: selects the posts to measure.
        min_posts: a stream with fewer posts is skipped.
        noun: what these posts are called.
    """
    yield "(synthetic sample)", prepare(sample_posts())
    if not folder.is_dir():
        print(f"No folder '{folder}': measuring only the synthetic sample")
        return
    for path in sorted(folder.glob("*.csv")):
        try:
            posts = prepare(read_posts_file(path, columns={}, now=datetime.now(tz=UTC)).posts)
        except RetrainerError as error:
            print(f"'{path.name}' skipped: {error}")
            continue
        if len(posts) < min_posts:
            print(f"'{path.name}' skipped: {len(posts) or 'no'} {noun}")
            continue
        yield path.stem, posts
