"""The project that a command works on."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import retrainer
from retrainer import console, notify
from retrainer.pipeline import recovery

if TYPE_CHECKING:
    from collections.abc import Iterator

    import typer

    from retrainer import Project
    from retrainer.runtime import Runtime


@contextmanager
def open_stream(context: typer.Context, stream: str | None) -> Iterator[tuple[Project, Runtime]]:
    """Open the project, seen from a stream; None for the only one. See `open_project`.

    Raises:
        UnknownName: there is no such stream.
        UsageError: there are several, and none is chosen.
    """
    with open_project(context) as (project, runtime):
        yield project.choose_stream(stream), runtime


def has_several_streams(project: Project) -> bool:
    """Whether the project has several streams; with one, nothing mentions streams."""
    return len(project.list_streams()) > 1


@contextmanager
def open_project(
    context: typer.Context, *, train_call: notify.TrainCall | None = None
) -> Iterator[tuple[Project, Runtime]]:
    """Find the project and create its runtime; close its connections at the end.

    Args:
        train_call: a call of `train`, for the healthcheck; it first cleans up after runs whose process died. No other
            command does, so that what only looks never has to write.
    """
    project = retrainer.Project.find(Path.cwd(), os.environ, context.obj)
    try:
        with console.working(), notify.open_runtime(project, os.environ, train_call) as runtime:
            if train_call is not None:
                recovery.recover(project, runtime)
            yield project, runtime
    finally:
        project.close()
