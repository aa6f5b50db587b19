"""The state of a project in one look, and what needs attention."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from retrainer.algorithms.manager import load_algorithm
from retrainer.errors import RetrainerError
from retrainer.health import DiskSpace, Problem, check_surroundings, measure_space
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.pipeline.stale_posts import describe_staleness
from retrainer.schedule.due import due, next_due_at
from retrainer.schedule.installed import find_schedules

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from retrainer.model_types import ModelTypeName
    from retrainer.posts.freshness import PostsActivity
    from retrainer.project import Project
    from retrainer.registry.tables import Hold, ModelVersion, TrainingRun
    from retrainer.schedule.due import Due
    from retrainer.schedule.installed import Schedule

_LATE = timedelta(days=1)  # a daily schedule finds a type due a day late at most


@dataclass(frozen=True)
class ModelTypeStatus:
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
class NeededAlgorithm:
    """An algorithm that the settings or production need.

    Attributes:
        problem: why it cannot be used; None if it can.
    """

    name: str
    model_type: ModelTypeName
    problem: str | None


@dataclass(frozen=True)
class Status:
    """The state of a project.

    Attributes:
        at: the time, UTC.
        problems: what needs attention; none if all is well.
        disk: None if it cannot be read.
    """

    at: datetime
    project: str
    problems: list[Problem]
    types: list[ModelTypeStatus]
    posts: PostsActivity
    schedules: list[Schedule]
    disk: DiskSpace | None
    plugins: list[NeededAlgorithm]


def get_status(project: Project, now: datetime) -> Status:
    """Gather the state of a project. Nothing is written."""
    types = [_type_status(project, model_type, now) for model_type in MODEL_TYPE_NAMES]
    posts = project.posts.activity(now)
    schedules = find_schedules(project.config_file)
    surroundings = list(check_surroundings(project, schedules, now))
    algorithms = _needed_algorithms(project, types)
    problems = [
        *_posts_problems(posts),
        *_type_problems(types, now),
        *_algorithm_problems(algorithms, types, surroundings),
        *surroundings,
    ]
    return Status(
        at=now,
        project=str(project.folder),
        problems=problems,
        types=types,
        posts=posts,
        schedules=schedules,
        disk=measure_space(project.models_dir),
        plugins=algorithms,
    )


def _type_status(project: Project, model_type: ModelTypeName, now: datetime) -> ModelTypeStatus:
    registry, settings = project.registry, project.settings
    enabled = settings.retraining.is_enabled(model_type)
    return ModelTypeStatus(
        model_type=model_type,
        enabled=enabled,
        algorithm=settings.model(model_type).algorithm,
        production=registry.get_production(model_type),
        hold=registry.get_hold(model_type),
        due=due(project, model_type, now),
        due_at=next_due_at(project, model_type) if enabled else None,
        last_run=registry.get_last_run(model_type),
    )


def _needed_algorithms(project: Project, types: Sequence[ModelTypeStatus]) -> list[NeededAlgorithm]:
    """Load the algorithms of the settings and of production."""
    needed: dict[tuple[str, ModelTypeName], None] = {}
    for one in types:
        if one.enabled:
            needed[one.algorithm, one.model_type] = None
        if one.production is not None:
            needed[one.production.algorithm, one.model_type] = None
    return [NeededAlgorithm(name, model_type, _find_problem(project, name, model_type)) for name, model_type in needed]


def _find_problem(project: Project, name: str, model_type: ModelTypeName) -> str | None:
    try:
        algorithm = load_algorithm(name, model_type)
        settings = project.settings.model(model_type)
        if settings.algorithm == name:
            algorithm.options(settings.options(name), model_type)
    except RetrainerError as error:
        return str(error)
    return None


def _algorithm_problems(
    algorithms: Sequence[NeededAlgorithm], types: Sequence[ModelTypeStatus], surroundings: Sequence[Problem]
) -> Iterator[Problem]:
    """Report the algorithms that cannot be used, but for those of production that are reported already."""
    unusable = {problem.subject for problem in surroundings if problem.kind == "unusable_algorithm"}
    reported = {
        (one.production.algorithm, one.model_type)
        for one in types
        if one.production is not None and one.production.version_id in unusable
    }
    for needed in algorithms:
        if needed.problem is not None and (needed.name, needed.model_type) not in reported:
            message = f"the configured {needed.model_type} algorithm cannot be used: {needed.problem}"
            yield Problem("unusable_algorithm", needed.name, message, "")


def _type_problems(types: Sequence[ModelTypeStatus], now: datetime) -> Iterator[Problem]:
    for one in types:
        run, name = one.last_run, one.model_type
        if run is not None and run.status == "failed":
            message = f"the last {name} run failed on {run.started_at:%Y-%m-%d %H:%M} UTC: {run.error}"
            yield Problem("failed_run", run.run_id, message, f"Fix the cause, then run `retrainer train {name}`")
        if not one.enabled:
            continue
        if one.production is None:
            if run is None or run.status == "completed":
                message = f"no {name} version is in production"
                yield Problem("nothing_in_production", name, message, f"Run `retrainer train {name}`, or `promote` one")
        elif one.due_at is not None and now - one.due_at > _LATE and (run is None or run.status == "completed"):
            message = f"the {name} model has been due since {one.due_at:%Y-%m-%d %H:%M} UTC, and no run has started"
            hint = "Check the schedule (`retrainer schedule show`), or run `retrainer train --if-due`"
            yield Problem("missed_run", name, message, hint)


def _posts_problems(posts: PostsActivity) -> Iterator[Problem]:
    if posts.freshness is None:
        yield Problem("no_posts", "posts", "there are no posts", "Import some with `retrainer posts import FILE`")
    elif (message := describe_staleness(posts.freshness)) is not None:
        yield Problem("stale_posts", "posts", message, "Check that posts are still fetched or imported")
