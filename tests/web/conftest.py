"""Projects with everything that pages show, and a browser that looks at them."""

from __future__ import annotations

import shutil
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import time_machine
from filelock import FileLock

from docs.sample_project import NOW, SETTINGS, make_project
from retrainer.pipeline.run import retrain
from retrainer.project import Project, create_project
from tests.api.conftest import TOKEN, thread_server
from tests.conftest import regular_posts, runtime_of
from tests.web.browser import chromium
from tests.web.hostile import MARKUP, STREAMS, hostile_posts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

    from tests.api.conftest import Server

PROTECTED = {"RETRAINER_API_TOKEN": TOKEN}


@dataclass(frozen=True)
class Templates:
    """Folders of projects to copy: one stream with everything, and several streams with hostile names."""

    everything: Path
    streams: Path


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Templates:
    """Make the projects, once for all processes of the tests."""
    root = tmp_path_factory.getbasetemp()
    root = (root if worker_id == "master" else root.parent) / "pages"
    root.mkdir(exist_ok=True)
    made = Templates(root / "everything", root / "streams")
    with FileLock(root / "lock"):
        if not (root / "complete").exists():
            make_project(made.everything, hostile_posts(NOW - timedelta(minutes=30)))
            _make_streams(made.streams)
            (root / "complete").touch()
    return made


def _make_streams(folder: Path) -> None:
    create_project(folder)
    baseline = {**SETTINGS, "RETRAINER_TIMING_MODEL__ALGORITHM": "baseline"}
    with closing(Project.find(folder, baseline)) as project, time_machine.travel(NOW, tick=False):
        for name in STREAMS:
            posts = regular_posts(60, start=NOW - timedelta(hours=301))
            posts["post_id"] = name + posts["post_id"]
            one = project.for_stream(name)
            one.posts.add(posts, NOW)
            retrain(one, runtime_of(one), "timing", NOW)
            one.registry.hold("timing", MARKUP[0], NOW)


@contextmanager
def served(folder: Path, *, token: bool = True) -> Iterator[Server]:
    """Serve a project as of the time that it was made for."""
    with (
        time_machine.travel(NOW),
        thread_server(folder, env={**SETTINGS, **(PROTECTED if token else {})}) as server,
    ):
        yield server


@pytest.fixture
def everything(templates: Templates, tmp_path: Path) -> Path:
    """A project with everything, of this test alone."""
    return shutil.copytree(templates.everything, tmp_path / "everything", symlinks=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for the tests of a module. While it is open, the module's tests cannot run an event loop."""
    with chromium() as started:
        yield started
