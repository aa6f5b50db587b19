"""The state of a project in one look, and what needs a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from retrainer.algorithms.manager import load_algorithm
from retrainer.errors import RetrainerError
from retrainer.health import (
    DiskSpace,
    check_database,
    check_models_folder,
    check_production_algorithms,
    check_schedules,
    measure_space,
)
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.pipeline.stale_posts import describe_staleness
from retrainer.schedule.due import due, next_due_at
from retrainer.schedule.installed import find_schedules

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from retrainer.model_types import ModelTypeName
    from retrainer.posts.freshness import Freshness
    from retrainer.project import Project
    from retrainer.registry.tables import Hold, ModelVersion, TrainingRun
    from retrainer.schedule.due import Due
    from retrainer.schedule.installed import Schedule

RECENT_DAYS = 7  # whose rate of posts is compared with …
USUAL_DAYS = 84  # … that of so many days before them
_LATE = timedelta(days=1)  # a daily schedule finds a type due a day late at most


@dataclass(frozen=True)
class TypeStatus:
    """One model type.

    Attributes:
        algorithm: the configured one.
        production: the production version, if any.
        hold: the stop of automatic promotion, if any.
        due: whether it is due.
        due_at: when it is due by `schedule_days`; None if retraining is disabled, or no run has completed.
        last_run: the latest run, whatever its outcome; runs for a past time do not count.
    """

    model_type: ModelTypeName
    enabled: bool
    algorithm: str
    production: ModelVersion | None
    hold: Hold | None
    due: Due
    due_at: datetime | None
    last_run: TrainingRun | None


@dataclass(frozen=True)
class PostsStatus:
    """The posts.

    Attributes:
        freshness: None without posts.
        recent_per_day: the posts a day in the last week.
        usual_per_day: the posts a day in the 12 weeks before the last week, or before the newest post if that is older,
            or since the first post; None if that is less than a day.
    """

    count: int
    freshness: Freshness | None
    recent_per_day: float
    usual_per_day: float | None


@dataclass(frozen=True)
class PluginStatus:
    """An algorithm that the settings or production need.

    Attributes:
        problem: why it cannot be used; None if it can.
    """

    name: str
    model_type: ModelTypeName
    problem: str | None


@dataclass(frozen=True)
class Problem:
    """Something that a person has to look at, and what to do."""

    message: str
    hint: str


@dataclass(frozen=True)
class Status:
    """The state of a project.

    Attributes:
        at: the time, UTC.
        problems: what needs a person; none if all is well.
        disk: None if it cannot be read.
    """

    at: datetime
    project: str
    problems: list[Problem]
    types: list[TypeStatus]
    posts: PostsStatus
    schedules: list[Schedule]
    disk: DiskSpace | None
    plugins: list[PluginStatus]


def get_status(project: Project, now: datetime) -> Status:
    """Gather the state of a project. Nothing is written."""
    types = [_type_status(project, model_type, now) for model_type in MODEL_TYPE_NAMES]
    posts = _posts_status(project, now)
    schedules = find_schedules(project.config_file)
    plugins = _plugins(project, types)
    problems = [
        *_posts_problems(posts),
        *_type_problems(types, now),
        *(
            Problem(f"the configured {plugin.model_type} algorithm cannot be used: {plugin.problem}", "")
            for plugin in plugins
            if plugin.problem is not None and not _is_in_production(plugin, types)
        ),
        *(
            Problem(problem.message, problem.hint)
            for problem in (
                *check_production_algorithms(project),
                *check_models_folder(project),
                *check_schedules(schedules),
                *check_database(project, now),
            )
        ),
    ]
    return Status(
        at=now,
        project=str(project.folder),
        problems=problems,
        types=types,
        posts=posts,
        schedules=schedules,
        disk=measure_space(project.models_dir),
        plugins=plugins,
    )


def _type_status(project: Project, model_type: ModelTypeName, now: datetime) -> TypeStatus:
    registry, settings = project.registry, project.settings
    enabled = settings.retraining.is_enabled(model_type)
    runs = (run for run in registry.list_runs(model_type, _LATEST_RUNS) if run.as_of is None)
    return TypeStatus(
        model_type=model_type,
        enabled=enabled,
        algorithm=settings.model(model_type).algorithm,
        production=registry.get_production(model_type),
        hold=registry.get_hold(model_type),
        due=due(project, model_type, now),
        due_at=next_due_at(project, model_type) if enabled else None,
        last_run=next(runs, None),
    )


_LATEST_RUNS = 20  # among which one for the present is looked for


def _posts_status(project: Project, now: datetime) -> PostsStatus:
    recent_start = now - timedelta(days=RECENT_DAYS)
    summary = project.posts.summary(now, warn=False)
    before = project.posts.summary(recent_start, warn=False)
    usual = None
    if before.first is not None and before.last is not None:
        usual_end = recent_start if summary.count > before.count else before.last
        usual_start = usual_end - timedelta(days=USUAL_DAYS)
        earlier = project.posts.summary(usual_start, warn=False).count
        days = (usual_end - max(before.first, usual_start)) / timedelta(days=1)
        usual = (before.count - earlier) / days if days >= 1 else None
    recent = (summary.count - before.count) / RECENT_DAYS
    return PostsStatus(summary.count, project.posts.freshness(now), recent, usual)


def _plugins(project: Project, types: Sequence[TypeStatus]) -> list[PluginStatus]:
    """Load the algorithms of the settings and of production."""
    needed: dict[tuple[str, ModelTypeName], None] = {}
    for one in types:
        if one.enabled:
            needed[one.algorithm, one.model_type] = None
        if one.production is not None:
            needed[one.production.algorithm, one.model_type] = None
    return [PluginStatus(name, model_type, _find_problem(project, name, model_type)) for name, model_type in needed]


def _find_problem(project: Project, name: str, model_type: ModelTypeName) -> str | None:
    try:
        algorithm = load_algorithm(name, model_type)
        settings = project.settings.model(model_type)
        if settings.algorithm == name:
            algorithm.options(settings.options(name), model_type)
    except RetrainerError as error:
        return str(error)
    return None


def _is_in_production(plugin: PluginStatus, types: Sequence[TypeStatus]) -> bool:
    """Whether production needs a plugin: its problem is reported as that of production."""
    return any(
        one.model_type == plugin.model_type and one.production is not None and one.production.algorithm == plugin.name
        for one in types
    )


def _type_problems(types: Sequence[TypeStatus], now: datetime) -> Iterator[Problem]:
    for one in types:
        run, name = one.last_run, one.model_type
        if run is not None and run.status == "failed":
            message = f"the last {name} run failed on {run.started_at:%Y-%m-%d %H:%M} UTC: {run.error}"
            yield Problem(message, f"Fix the cause, then run `retrainer train {name}`")
        if not one.enabled:
            continue
        if one.production is None:
            if run is None or run.status == "completed":
                yield Problem(f"no {name} version is in production", f"Run `retrainer train {name}`, or `promote` one")
        elif one.due_at is not None and now - one.due_at > _LATE and (run is None or run.status == "completed"):
            message = f"the {name} model has been due since {one.due_at:%Y-%m-%d %H:%M} UTC, and no run has started"
            yield Problem(message, "Check the schedule (`retrainer schedule show`), or run `retrainer train --if-due`")


def _posts_problems(posts: PostsStatus) -> Iterator[Problem]:
    if posts.freshness is None:
        yield Problem("there are no posts", "Import some with `retrainer posts import FILE`")
    elif (message := describe_staleness(posts.freshness)) is not None:
        yield Problem(message, "Check that posts are still fetched or imported")
