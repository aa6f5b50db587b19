"""The commands that back up a project and restore it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from retrainer import backup as backups
from retrainer import console
from retrainer.cli.context import open_project
from retrainer.cli.options import AsJson
from retrainer.posts.validation import number
from retrainer.render import documents

app = typer.Typer(rich_markup_mode=None)

BackupFile = Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="The backup.")]


@app.command()
def backup(context: typer.Context, file: BackupFile, *, as_json: AsJson = False) -> None:
    """Write a backup of the project to one file.

    It holds the database as of one moment, even while runs are in progress, with the posts if retrainer stores
    them, all model files, and the settings without passwords.

    Example: retrainer backup retrainer-2025-11-06.backup
    """
    with open_project(context) as (project, _):
        made = backups.back_up(project, file, datetime.now(UTC))
    _show("Backed up", made, as_json=as_json)


@app.command("restore-backup")
def restore_backup(
    context: typer.Context,
    file: BackupFile,
    *,
    replace: Annotated[bool, typer.Option("--replace", help="Replace what the database holds.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation of --replace.")] = False,
    as_json: AsJson = False,
) -> None:
    """Restore a backup to the database and the models folder.

    The database must be empty, unless --replace is given. Posts in it, and files in the models folder, are kept.
    SQLite and PostgreSQL can be restored to each other.

    Example: retrainer restore-backup retrainer-2025-11-06.backup
    """
    question = "Replace all versions, runs and decisions in the database with those of the backup?"
    if replace and not yes and not console.confirmed(question, hint="Add --yes"):
        return
    with open_project(context) as (project, _):
        restored = backups.restore_backup(project, file, replace=replace)
    _show("Restored", restored, as_json=as_json)


def _show(verb: str, result: backups.Backup, *, as_json: bool) -> None:
    foreign = "no posts: they are in a table that retrainer only reads"
    posts = foreign if result.posts is None else number(result.posts, "post")
    message = f"{verb} {number(result.versions, 'version')}, {number(result.runs, 'run')} and {posts} ({result.file})"
    console.result(documents.project.BackupDocument.model_validate(result), message, as_json=as_json)
