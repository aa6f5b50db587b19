"""A project with a source that a local server publishes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import configure, open_project
from tests.posts.sources.servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.posts.sources.servers import SourceServer


@pytest.fixture(
    params=["mastodon", *(pytest.param(kind, marks=pytest.mark.slow) for kind in SERVERS if kind != "mastodon")]
)
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[SourceServer]:
    """A server of each kind with 12 posts on three pages, which the project has as its source `ada`."""
    with SERVERS[request.param]() as server:
        server.publish(12)
        add_source(folder, "ada", server.settings())
        yield server


def add_source(folder: Path, name: str, settings: dict[str, Any] | None) -> None:
    """Make this the only source of a project."""
    configure(folder, sources=json.dumps({name: settings}))


def stored_texts(folder: Path, stream: str = "default") -> list[str]:
    """Return the texts of the stored posts in the order of their times."""
    from datetime import UTC, datetime

    project = open_project(folder)
    posts = project.posts.for_stream(stream).load(datetime.now(UTC))
    project.close()
    return [str(text) for text in posts["content"]]
