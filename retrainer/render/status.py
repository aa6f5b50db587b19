"""The text output of `status`."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from retrainer import console
from retrainer.console import Styled
from retrainer.posts.validation import number
from retrainer.render.cells import format_minute
from retrainer.streams import of_stream
from retrainer.times import format_hours, format_relative

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from retrainer.health import Problem
    from retrainer.posts.freshness import PostsActivity
    from retrainer.registry.tables import TrainingRun
    from retrainer.schedule.installed import Schedule
    from retrainer.status import ModelTypeStatus, NeededAlgorithm, Status
    from retrainer.streams_status import ModelTypeCounts, StreamsStatus

    Row = tuple[str, str | Styled]

MAX_SHOWN_PROBLEMS = 10  # of several streams
_GIB = 1024**3
_KINDS = {  # of problems whose names do not say how to count them
    "no_posts": ("stream", " without posts"),
    "nothing_in_production": ("model", " not in production"),
    "stale_posts": ("stream", " with stale posts"),
    "degraded": ("model", " worse than the naive forecast or the previous version"),
    "damaged_scores": ("model", " with damaged live scores"),
}


def show_status(status: Status) -> None:
    """Print the state of a project: a table of its parts, then what needs attention."""
    now = status.at
    rows = [row for one in status.types for row in _type_rows(one, now)]
    rows.append(("posts", _describe_posts(status.posts)))
    rows += _surroundings(status)
    stream = of_stream(status.stream, several=status.several).replace(" of the", ", the", 1)
    title = f"{status.project}{stream}, {format_minute(now)} UTC"
    console.table(["Part", "State"], rows, title=title)
    if not status.problems:
        console.text(Styled("✓ Nothing needs attention", "good"))
    _show_problems(status.problems)


def show_streams_status(status: StreamsStatus) -> None:
    """Print the state of several streams: numbers, then some of what needs attention."""
    newest = "" if status.newest_at is None else f", the newest {_when(status.newest_at, status.at)}"
    rows: list[Row] = [
        ("streams", f"{status.streams}"),
        *((one.model_type, _describe_counts(one)) for one in status.types),
        ("posts", f"{status.posts}{newest}"),
        *_surroundings(status),
    ]
    console.table(["Part", "State"], rows, title=f"{status.project}, {format_minute(status.at)} UTC")
    if not status.problems:
        console.text(Styled("✓ Nothing needs attention", "good"))
        return
    _show_problems(status.problems[:MAX_SHOWN_PROBLEMS])
    if len(status.problems) > MAX_SHOWN_PROBLEMS:
        more = Counter(problem.kind for problem in status.problems[MAX_SHOWN_PROBLEMS:])
        kinds = ", ".join(_describe_kind(kind, count) for kind, count in sorted(more.items()))
        console.paragraph(
            f"And {more.total()} more: {kinds}. `retrainer streams --failed` and `--not-live` list streams, "
            "`retrainer status --stream NAME` shows one"
        )


def _describe_kind(kind: str, count: int) -> str:
    noun, rest = _KINDS.get(kind, (kind.replace("_", " "), ""))
    return f"{number(count, noun)}{rest}"


def _describe_counts(one: ModelTypeCounts) -> str | Styled:
    if not one.enabled and not one.live:
        return "disabled"
    parts = [f"{one.live} of {max(one.enabled, one.live)} in production", f"{one.due} due"]
    parts += [f"{one.held} on hold"] if one.held else []
    parts += [f"{one.failed} with a failed last run"] if one.failed else []
    line = ", ".join(parts)
    return Styled(line, "bad") if one.failed or one.live < one.enabled else line


def _surroundings(status: Status | StreamsStatus) -> Iterator[Row]:
    yield from (("schedule", _describe_schedule(schedule)) for schedule in status.schedules)
    if not status.schedules:
        yield "schedule", "none on this machine"
    disk = status.disk
    yield "disk", "unknown" if disk is None else f"{disk.free / _GIB:.1f} of {disk.total / _GIB:.1f} GiB free"
    yield "plugins", _describe_plugins(status.plugins)


def _show_problems(problems: Sequence[Problem]) -> None:
    for problem in problems:
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
    if one.ab_test is not None:
        yield "", f"A/B test of {one.ab_test.challenger_id} since {_when(one.ab_test.started_at, now)}"
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
