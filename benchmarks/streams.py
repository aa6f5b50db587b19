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
    from collections.abc import Callable, Iterable, Iterator

    import pandas as pd

    Prepare = Callable[[pd.DataFrame], pd.DataFrame]
    Measure = Callable[[str, pd.DataFrame], dict[str, Any]]

SAMPLE = "(synthetic sample)"


def argument_parser(description: str | None, json_file: str) -> argparse.ArgumentParser:
    """Return a parser of the arguments that benchmarks of streams share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="a folder of CSV files")
    parser.add_argument("--json", type=Path, default=Path(json_file), help="the file for all results")
    return parser


def measure_streams(streams: Iterable[tuple[str, pd.DataFrame]], measure: Measure) -> list[dict[str, Any]]:
    """Return the result of each stream, by name and posts, showing the progress on a terminal."""
    loaded = list(streams)
    console = Console(stderr=True)
    shown = track(loaded, "Streams", console=console, transient=True, disable=not console.is_terminal)
    return [measure(name, posts) for name, posts in shown]


def load_streams(folder: Path, prepare: Prepare, *, min_posts: int, unit: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the name and the posts of each stream, the sample first.

    Args:
        folder: the folder of CSV files; if it is missing, there is only the sample.
        prepare: returns the posts to use.
        min_posts: streams with fewer posts are skipped.
        unit: what the posts are called in the message about a skipped stream.
    """
    yield SAMPLE, prepare(sample_posts())
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
