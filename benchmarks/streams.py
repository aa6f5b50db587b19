"""The streams of posts that a benchmark measures: the synthetic sample, and every CSV file of a folder."""

from __future__ import annotations

import argparse
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track

from retrainer.errors import RetrainerError
from retrainer.posts.importer import ImportOptions, import_posts
from retrainer.posts.sample import sample_posts
from retrainer.project import Project, create_project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd

    Prepare = Callable[[pd.DataFrame], pd.DataFrame]
    Measure = Callable[[str, pd.DataFrame], dict[str, Any]]


def argument_parser(description: str | None, json_file: str) -> argparse.ArgumentParser:
    """Return a parser of the arguments that benchmarks of streams share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="a folder of CSV files")
    parser.add_argument("--json", type=Path, default=Path(json_file), help="the file for all results")
    return parser


def measure_streams(
    folder: Path, measure: Measure, prepare: Prepare, *, min_posts: int, unit: str
) -> list[dict[str, Any]]:
    """Return the result of each stream, the sample first, showing the progress on a terminal.

    Args:
        folder: the folder of CSV files; if it is missing, only the sample is measured.
        measure: returns the result for the name and the prepared posts of a stream.
        prepare: returns the posts to use.
        min_posts: streams with fewer posts are skipped.
        unit: what the posts are called in the message about a skipped stream.
    """
    streams = list(_load_streams(folder, prepare, min_posts, unit))
    console = Console(stderr=True)
    shown = track(streams, "Streams", console=console, transient=True, disable=not console.is_terminal)
    return [measure(name, posts) for name, posts in shown]


def _load_streams(folder: Path, prepare: Prepare, min_posts: int, unit: str) -> Iterator[tuple[str, pd.DataFrame]]:
    yield "(synthetic sample)", prepare(sample_posts())
    if not folder.is_dir():
        print(f"No folder '{folder}': measuring the synthetic sample only")
    for path in sorted(folder.glob("*.csv")):
        try:
            posts = prepare(_read(path))
        except RetrainerError as error:
            print(f"Skipped '{path.name}': {error}")
            continue
        if len(posts) < min_posts:
            print(f"Skipped '{path.name}': {len(posts) or 'no'} {unit}")
            continue
        yield path.stem, posts


def _read(path: Path) -> pd.DataFrame:
    """Return the posts of a file, imported into a temporary project."""
    now = datetime.now(tz=UTC)
    with TemporaryDirectory() as folder:
        create_project(Path(folder))
        with closing(Project.find(Path(folder), {})) as project:
            import_posts(project.posts, [path], ImportOptions(), now)
            return project.posts.load(now)
