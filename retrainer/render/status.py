"""The text output of `status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrainer import console
from retrainer.pipeline.stale_posts import format_days

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from retrainer.health import DiskSpace
    from retrainer.registry.tables import TrainingRun
    from retrainer.schedule.installed import Schedule
    from retrainer.status import PluginStatus, PostsStatus, Status, TypeStatus

_GIB = 1024**3


def show_status(status: Status) -> None:
    """Print the state of a project: a table of its parts, then what needs a person."""
    rows = [row for one in status.types for row in _type_rows(one)]
    rows += [("posts", _describe_posts(status.posts))]
    rows += [("schedule", _describe_schedule(schedule)) for schedule in status.schedules]
    if not status.schedules:
        rows.append(("schedule", "none on this machine; `retrainer schedule install` adds one"))
    rows += [("disk", _describe_disk(status.disk)), ("plugins", _describe_plugins(status.plugins))]
    console.table(["Part", "State"], rows, title=f"{status.project}, {_minute(status.at)}")
    console.text("")
    if not status.problems:
        console.text("✓ Nothing needs attention")
    for problem in status.problems:
        sentence = f"✗ {problem.message[0].upper()}{problem.message[1:].removesuffix('.')}."
        console.text(f"{sentence} {problem.hint}".strip())


def _type_rows(one: TypeStatus) -> Iterator[tuple[str, str]]:
    version = one.production
    if version is None:
        yield one.model_type, "nothing in production"
    else:
        yield one.model_type, f"{version.version_id} since {_minute(version.promoted_at)}"
    if one.hold is not None:
        yield "", f"on hold since {_minute(one.hold.since)}: {one.hold.reason}"
    yield "", _describe_due(one)
    yield "", "no run yet" if one.last_run is None else _describe_run(one.last_run)


def _describe_due(one: TypeStatus) -> str:
    if one.due.is_due or not one.enabled or one.due_at is None:
        return f"{'due' if one.due.is_due else 'not due'}: {one.due.why}"
    return f"next run due {_minute(one.due_at)}"


def _describe_run(run: TrainingRun) -> str:
    if run.status == "running":
        return f"running since {_minute(run.started_at)}"
    duration = "" if run.duration_seconds is None else f", {run.duration_seconds:.1f} s"
    if run.status == "failed":
        return f"last run failed {_minute(run.started_at)}{duration}: {run.error}"
    outcome = "promoted" if run.promoted_to_production else "not promoted"
    return f"last run {_minute(run.started_at)}{duration}, {outcome}: {run.promotion_reason}"


def _describe_posts(posts: PostsStatus) -> str:
    freshness = posts.freshness
    if freshness is None:
        return "none"
    usual = "" if posts.usual_per_day is None else f", usually {posts.usual_per_day:.1f}"
    return (
        f"{posts.count}, the newest {format_days(freshness.silence)} old{' (stale)' if freshness.is_stale else ''}; "
        f"{posts.recent_per_day:.1f} a day in the last week{usual}"
    )


def _describe_schedule(schedule: Schedule) -> str:
    if schedule.kind == "systemd":
        state = {True: "active", False: "not active", None: "of unknown state"}[schedule.active]
        return f"the systemd timer '{schedule.line}', {state}"
    when = " ".join(schedule.line.split()[:5])
    cron = {True: "a cron daemon is running", False: "no cron daemon is running", None: "unknown whether cron runs"}
    return f"{when} in {schedule.where}; {cron[schedule.active]}"


def _describe_disk(disk: DiskSpace | None) -> str:
    return "unknown" if disk is None else f"{disk.free / _GIB:.1f} of {disk.total / _GIB:.1f} GiB free"


def _describe_plugins(plugins: list[PluginStatus]) -> str:
    names = dict.fromkeys(plugin.name for plugin in plugins)
    broken = {plugin.name for plugin in plugins if plugin.problem is not None}
    return ", ".join(f"{name} {'broken' if name in broken else 'ok'}" for name in names) or "none needed"


def _minute(time: datetime | None) -> str:
    return "-" if time is None else f"{time:%Y-%m-%d %H:%M} UTC"
