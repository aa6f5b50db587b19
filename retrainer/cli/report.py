"""The command that writes a report, and the report of `train`."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrainer import console
from retrainer import project as projects
from retrainer.cli.completion import complete_versions
from retrainer.cli.context import open_project
from retrainer.cli.options import StreamOption, TypeOption
from retrainer.errors import RetrainerError, UsageError
from retrainer.files import is_possible_output, write_output
from retrainer.web import report as reports

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.runtime import Runtime

DEFAULT_FILE = Path("report.html")

log = logging.getLogger(__name__)
app = typer.Typer(rich_markup_mode=None)


@app.command()
def report(
    context: typer.Context,
    *,
    model_type: TypeOption = None,
    version: Annotated[
        str | None,
        typer.Option(
            "--version",
            metavar="VERSION",
            autocompletion=complete_versions,
            help="The version to describe. By default, those in production.",
        ),
    ] = None,
    stream: StreamOption = None,
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="The file to write.")] = DEFAULT_FILE,
) -> None:
    """Write the pages of `serve` as one HTML file.

    The file is self-contained. It shows recorded results; no post is scored and no paid forecast made.

    Example: retrainer report --type timing --output report.html
    """
    require_output("--output", output, context.obj)
    with open_project(context) as (project, runtime):
        now = datetime.now(UTC)
        made = reports.report_project(project, runtime, now, model_type=model_type, version=version, stream=stream)
    try:
        write_output(output, made)
    except OSError as error:
        raise RetrainerError(f"cannot write '{output}': {error.strerror}", hint="Choose another file") from error
    console.text(f"Wrote {output}")


def require_output(option: str, path: Path, config: Path | None) -> None:
    """Check before any work that a report can be written to a file.

    Raises:
        UsageError: the folder does not exist, it is one of the project's own files, or no regular file.
    """
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{option}: folder '{path.parent}' does not exist", hint="Create it, or choose another")
    if not is_possible_output(path):
        raise UsageError(f"{option}: cannot write '{path}'", hint="Choose another file")
    projects.require_foreign(option, path, config)


def write_report_of_train(
    project: Project, runtime: Runtime, model_types: Sequence[ModelTypeName], path: Path | None
) -> None:
    """Write the report of `train`, if one is wanted; its runs are recorded, so that a failure is a warning."""
    if path is None:
        return
    try:
        made = reports.make_report(project, runtime, datetime.now(UTC), model_types)
        write_output(path, made)
    except Exception as error:  # noqa: BLE001  a report must not fail a run
        log.warning("Cannot write the report to '%s': %s", path, getattr(error, "strerror", None) or error)
    else:
        log.info("Wrote the report to '%s'", path)
