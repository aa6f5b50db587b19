"""The pipeline tests run on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(folder_on_each_database: Path) -> Path:
    """A project folder on SQLite, then one on PostgreSQL."""
    return folder_on_each_database
