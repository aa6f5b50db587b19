"""Projects with several streams, on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import NOW, open_project, regular_posts

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project
    from tests.conftest import Prepare

STREAMS = ["News", "news", "../x y/ü*"]


@pytest.fixture
def folder(folder_on_each_database: Path) -> Path:
    """A project folder on each database."""
    return folder_on_each_database


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
