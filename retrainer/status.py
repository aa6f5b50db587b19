"""The state of a project in one look, and what needs attention."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from retrainer.algorithms.manager import load_algorithm
from retrainer.errors import RetrainerError
from retrainer.health import DiskSpace, Problem, check_live, check_surroundings, measure_space
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.pipeline.stale_posts import describe_staleness
from retrainer.schedule.due import due, next_due_at
from retrainer.schedule.installed import find_schedules
from retrainer.streams import ModelKey, of_stream, stream_argument

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from retrainer.model_types import ModelTypeName
    from retrainer.posts.freshness import Freshness, PostsActivity
    from retrainer.project import Project
    from retrainer.registry.live_tables import ABTest
    from retrainer.registry.overviews import RunSummary
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
        ab_test: the running A/B test, if any.
        due: whether it is due.
        due_at: when it is due by `schedule_days`; None if retraining is disabled, or no run has completed.
        last_run: the latest run, whatever its outcome; runs for a past time do not count.
    """

    model_type: ModelTypeName
    enabled: bool
    algorithm: str
    production: ModelVersion | None
    hold: Hold | None
    ab_test: ABTest | None
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
        several: whether the stream is one of several.
        problems: what needs attention; none if all is well.
        disk: None if it cannot be read.
    """

    at: datetime
    project: str
    stream: str
    several: bool
    problems: list[Problem]
    types: list[ModelTypeStatus]
    posts: PostsActivity
    schedules: list[Schedule]
    disk: DiskSpace | None
    plugins: list[NeededAlgorithm]


def get_status(project: Project, now: datetime) -> Status:
    """Gather the state of a project, seen from a stream. Nothing is written."""
    several = len(project.list_streams()) > 1
    types = [_type_status(project, model_type, now) for model_type in MODEL_TYPE_NAMES]
    posts = project.posts.activity(now)
    schedules = find_schedules(project.config_file)
    production = [one.production for one in types if one.production is not None]
    surroundings = list(check_surroundings(project, schedules, now, production))
    algorithms = _needed_algorithms(project, types)
    problems = [
        *posts_problems(posts.freshness, project.stream, several=several),
        *(problem for one in types for problem in _type_problems(one, project.stream, now, several=several)),
        *check_live(project.registry, several=several),
        *_algorithm_problems(algorithms, types, surroundings),
        *surroundings,
    ]
    return Status(
        at=now,
        project=str(project.folder),
        stream=project.stream,
        several=several,
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
        ab_test=registry.get_running_test(model_type),
        due=due(project, model_type, now, look_for_drift=False),
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
    return [NeededAlgorithm(name, model_type, find_problem(project, name, model_type)) for name, model_type in needed]


def find_problem(project: Project, name: str, model_type: ModelTypeName) -> str | None:
    """Return why an algorithm cannot be used with the options of the settings; None if it can."""
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


def _type_problems(one: ModelTypeStatus, stream: str, now: datetime, *, several: bool) -> Iterator[Problem]:
    key, is_live = ModelKey(stream, one.model_type), one.production is not None
    return model_problems(key, one.last_run, one.due_at, now, enabled=one.enabled, is_live=is_live, several=several)


def model_problems(
    key: ModelKey,
    run: TrainingRun | RunSummary | None,
    due_at: datetime | None,
    now: datetime,
    *,
    enabled: bool,
    is_live: bool,
    several: bool,
) -> Iterator[Problem]:
    """Report what needs attention about a model.

    Args:
        run: its latest run.
        due_at: when it is due by `schedule_days`.
        enabled: whether it is retrained.
        is_live: whether a version is in production.
        several: whether the stream is one of several.
    """
    stream, name = key
    of = of_stream(stream, several=several)
    train = f"retrainer train {name}{stream_argument(stream, several=several)}"
    if run is not None and run.status == "failed":
        message = f"the last {name} run{of} failed on {run.started_at:%Y-%m-%d %H:%M} UTC: {run.error}"
        yield Problem("failed_run", run.run_id, message, f"Fix the cause, then run `{train}`", stream)
    if not enabled:
        return
    if not is_live:
        if run is None or run.status == "completed":
            message = f"no {name} version{of} is in production"
            yield Problem("nothing_in_production", name, message, f"Run `{train}`, or `promote` one", stream)
    elif due_at is not None and now - due_at > _LATE and (run is None or run.status == "completed"):
        message = f"the {name} model{of} has been due since {due_at:%Y-%m-%d %H:%M} UTC, and no run has started"
        due_only = "retrainer train --if-due --all-streams" if several else "retrainer train --if-due"
        hint = f"Check the schedule (`retrainer schedule show`), or run `{due_only}`"
        yield Problem("missed_run", name, message, hint, stream)


def posts_problems(freshness: Freshness | None, stream: str, *, several: bool) -> Iterator[Problem]:
    """Report posts that are missing, or have stopped arriving."""
    of = of_stream(stream, several=several)
    if freshness is None:
        hint = f"Import some with `retrainer posts import FILE{stream_argument(stream, several=several)}`"
        yield Problem("no_posts", "posts", f"there are no posts{of}", hint, stream)
    elif (message := describe_staleness(freshness)) is not None:
        message = message.replace("the posts are", f"the posts{of} are", 1)
        yield Problem("stale_posts", "posts", message, "Check that posts are still fetched or imported", stream)
