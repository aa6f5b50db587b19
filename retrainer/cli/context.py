"""The project that a command works on."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from retrainer import console
from retrainer.notify import observing
from retrainer.pipeline.recovery import recover
from retrainer.project import Project

if TYPE_CHECKING:
    from collections.abc import Iterator

    import typer

    from retrainer.notify import Attempt


@contextmanager
def open_project(
    context: typer.Context, *, recovering: bool = True, attempt: Attempt | None = None
) -> Iterator[Project]:
    """Find the project, clean up after dead processes, and close its connections at the end.

    Args:
        recovering: whether to clean up.
        attempt: a call of `train`, whose start and end are notified.
    """
    project = Project.find(Path.cwd(), os.environ, context.obj)
    try:
        with console.working(), observing(project, os.environ, attempt):
            if recovering:
                recover(project)
            yield project
    finally:
        project.close()
