"""The registry tests run on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.conftest import version_folder
from tests.store_server import s3_server
from tests.worker import Worker, release, start_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from retrainer.project import Project


@pytest.fixture
def folder(folder_on_each_database: Path) -> Path:
    """A project folder on each database."""
    return folder_on_each_database


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The endpoint of an S3 server; started once per test process."""
    with s3_server() as endpoint:
        yield endpoint


def foreign_version(project: Project, version_id: str) -> Path:
    """Copy a version to another id, like a complete version of another database; return its folder."""
    folder = project.models_dir / "timing" / "baseline_timing_20200101_000000_0000"
    shutil.copytree(version_folder(project, "timing", version_id), folder)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace(version_id, folder.name))
    return folder


def leave_a_dead_run(project: Project) -> None:
    """Start a run in a process that ends without closing it."""
    worker = Worker.start(project.folder.parent, start_run, project.folder)
    release([worker])
    assert worker.finish() == 0, worker.err
