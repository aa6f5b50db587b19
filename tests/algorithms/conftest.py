"""Fixtures of the tests of algorithms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import import_regular_posts

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Prepare


@pytest.fixture
def with_posts(folder: Path, prepare: Prepare) -> None:
    prepare(folder, import_regular_posts)
