"""The commands that move a version from one project to another."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from retrainer import console, transfer
from retrainer import project as projects
from retrainer.cli.context import has_several_streams, open_project
from retrainer.cli.options import AsJson, VersionArgument, VersionStreamOption, stream_option
from retrainer.posts.validation import shorten
from retrainer.render import documents

app = typer.Typer(rich_markup_mode=None)


@app.command("export")
def export_version(
    context: typer.Context,
    version: VersionArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="The file to write, such as model.zip.")],
    *,
    stream: VersionStreamOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a version to one file, which `retrainer import` reads.

    It holds the model, its scores and the decisions about it, and therefore some of the posts.

    Example: retrainer export timing@production model.zip
    """
    projects.require_foreign("FILE", file, context.obj)
    with open_project(context) as (opened, _):
        project, found = opened.find_version(version, stream)
        transfer.export_version(project, found, file, datetime.now(UTC), force=force)
    message = f"Exported {found.version_id} to '{file}'"
    document = documents.exports.TransferDocument.from_version(found, file, message, changed=True)
    console.result(document, message, as_json=as_json)


@app.command("import")
def import_version(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="The file of an exported version.")],
    *,
    stream: Annotated[
        str | None, stream_option("The stream to add it to. By default, the one it was exported from.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add a version that `retrainer export` wrote.

    The version is not in production yet: compare it with the production version, then promote it. To import posts,
    use `retrainer posts import`.

    Example: retrainer import model.zip
    """
    with open_project(context) as (project, runtime):
        found, is_new = transfer.import_version(project, runtime, file, datetime.now(UTC), stream=stream)
        several = has_several_streams(project)
    where = f" into the stream '{shorten(found.stream)}'" if several else ""
    message = f"Imported {found.version_id}{where}" if is_new else f"{found.version_id} is already in this project"
    hints = [f"Try it: retrainer evaluate {found.version_id}"] if is_new else []
    document = documents.exports.TransferDocument.from_version(found, file, message, changed=is_new)
    console.result(document, message, *hints, as_json=as_json)
