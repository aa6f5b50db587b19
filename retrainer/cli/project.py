"""The commands that look after a project: db, doctor, notify-test."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from retrainer import console
from retrainer.cli.context import open_project
from retrainer.cli.options import AsJson
from retrainer.doctor import examine
from retrainer.notify.notifier import Notifier
from retrainer.registry.migrations import HEAD
from retrainer.render import documents, tables

app = typer.Typer(rich_markup_mode=None)
db_app = typer.Typer(rich_markup_mode=None, help="Manage the database.")
app.add_typer(db_app, name="db")


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
