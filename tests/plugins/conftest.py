"""Fixtures of the plugin tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from retrainer.algorithms.manager import load_algorithm
from retrainer.posts.sample import sample_posts, write_sample_csv
from tests.command_line import environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
    from tests.claude_server import ClaudeServer
    from tests.command_line import Runner


@pytest.fixture
def server(claude_server: ClaudeServer) -> Iterator[ClaudeServer]:
    """A stand-in for the Claude API, which the SDK of this process calls."""
    with environment(claude_server.environ):
        yield claude_server


@pytest.fixture(scope="session")
def claude() -> LoadedAlgorithm:
    """The algorithm `claude_api`."""
    return load_algorithm("claude_api", "content")


@pytest.fixture
def posts(folder: Path, retrainer: Runner) -> None:
    """A project with the sample posts."""
    write_sample_csv(folder / "posts.csv", sample_posts())
    assert retrainer("posts", "import", "posts.csv").code == 0
