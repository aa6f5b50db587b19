"""The project that a command works on."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import retrainer
from retrainer import console, notify
from retrainer.errors import UnknownName
from retrainer.pipeline import recovery
from retrainer.posts.validation import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

    import typer

    from retrainer import Project
    from retrainer.registry.tables import ModelVersion
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


def find_version(project: Project, name: str, stream: str | None) -> tuple[Project, ModelVersion]:
    """Find a version by its name; return the project, seen from the stream of the version, and the version.

    Args:
        name: an ID or a part of one, which need no stream, or a role such as `timing@production`.
        stream: the stream that the version must be of; None for any.

    Raises:
        UnknownName: there is no such version in the stream, or no such stream.
        UsageError: there are several versions of the name, or several streams for a role.
    """
    seen = project.choose_stream(stream) if stream is not None or "@" in name else project
    version = seen.registry.find_version(name)
    require_stream(version.version_id, version.stream, stream)
    return project.for_stream(version.stream), version


def require_stream(name: str, stream: str, given: str | None) -> None:
    """Check that a version or a run is of the stream that was given, if one was.

    Raises:
        UnknownName: it is of another one.
    """
    if given not in {None, stream}:
        raise UnknownName(f"'{name}' is of the stream '{shorten(stream)}', not of '{shorten(given or '')}'")


def has_several_streams(project: Project) -> bool:
    """Whether the project has several streams; with one, nothing mentions streams."""
    return len(project.list_streams()) > 1


def short_ids_of(project: Project) -> dict[str, str]:
    """Return the short IDs that a terminal shows; none for a pipe, which gets whole ones."""
    return project.registry.short_ids() if console.is_terminal() else {}


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
