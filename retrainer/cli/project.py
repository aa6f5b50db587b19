"""The commands that create a project and look after it: init, db, status, doctor, notify-test."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from retrainer import console, doctor, streams_status
from retrainer import project as projects
from retrainer import status as states
from retrainer.cli import groups
from retrainer.cli.context import open_project
from retrainer.cli.options import AsJson, StreamsOption
from retrainer.notify import notifier
from retrainer.registry import migrations
from retrainer.render import documents, tables
from retrainer.render import status as status_text

app = typer.Typer(rich_markup_mode=None)
db_app = typer.Typer(cls=groups.SuggestingGroup, rich_markup_mode=None, help="Manage the database.")
app.add_typer(db_app, name="db")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The project folder.")] = Path(),
    *,
    deploy: Annotated[
        bool, typer.Option("--deploy", help="Also create deploy/: files for cron, systemd, Docker, Render and GitHub.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create a project folder.

    It gets config/config.yaml, data/ and models/. Existing files are left unchanged.

    Example: retrainer init my-project
    """
    made, kept = projects.create_project(folder.absolute(), deploy=deploy)
    lines = [*(f"Created {path}" for path in made), *(f"Kept {path}" for path in kept)]
    lines.append("Next, import posts in this folder: `retrainer posts import FILE`")
    document = {"folder": str(folder.absolute()), "made": list(map(str, made)), "kept": list(map(str, kept))}
    console.result(document, *lines, as_json=as_json)


@db_app.command("upgrade")
def db_upgrade(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Upgrade the database to the newest schema.

    Every command does so on first use.

    Example: retrainer db upgrade
    """
    with open_project(context) as (project, _):
        location = project.registry.database.location  # opening it upgrades it
    message = f"The database {location} has the newest schema, {migrations.HEAD}"
    console.result({"database": location.strip("'"), "revision": migrations.HEAD}, message, as_json=as_json)


@app.command("doctor")
def examine(
    context: typer.Context,
    *,
    repair: Annotated[bool, typer.Option("--repair", help="Also repair what can be repaired.")] = False,
    as_json: AsJson = False,
) -> int:
    """Check every run, version, file and link.

    It also checks that production can forecast, the models folder can be written, and the schedule runs. Exits with 1
    if a problem was found and not repaired.

    Example: retrainer doctor --repair
    """
    with open_project(context) as (project, _):
        findings = doctor.examine(project, repair=repair)
    if as_json:
        console.document(documents.project.FindingsDocument.from_findings(findings))
    else:
        tables.show_findings(findings)
    return 0 if all(finding.repaired for finding in findings) else 1


@app.command()
def status(context: typer.Context, *, stream: StreamsOption = None, as_json: AsJson = False) -> int:
    """Show the state of the project, and what needs attention.

    Exits with 1 if anything needs attention: a failed or missing run, nothing in production, stale posts, a schedule
    that nothing runs, a full disk, a broken plugin, a shared database. With several streams, it shows totals and the
    first problems.

    Example: retrainer status
    """
    with open_project(context) as (project, _):
        one, now = project.select_one(stream), datetime.now(UTC)
        found: states.Status | streams_status.StreamsStatus
        if one is not None:
            found = states.get_status(project.for_stream(one), now)
        else:
            found = streams_status.get_streams_status(project, now, project.select_streams(stream))
    if isinstance(found, states.Status):
        if as_json:
            console.document(documents.status.StatusDocument.from_status(found))
        else:
            status_text.show_status(found)
    elif as_json:
        console.document(documents.status.StreamsStatusDocument.from_status(found))
    else:
        status_text.show_streams_status(found)
    return int(bool(found.problems))


@app.command("notify-test")
def notify_test(context: typer.Context, *, as_json: AsJson = False) -> int:
    """Send a test message to every notification channel.

    Exits with 1 if one of them fails.

    Example: retrainer notify-test
    """
    with open_project(context) as (project, _):
        results = notifier.Notifier(project.settings.notifications, os.environ, project.folder.name).test()
    lines = [f"{name}: {problem or 'sent'}" for name, problem in results.items()]
    rows = [{"to": name, "problem": problem} for name, problem in results.items()]
    lines = lines or ["No notification channels configured"]
    console.result({"notifications": rows}, *lines, as_json=as_json)
    return int(any(results.values()))
