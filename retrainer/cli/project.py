"""The commands that look after a project: backup, restore-backup, db, doctor, notify-test."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from retrainer import console
from retrainer.backup import Backup, back_up
from retrainer.backup import restore_backup as restore
from retrainer.cli.context import open_project
from retrainer.cli.options import AsJson
from retrainer.doctor import examine
from retrainer.notify.notifier import Notifier
from retrainer.registry.migrations import HEAD
from retrainer.render import documents, tables

app = typer.Typer(rich_markup_mode=None)
db_app = typer.Typer(rich_markup_mode=None, help="Manage the database.")
app.add_typer(db_app, name="db")

BackupFile = Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="The backup.")]


@db_app.command("upgrade")
def db_upgrade(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Upgrade the database to the newest schema.

    Every command does so on first use.

    Example: retrainer db upgrade
    """
    with open_project(context) as (project, _):
        location = project.registry.database.location  # opening it upgrades it
    message = f"The database {location} has the newest schema, {HEAD}"
    console.result({"database": location.strip("'"), "revision": HEAD}, message, as_json=as_json)


@app.command()
def doctor(
    context: typer.Context,
    *,
    repair: Annotated[bool, typer.Option("--repair", help="Also repair what can be repaired.")] = False,
    as_json: AsJson = False,
) -> int:
    """Check every run, version, file and link.

    Exits with 1 if a problem was found and not repaired.

    Example: retrainer doctor --repair
    """
    with open_project(context, recovering=False) as (project, _):
        findings = examine(project, repair=repair)
    if as_json:
        console.document(documents.project.FindingsDocument.from_findings(findings))
    else:
        tables.show_findings(findings)
    return 0 if all(finding.repaired for finding in findings) else 1


@app.command()
def backup(context: typer.Context, file: BackupFile, *, as_json: AsJson = False) -> None:
    """Write a backup of the project to one file.

    It holds the database as it is at one moment, also while runs are in progress, with the posts if retrainer stores
    them, all model files, and the settings without passwords.

    Example: retrainer backup retrainer-2025-11-06.backup
    """
    with open_project(context, recovering=False) as (project, _):
        made = back_up(project, file, datetime.now(UTC))
    _show_backup("Backed up", made, as_json=as_json)


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
    question = "Replace all versions, runs and decisions in the database by those of the backup?"
    if replace and not yes and not console.confirmed(question, hint="Add --yes"):
        return
    with open_project(context, recovering=False) as (project, _):
        restored = restore(project, file, replace=replace)
    _show_backup("Restored", restored, as_json=as_json)


def _show_backup(verb: str, result: Backup, *, as_json: bool) -> None:
    posts = (
        "no posts: they are in a table that retrainer only reads" if result.posts is None else f"{result.posts} posts"
    )
    message = f"{verb} {result.versions} versions, {result.runs} runs and {posts} ({result.file})"
    console.result(documents.project.BackupDocument.model_validate(result), message, as_json=as_json)


@app.command("notify-test")
def notify_test(context: typer.Context, *, as_json: AsJson = False) -> int:
    """Send a test message to every notification channel.

    Exits with 1 if one of them fails.

    Example: retrainer notify-test
    """
    with open_project(context, recovering=False) as (project, _):
        results = Notifier(project.settings.notifications, os.environ, project.folder.name).test()
    lines = [f"{name}: {problem or 'sent'}" for name, problem in results.items()]
    rows = [{"to": name, "problem": problem} for name, problem in results.items()]
    message = "\n".join(lines) or "No notification channels configured"
    console.result({"notifications": rows}, message, as_json=as_json)
    return int(any(results.values()))
