"""Measure the overview page with 10 and with 10,000 versions, and a million posts, on SQLite.

    make bench-pages
    make bench-pages POSTS=20000

A server in a process of its own answers one kept connection. `unchanged` is a page that the server has already made;
before each `changed` one, something in the database changes, so the page is rebuilt, with the forecast of the
last post kept; before `new post`, a post arrives, so the forecast is recomputed too. `first` is the first request
of a server. Milliseconds between the request and the end of the answer; medians, and the slowest in parentheses.
"""

from __future__ import annotations

import argparse
import http.client
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmarks.api import ALGORITHM, started
from benchmarks.registry import RUNTIME, SIZES, add_old_versions
from benchmarks.revisions import ROOT
from retrainer.pipeline.run import retrain
from retrainer.posts.staging import COUNT_COLUMNS
from retrainer.project import Project, create_project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OVERVIEW = "/overview"
OTHERS = ("/versions", "/runs", "/posts", "/live")
UNCHANGED, CHANGED, CHANGED_OTHERS, NEW_POSTS, STARTS = 200, 60, 15, 10, 3  # requests
POSTS_A_DAY = 30
MAX_RATIO, MAX_MS = 1.2, 300.0


def main() -> None:
    """Print the times of both projects, and exit with 1 if the page is too slow or slows down with the versions."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--posts", type=int, default=1_000_000)
    count = parser.parse_args().posts
    with tempfile.TemporaryDirectory() as name:
        folders = {size: Path(name) / str(size) for size in SIZES}
        few, many = (folders[size] for size in SIZES)
        prepare(few, count)
        shutil.copytree(few, many, symlinks=True)
        for size, folder in folders.items():
            with closing(Project.find(folder, ALGORITHM)) as project:
                add_old_versions(project, size - 1)
        print(f"{count:,} posts, ms of an overview: the median (the slowest)")
        print("".join(f"{column:>22}" for column in ("", *(f"{size:,} versions" for size in SIZES), "ratio")))
        failed = False
        for what, times in measure(folders).items():
            medians = [statistics.median(times[size]) for size in SIZES]
            ratio = medians[1] / medians[0]
            cells = [f"{statistics.median(times[size]):.1f} ({max(times[size]):.1f})" for size in SIZES]
            print(f"{what:>22}" + "".join(f"{cell:>22}" for cell in cells) + f"{ratio:>22.2f}", flush=True)
            failed |= what in {"unchanged", "changed"} and (ratio > MAX_RATIO or max(medians) > MAX_MS)
    sys.exit(failed)


def prepare(folder: Path, count: int) -> None:
    """Make a project with this many posts, up to now, and a version of `prophet` in production."""
    create_project(folder)
    now = datetime.now(UTC).replace(microsecond=0)
    rng = np.random.default_rng(20240601)
    hours = np.sort(rng.random(count)) * count / POSTS_A_DAY * 24
    times = pd.DatetimeIndex(pd.Timestamp(now) + pd.to_timedelta(hours - hours[-1] - 1, unit="h")).as_unit("us")
    with closing(Project.find(folder, ALGORITHM)) as project:
        project.posts.add(posts_at(times, "post"), now)
        retrain(project, RUNTIME, "timing", now)


def posts_at(times: pd.DatetimeIndex, name: str) -> pd.DataFrame:
    """Return posts at these times."""
    ids = [f"{name}{row:08d}" for row in range(len(times))]
    posts = pd.DataFrame({"post_id": ids, "created_at": times.floor("s"), "content": "a post about the garden"})
    posts[list(COUNT_COLUMNS)] = pd.NA
    return posts


def measure(folders: dict[int, Path]) -> dict[str, dict[int, list[float]]]:
    """Return the times in ms, by the kind of request and the number of versions."""
    took: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(STARTS):
        for size, folder in folders.items():
            with served(folder) as get:
                took["first"][size].append(get(OVERVIEW))
    with ExitStack() as stack:
        projects = {size: Project.find(folder, ALGORITHM) for size, folder in folders.items()}
        servers = {size: stack.enter_context(served(folder)) for size, folder in folders.items()}

        def repeat(what: str, count: int, path: str, prepare: Callable[[Project, int], None]) -> None:
            """Ask both servers in turn, since the machine does other things too."""
            for number in range(count):
                for size, get in servers.items():
                    prepare(projects[size], number)
                    took[what][size].append(get(path))

        repeat("second", 1, OVERVIEW, leave)
        repeat("unchanged", UNCHANGED, OVERVIEW, leave)
        repeat("changed", CHANGED, OVERVIEW, pin_or_unpin)
        repeat("new post", NEW_POSTS, OVERVIEW, add_post)
        for path in OTHERS:
            repeat(f"changed {path}", CHANGED_OTHERS, path, pin_or_unpin)
        for project in projects.values():
            project.close()
    return took


def leave(project: Project, number: int) -> None:
    """Change nothing."""


def pin_or_unpin(project: Project, number: int) -> None:
    """Pin or unpin the production version."""
    production = project.registry.get_production("timing")
    assert production is not None  # noqa: S101  it was trained
    project.registry.pin(production.version_id, "benchmark", datetime.now(UTC), pinned=number % 2 == 0)


def add_post(project: Project, number: int) -> None:
    """Add a post of this moment."""
    now = datetime.now(UTC).replace(microsecond=0)
    project.posts.add(posts_at(pd.DatetimeIndex([now]).as_unit("us"), f"new{number}-"), now)


@contextmanager
def served(folder: Path) -> Iterator[Callable[[str], float]]:
    """Serve a project; yield what asks for a page on one kept connection and returns how many ms it took."""
    command = [sys.executable, "-m", "retrainer", "serve", "--port", "0"]
    with started(command, ROOT, folder) as (port, _):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

        def ask(path: str) -> http.client.HTTPResponse:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            return answer

        def get(path: str) -> float:
            begun = time.perf_counter()
            try:
                answer = ask(path)
            except (http.client.RemoteDisconnected, ConnectionError):  # kept idle for too long, while others worked
                connection.close()
                begun = time.perf_counter()
                answer = ask(path)
            took = time.perf_counter() - begun
            if answer.status != HTTPStatus.OK:
                raise RuntimeError(f"{path}: {answer.status}")
            return took * 1000

        yield get
        connection.close()


if __name__ == "__main__":
    main()
