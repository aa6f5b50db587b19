"""The text output of `status`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from retrainer import console
from retrainer.console import Styled
from retrainer.render.cells import format_minute
from retrainer.times import format_hours, format_relative

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from retrainer.health import DiskSpace
    from retrainer.posts.freshness import PostsActivity
    from retrainer.registry.tables import TrainingRun
    from retrainer.schedule.installed import Schedule
    from retrainer.status import ModelTypeStatus, NeededAlgorithm, Status

    Row = tuple[str, str | Styled]

_GIB = 1024**3


def show_status(status: Status) -> None:
    """Print the state of a project: a table of its parts, then what needs attention."""
    now = status.at
    rows = [row for one in status.types for row in _type_rows(one, now)]
    rows.append(("posts", _describe_posts(status.posts)))
    rows += [("schedule", _describe_schedule(schedule)) for schedule in status.schedules]
    if not status.schedules:
        rows.append(("schedule", "none on this machine"))
    rows += [("disk", _describe_disk(status.disk)), ("plugins", _describe_plugins(status.plugins))]
    console.table(["Part", "State"], rows, title=f"{status.project}, {format_minute(now)} UTC")
    if not status.problems:
        console.text(Styled("✓ Nothing needs attention", "good"))
    for problem in status.problems:
        sentence = f"✗ {problem.message[0].upper()}{problem.message[1:].removesuffix('.')}."
        console.paragraph(Styled(f"{sentence} {problem.hint}".strip(), "bad"), indent=2)


def _type_rows(one: ModelTypeStatus, now: datetime) -> Iterator[Row]:
    version = one.production
    if version is None:
        yield one.model_type, Styled("nothing in production", "bad" if one.enabled else "faint")
    else:
        yield one.model_type, f"{version.version_id}, promoted {_when(version.promoted_at, now)}"
    if one.hold is not None:
        yield "", Styled(f"put on hold {_when(one.hold.since, now)}: {one.hold.reason}", "warning")
    yield "", _describe_due(one, now)
    yield "", "no run yet" if one.last_run is None else _describe_run(one.last_run, now)


def _describe_due(one: ModelTypeStatus, now: datetime) -> str:
    if one.due.is_due or not one.enabled or one.due_at is None:
        return f"{'due' if one.due.is_due else 'not due'}: {one.due.why}"
    return f"next run due {_when(one.due_at, now)}"


def _describe_run(run: TrainingRun, now: datetime) -> str | Styled:
    when = _when(run.started_at, now)
    if run.status == "running":
        return f"a run in progress, started {when}"
    duration = "" if run.duration_seconds is None else f" in {run.duration_seconds:.1f} s"
    if run.status == "failed":
        return Styled(f"last run {when} failed{duration}: {run.error}", "bad")
    outcome = "promoted" if run.promoted_to_production else "not promoted"
    return f"last run {when} completed{duration}, {outcome}: {run.promotion_reason}"


def _describe_posts(posts: PostsActivity) -> str | Styled:
    freshness = posts.freshness
    if freshness is None:
        return Styled("none", "bad")
    usual = "" if posts.usual_per_day is None else f", usually {posts.usual_per_day:.1f}"
    age = format_hours(freshness.silence / timedelta(hours=1))
    line = (
        f"{posts.count}, the newest {age} old{' (stale)' if freshness.is_stale else ''}; "
        f"{posts.recent_per_day:.1f} a day in the last week{usual}"
    )
    return Styled(line, "bad") if freshness.is_stale else line


def _describe_schedule(schedule: Schedule) -> str | Styled:
    if schedule.kind == "systemd":
        state = {True: "active", False: "not active", None: "of unknown state"}[schedule.active]
        line = f"the systemd timer '{schedule.line}', {state}"
    else:
        when = " ".join(schedule.line.split()[:5])
        cron = {True: "a cron daemon is running", False: "no cron daemon is running", None: "unknown whether cron runs"}
        line = f"{when} in {schedule.where}; {cron[schedule.active]}"
    return Styled(line, "bad") if schedule.problem else line


def _describe_disk(disk: DiskSpace | None) -> str:
    return "unknown" if disk is None else f"{disk.free / _GIB:.1f} of {disk.total / _GIB:.1f} GiB free"


def _describe_plugins(plugins: list[NeededAlgorithm]) -> str | Styled:
    names = dict.fromkeys(plugin.name for plugin in plugins)
    broken = {plugin.name for plugin in plugins if plugin.problem is not None}
    line = ", ".join(f"{name} {'broken' if name in broken else 'ok'}" for name in names) or "none needed"
    return Styled(line, "bad") if broken else line


def _when(time: datetime | None, now: datetime) -> str:
    """Return a time; on a terminal, how long it is from now."""
    if time is not None and console.is_terminal():
        return format_relative(time, now)
    return f"{format_minute(time)} UTC"
