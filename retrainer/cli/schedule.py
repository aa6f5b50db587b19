"""The commands that schedule retraining with cron or systemd."""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrainer import console, settings_file
from retrainer.cli import groups
from retrainer.cli.context import has_several_streams, open_project
from retrainer.cli.options import AsJson
from retrainer.errors import UsageError
from retrainer.fleet import selection
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.registry import liveness
from retrainer.schedule import systemd as units
from retrainer.schedule.command import SOURCES_A_FILE, TRAIN_IF_DUE, ScheduledCommand, choose_delay
from retrainer.schedule.crontab import Crontab, find_lines, installed_line, with_block, without_block
from retrainer.schedule.due import Due, due, due_of_streams
from retrainer.schedule.expression import parse_schedule
from retrainer.schedule.installed import REINSTALL, START_DAEMON, cron_is_running, names_no_stream
from retrainer.streams import ModelKey
from retrainer.times import format_time

if TYPE_CHECKING:
    from collections.abc import Collection

    from retrainer.project import Project
    from retrainer.schedule.expression import Expression

app = typer.Typer(rich_markup_mode=None)
schedule_app = typer.Typer(
    cls=groups.SuggestingGroup, rich_markup_mode=None, help="Schedule retraining with cron or systemd."
)
app.add_typer(schedule_app, name="schedule")

log = logging.getLogger(__name__)

MAX_JITTER_MINUTES = 24 * 60
_PRINTED_ONLY = {
    "WHEN": "when",
    "--user": "user",
    "--jitter": "jitter",
    "--job-log": "job_log",
    "--env-file": "env_file",
    "--jobs": "jobs",
    "--max-cost": "max_cost",
}  # arguments of `schedule show`
_DELAY = re.compile(r"(?:\S+\s+){5}sleep (\d+);")  # in a crontab line
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")
When = Annotated[
    str,
    typer.Argument(
        metavar="WHEN", help="daily (03:00), weekly, bi-weekly, monthly, or a cron expression, in the machine's time."
    ),
]
LogFile = Annotated[
    Path | None, typer.Option("--job-log", metavar="FILE", help="The job's log file. By default, logs/retrainer.log.")
]
Jitter = Annotated[
    int,
    typer.Option(
        "--jitter",
        metavar="MINUTES",
        min=0,
        max=MAX_JITTER_MINUTES,
        help="Delay each call by less than MINUTES. The delay is fixed, and differs between hosts and projects.",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, max=256, help="With several streams: train N at a time. By default, 1."),
]
MaxCost = Annotated[
    float | None,
    typer.Option(
        "--max-cost",
        metavar="DOLLARS",
        min=0,
        help="With several streams: the maximum cost of the paid forecasts of a call; required if there are any.",
    ),
]
EnvFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A file of NAME=value lines, such as API keys; cron passes on nothing else."),
]


@schedule_app.command("install")
def schedule_install(
    context: typer.Context,
    when: When = "daily",
    *,
    jitter: Jitter = 0,
    job_log: LogFile = None,
    env_file: EnvFile = None,
    jobs: Jobs = None,
    max_cost: MaxCost = None,
    as_json: AsJson = False,
) -> None:
    """Add a line to your crontab that trains what is due.

    It runs at the given times and trains a model type if it is due: retraining.schedule_days sets how often. Installing
    again replaces the line; all other lines stay unchanged.

    Example: retrainer schedule install weekly
    """
    expression, command = _scheduled_command(context, when, job_log, env_file, jitter, jobs, max_cost)
    with open_project(context) as (project, _):
        line = f"{expression.text} {command.crontab_command()}"
        crontab = Crontab()
        before = installed_line(crontab.read(), project.config_file)
        changed = crontab.change(lambda text: with_block(text, project.config_file, line))
        others = len(find_lines(os.fsdecode(crontab.read()), project.config_file)) - 1
        days = project.settings.retraining.schedule_days
        secrets = {name for source in project.settings.posts.sources.values() for name in source.variables}
    next_call = _next_call(expression, command.delay_seconds)
    message = (
        f"{'Installed' if changed else 'Already installed'}. Next call: {next_call:%Y-%m-%d %H:%M %Z}; "
        f"it retrains a model type {days:g} days after its last run (retraining.schedule_days)"
    )
    if env_file is None and before is not None and SOURCES_A_FILE in before:
        log.warning("The previous line read an environment file; this one does not: add --env-file to keep it")
    if others:
        log.warning("Your crontab has another line for this project: delete it with `crontab -e`")
    if env_file is None:
        _warn_of_missing_variables(secrets)
    _warn_without_daemon(cron_is_running())
    document = {"status": "success", "message": message, "changed": changed, "line": line}
    console.result({**document, "next_call_at": format_time(next_call)}, line, message, as_json=as_json)


@schedule_app.command("show")
def schedule_show(
    context: typer.Context,
    when: When = "daily",
    *,
    system: Annotated[bool, typer.Option("--system", help="Print a line for /etc/cron.d instead.")] = False,
    systemd: Annotated[bool, typer.Option("--systemd", help="Print a systemd service and timer instead.")] = False,
    user: Annotated[
        str | None, typer.Option(metavar="NAME", help="The user of the printed line or service. By default, you.")
    ] = None,
    jitter: Jitter = 0,
    job_log: LogFile = None,
    env_file: EnvFile = None,
    jobs: Jobs = None,
    max_cost: MaxCost = None,
    as_json: AsJson = False,
) -> None:
    """Show the line in your crontab, or print one for the system.

    Example: retrainer schedule show --systemd
    """
    sources = {name: context.get_parameter_source(option) for name, option in _PRINTED_ONLY.items()}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if given and not (system or systemd):
        raise UsageError(
            f"{', '.join(given)} {'applies' if len(given) == 1 else 'apply'} to a printed schedule only",
            hint="Add --system or --systemd",
        )
    if system and systemd:
        raise UsageError("--system and --systemd exclude each other", hint="Choose one of them")
    if user is not None and not _USER.fullmatch(user):
        raise UsageError(f"--user: '{user}' is not a valid user name", hint="Choose a user of this machine")
    if not (system or systemd):
        _show_installed(context, as_json=as_json)
        return
    user = user or liveness.current_user()
    expression, command = _scheduled_command(context, when, job_log, env_file, jitter, jobs, max_cost)
    if system:
        if not _USER.fullmatch(user):
            raise UsageError(f"the user {user} has no name, which cron needs", hint="Add --user NAME")
        line = f"{expression.text} {user} {command.crontab_command()}"
        console.result({"file": "/etc/cron.d/retrainer", "line": line}, line, as_json=as_json)
        return
    files = {
        f"{units.FOLDER}/{units.SERVICE}": units.service(command, user),
        f"{units.FOLDER}/{units.TIMER}": units.timer(expression, jitter),
    }
    text = "\n".join(f"# {path}\n{unit}" for path, unit in files.items()).rstrip("\n")
    console.result({"files": files}, *text.split("\n"), as_json=as_json)


@schedule_app.command("remove")
def schedule_remove(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Remove the line from your crontab.

    Example: retrainer schedule remove
    """
    with open_project(context) as (project, _):
        changed = Crontab().change(lambda text: without_block(text, project.config_file))
        others = find_lines(os.fsdecode(Crontab().read()), project.config_file)
    message = "Removed from your crontab" if changed else "Your crontab has no line from `schedule install`"
    if others:
        log.warning("Your crontab has another line for this project: delete it with `crontab -e`")
    console.success(message, as_json=as_json, changed=changed)


def _scheduled_command(
    context: typer.Context,
    when: str,
    log_file: Path | None,
    env_file: Path | None,
    jitter: int,
    jobs: int | None,
    max_cost: float | None,
) -> tuple[Expression, ScheduledCommand]:
    """Return when to train, and the command: with several streams, one that trains all of them."""
    with open_project(context) as (project, runtime):
        delay = choose_delay(project.config_file, jitter)
        arguments: tuple[str, ...] = TRAIN_IF_DUE
        streams = project.list_streams()
        if len(streams) > 1:
            chosen = selection.select_units(project, streams, MODEL_TYPE_NAMES, datetime.now(UTC), if_due=False)
            selection.require_max_cost(project, runtime, chosen.units, None, max_cost)
            arguments += ("--all-streams",)
            arguments += () if jobs is None else ("--jobs", str(jobs))
            arguments += () if max_cost is None else ("--max-cost", str(max_cost))
        elif jobs is not None or max_cost is not None:
            option = "--max-cost" if jobs is None else "--jobs"
            raise UsageError(f"{option} applies to several streams only", hint="Omit it: the project has one stream")
        command = ScheduledCommand.for_project(project, log_file, env_file, arguments=arguments, delay_seconds=delay)
        return parse_schedule(when), command


def _show_installed(context: typer.Context, *, as_json: bool) -> None:
    """Show the line in the crontab, when it is run next, and whether each model type is due."""
    with open_project(context) as (project, _):
        text = Crontab().read()
        line = installed_line(text, project.config_file)
        if line is None:
            line = next(iter(find_lines(os.fsdecode(text), project.config_file)), None)
        running = None if line is None else cron_is_running()
        _warn_without_daemon(running)
        if line is not None and names_no_stream(line) and has_several_streams(project):
            log.warning("With several streams, this line trains nothing: it needs --all-streams. %s", REINSTALL)
        sentences, states = _due_states(project, datetime.now(UTC))
    next_call = None if line is None or running is False else _next_call_of(line)
    document = {
        "installed": line is not None,
        "line": line,
        "cron_is_running": running,
        "next_call_at": format_time(next_call),
        "due": [vars(state) for state in states],
    }
    lines = [line or "Not in your crontab. Add it with `retrainer schedule install`"]
    if next_call is not None:
        lines.append(f"Next call: {next_call:%Y-%m-%d %H:%M %Z}")
    console.result(document, *lines, *sentences, as_json=as_json)


def _due_states(project: Project, now: datetime) -> tuple[list[str], list[Due]]:
    """Return whether each model type is due, also as sentences; of several streams, in how many."""
    streams = project.list_streams()
    if len(streams) == 1:
        states = [due(project.for_stream(streams[0]), model_type, now) for model_type in MODEL_TYPE_NAMES]
        return [state.sentence for state in states], states
    last = project.registry.across(None).last_completed_runs()
    found = due_of_streams(project, streams, MODEL_TYPE_NAMES, now, last)
    counts = {name: sum(found[ModelKey(stream, name)].is_due for stream in streams) for name in MODEL_TYPE_NAMES}
    states = [Due(name, count > 0, f"{count} of {len(streams)} streams") for name, count in counts.items()]
    return [f"The {state.model_type} model is due in {state.why}" for state in states], states


def _next_call(expression: Expression, delay_seconds: int) -> datetime:
    next_start = expression.next_after(datetime.now())  # noqa: DTZ005  cron goes by the machine's clock
    return next_start + timedelta(seconds=delay_seconds)


def _next_call_of(line: str) -> datetime | None:
    """Return when cron runs a line of a crontab next; None if only cron can tell, as for `@daily`."""
    delay = _DELAY.match(line)
    with suppress(UsageError):
        return _next_call(parse_schedule(" ".join(line.split()[:5])), int(delay[1]) if delay else 0)
    return None


def _warn_without_daemon(running: bool | None) -> None:
    if running is False:
        log.warning("No cron daemon is running: nothing runs this line. %s", START_DAEMON)


def _warn_of_missing_variables(secrets: Collection[str]) -> None:
    """Name the settings and credentials of this shell that cron will not set.

    Args:
        secrets: the variables with the secrets of sources.
    """
    names = sorted(
        name
        for name in os.environ
        if name in secrets or (name.startswith(("RETRAINER_", "ANTHROPIC_")) and name != settings_file.CONFIG_VARIABLE)
    )
    if names:
        log.warning(
            "cron will not set %s, which this shell sets: write them to a file and add --env-file FILE",
            ", ".join(names),
        )
