"""Fixtures of the plugin tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from retrainer.algorithms.manager import LoadedAlgorithm, load_algorithm
from retrainer.posts.sample import sample_posts, write_sample_csv
from tests.claude_server import KEY, ClaudeServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.command_line import Runner


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ClaudeServer]:
    """A local server that the SDK of this process uses as the Claude API."""
    with ClaudeServer() as running:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", running.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        yield running


@pytest.fixture(scope="session")
def claude() -> LoadedAlgorithm:
    """The algorithm `claude_api`."""
    return load_algorithm("claude_api", "content")


@pytest.fixture
def posts(folder: Path, retrainer: Runner) -> None:
    """A project with the sample posts."""
    write_sample_csv(folder / "posts.csv", sample_posts())
    assert retrainer("posts", "import", "posts.csv").code == 0
