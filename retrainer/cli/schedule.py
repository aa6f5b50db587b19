"""The commands that let cron or systemd retrain when it is due."""

from __future__ import annotations

import getpass
import logging
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrainer import console
from retrainer.cli.app import SET_UP, AsJson, PanelGroup, app, open_project, say
from retrainer.errors import UsageError
from retrainer.timestamps import format_timestamp

if TYPE_CHECKING:
    from retrainer.schedule.command import ScheduledCommand
    from retrainer.schedule.expression import Expression

schedule_app = typer.Typer(cls=PanelGroup, rich_markup_mode=None, help="Let cron or systemd retrain when it is due.")
app.add_typer(schedule_app, name="schedule", rich_help_panel=SET_UP)

log = logging.getLogger(__name__)

DEFAULT = "daily"
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")
When = Annotated[
    str,
    typer.Argument(
        metavar="WHEN", help="daily (03:00), weekly, bi-weekly, monthly, or a cron expression, in the machine's time."
    ),
]
LogFile = Annotated[
    Path | None, typer.Option("--job-log", metavar="FILE", help="The job's log file; logs/retrainer.log by default.")
]
EnvFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A file of NAME=value lines, such as API keys: cron knows no others."),
]


@schedule_app.command("install")
def schedule_install(
    context: typer.Context,
    when: When = DEFAULT,
    *,
    job_log: LogFile = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Put a line into your crontab that trains what is due.

    It asks at the times given whether a type is due; how often one is retrained is retraining.schedule_days. Installing
    again replaces the line; all other lines stay as they are.

    Example: retrainer schedule install weekly
    """
    from retrainer.schedule.command import READS_A_FILE  # noqa: PLC0415
    from retrainer.schedule.crontab import Crontab, installed_line, with_block  # noqa: PLC0415

    expression, command = _asked(context, when, job_log, env_file)
    with open_project(context) as project:
        line = f"{expression.text} {command.crontab_command()}"
        crontab = Crontab()
        before = installed_line(crontab.read(), project.config_file)
        changed = crontab.change(lambda text: with_block(text, project.config_file, line))
        days = project.settings.retraining.schedule_days
    following = expression.next_after(datetime.now())  # noqa: DTZ005  the machine's clock, as cron goes by it
    message = (
        f"{'Installed' if changed else 'Already installed'}. Next call: {following:%Y-%m-%d %H:%M %Z}; "
        f"it retrains a type {days:g} days after its last run (retraining.schedule_days)"
    )
    if env_file is None and before is not None and READS_A_FILE in before:
        log.warning("The line before read a file of variables, this one reads none: give --env-file to keep it")
    _warn_of_missing_variables(env_file)
    document = {"status": "success", "message": message, "changed": changed, "line": line}
    say({**document, "next_call_at": format_timestamp(following)}, f"{line}\n{message}", as_json=as_json)


@schedule_app.command("show")
def schedule_show(
    context: typer.Context,
    when: When = DEFAULT,
    *,
    system: Annotated[bool, typer.Option("--system", help="Print a line for /etc/cron.d instead.")] = False,
    systemd: Annotated[bool, typer.Option("--systemd", help="Print a systemd service and timer instead.")] = False,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="With either: who runs it; you by default.")] = None,
    job_log: LogFile = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the line in your crontab, or print one for the system.

    Example: retrainer schedule show --systemd
    """
    if system and systemd:
        raise UsageError("--system and --systemd are two ways to the same", hint="Give one of them")
    if user is not None and not _USER.fullmatch(user):
        raise UsageError(f"--user: '{user}' is no name of a user", hint="Name one that the machine has")
    if systemd:
        _show_systemd(context, when, user or getpass.getuser(), job_log, env_file, as_json=as_json)
    elif system:
        expression, command = _asked(context, when, job_log, env_file)
        line = f"{expression.text} {user or getpass.getuser()} {command.crontab_command()}"
        say({"file": "/etc/cron.d/retrainer", "line": line}, line, as_json=as_json)
    else:
        _show_installed(context, as_json=as_json)


@schedule_app.command("remove")
def schedule_remove(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Take the line out of your crontab again.

    Example: retrainer schedule remove
    """
    from retrainer.schedule.crontab import Crontab, without_block  # noqa: PLC0415

    with open_project(context) as project:
        changed = Crontab().change(lambda text: without_block(text, project.config_file))
    message = "Removed from your crontab" if changed else "Your crontab has no line of this project"
    say({"status": "success", "message": message, "changed": changed}, message, as_json=as_json)


def _asked(
    context: typer.Context, when: str, log: Path | None, environment: Path | None
) -> tuple[Expression, ScheduledCommand]:
    from retrainer.schedule.command import ScheduledCommand  # noqa: PLC0415
    from retrainer.schedule.expression import parse_schedule  # noqa: PLC0415

    with open_project(context, recovering=False) as project:
        return parse_schedule(when), ScheduledCommand.of(project, log, environment)


def _show_installed(context: typer.Context, *, as_json: bool) -> None:
    """Show the line in the crontab, and what it would do now."""
    from retrainer.model_types import MODEL_TYPE_NAMES  # noqa: PLC0415
    from retrainer.schedule.crontab import Crontab, installed_line  # noqa: PLC0415

    with open_project(context) as project:
        from retrainer.schedule.due import due  # noqa: PLC0415

        line = installed_line(Crontab().read(), project.config_file)
        states = [due(project, model_type, datetime.now(UTC)) for model_type in MODEL_TYPE_NAMES]
    if as_json:
        console.document({"installed": line is not None, "line": line, "due": [vars(state) for state in states]})
        return
    console.text(line or "Not in your crontab. `retrainer schedule install` puts it there")
    for state in states:
        console.text(f"The {state.model_type} model is {'' if state.is_due else 'not '}due: {state.why}")


def _show_systemd(
    context: typer.Context, when: str, user: str, log: Path | None, environment: Path | None, *, as_json: bool
) -> None:
    from retrainer.schedule import systemd  # noqa: PLC0415

    expression, command = _asked(context, when, log, environment)
    files = {systemd.SERVICE: systemd.service(command, user), systemd.TIMER: systemd.timer(expression)}
    if as_json:
        console.document({"files": {f"{systemd.FOLDER}/{name}": text for name, text in files.items()}})
        return
    console.text("\n".join(f"# {systemd.FOLDER}/{name}\n{text}" for name, text in files.items()).rstrip("\n"))


def _warn_of_missing_variables(env_file: Path | None) -> None:
    """Name the settings and credentials of this shell that cron will not have."""
    here = sorted(name for name in os.environ if _is_for_the_job(name))
    if here and env_file is None:
        log.warning(
            "cron will not know %s, which this shell has set: write what the job needs into a file, --env-file FILE",
            ", ".join(here),
        )


def _is_for_the_job(name: str) -> bool:
    from retrainer.config import CONFIG_VARIABLE  # noqa: PLC0415  settings need pydantic, `--help` does not

    return name.startswith(("RETRAINER_", "ANTHROPIC_")) and name != CONFIG_VARIABLE
