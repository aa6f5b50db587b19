"""Projects with several streams, on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from retrainer.fleet import worker
from tests.conftest import NOW, open_project, regular_posts

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from retrainer.fleet.units import Outcome, Unit, WorkerSpec
    from retrainer.project import Project
    from tests.conftest import Prepare

STREAMS = ["News", "news", "../x y/ü*"]


@pytest.fixture
def folder(folder_on_each_database: Path) -> Path:
    """A project folder on each database."""
    return folder_on_each_database


class ThisProcess:
    """A backend that runs units in this process."""

    def __init__(self) -> None:
        self.units: list[Unit] = []

    def run(
        self, spec: WorkerSpec, next_unit: Callable[[], Unit | None], is_stopping: Callable[[], bool]
    ) -> Generator[tuple[Unit, Outcome], None, None]:
        del is_stopping
        while (unit := next_unit()) is not None:
            self.units.append(unit)
            yield unit, worker.run_unit(spec, unit)


@pytest.fixture
def _no_worker_keeps_the_project() -> Iterator[None]:
    yield
    worker.close_project()


def add_streams(folder: Path, names: list[str]) -> None:
    """Store 70 posts in each of some streams."""
    project = open_project(folder)
    for name in names:
        project.posts.for_stream(name).add(regular_posts(70), NOW)
    project.close()


def _add_three_streams(folder: Path) -> None:
    add_streams(folder, STREAMS)


@pytest.fixture
def streams(folder: Path, prepare: Prepare) -> list[str]:
    """A project with three streams of posts; their names, sorted."""
    prepare(folder, _add_three_streams)
    return sorted(STREAMS)


@pytest.fixture
def project(folder: Path, streams: list[str]) -> Project:
    """The project, opened in this process."""
    return open_project(folder)
