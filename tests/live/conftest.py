"""The tests of live scores run on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.live.paid import claude, complete, paid
from tests.live.updating import content_project, live_folder, live_project

__all__ = ["claude", "complete", "content_project", "live_folder", "live_project", "paid"]

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(folder_on_each_database: Path) -> Path:
    """A project folder on each database."""
    return folder_on_each_database
