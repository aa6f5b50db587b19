"""The registry tests run on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import version_folder

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.project import Project


@pytest.fixture
def folder(folder_on_each_database: Path) -> Path:
    """A project folder on each database."""
    return folder_on_each_database


def foreign_version(project: Project, version_id: str) -> Path:
    """Copy a version to another id, like a complete version of another database; return its folder."""
    folder = project.models_dir / "timing" / "baseline_timing_20200101_000000_0000"
    shutil.copytree(version_folder(project, "timing", version_id), folder)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace(version_id, folder.name))
    return folder


def leave_a_dead_run(project: Project) -> None:
    """Start a run in a process that ends without closing it."""
    script = (
        "from pathlib import Path; from retrainer.project import Project; from datetime import datetime, UTC;"
        f"p = Project.find(Path({str(project.folder)!r}), {{}});"
        "p.registry.start_run('timing', 'baseline', datetime.now(UTC), None)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
