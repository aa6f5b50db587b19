"""The state of several streams in one look: numbers, and what needs attention."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING

from retrainer.health import DiskSpace, Problem, check_live, check_surroundings, measure_space
from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.overview import overview
from retrainer.schedule.installed import find_schedules
from retrainer.status import NeededAlgorithm, find_problem, model_problems, posts_problems
from retrainer.streams import ModelKey, of_stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from retrainer.config import Settings
    from retrainer.model_types import ModelTypeName
    from retrainer.overview import ModelOverview, StreamOverview
    from retrainer.project import Project
    from retrainer.schedule.installed import Schedule

    _Case = tuple[str, ModelTypeName, str]  # an algorithm, what it forecasts, and its options as JSON

_FEW_GAPS = 999  # with no more, posts are stale after twice the longest gap at the earliest, so twice the mean one


@dataclass(frozen=True)
class ModelTypeCounts:
    """How many streams of some kind there are for a model type.

    Attributes:
        enabled: whose models of the type are retrained.
        live: with a production version.
        due, held, failed: that are due, are on hold, or whose latest run failed.
    """

    model_type: ModelTypeName
    enabled: int
    live: int
    due: int
    held: int
    failed: int


@dataclass(frozen=True)
class StreamsStatus:
    """The state of several streams.

    Attributes:
        at: the time, UTC.
        problems: what needs attention; first what concerns the whole project, then by kind and stream.
        streams: the number of streams.
        posts: the number of their posts.
        newest_at: the time of the newest one.
        disk: None if it cannot be read.
    """

    at: datetime
    project: str
    problems: list[Problem]
    streams: int
    types: list[ModelTypeCounts]
    posts: int
    newest_at: datetime | None
    schedules: list[Schedule]
    disk: DiskSpace | None
    plugins: list[NeededAlgorithm]

    @property
    def problem_counts(self) -> dict[str, int]:
        """The number of problems of each kind."""
        return dict(Counter(problem.kind for problem in self.problems))


def get_streams_status(project: Project, now: datetime, streams: Sequence[str] | None = None) -> StreamsStatus:
    """Gather the state of streams, all by default, in a few queries. Nothing is written."""
    found = overview(project, now, streams)
    schedules = find_schedules(project.config_file)
    production = project.registry.across(streams).list_production()
    surroundings = list(check_surroundings(project, schedules, now, production))
    algorithms = _needed_algorithms(project, found)
    unusable = {problem.subject for problem in surroundings}
    reported = {
        _case(project.settings.for_stream(version.stream), version.algorithm, version.model_type_name)
        for version in production
        if version.version_id in unusable
    }
    problems = [
        *surroundings,
        *_algorithm_problems(project, {case: one for case, one in algorithms.items() if case not in reported}),
        *_stream_problems(project, found, now),
        *check_live(project.registry.across(streams), several=True),
    ]
    return StreamsStatus(
        at=now,
        project=str(project.folder),
        problems=sorted(problems, key=lambda problem: (problem.stream is not None, problem.kind, problem.stream or "")),
        streams=len(found),
        types=[_count(model_type, chain.from_iterable(one.models for one in found)) for model_type in MODEL_TYPE_NAMES],
        posts=sum(one.posts for one in found),
        newest_at=max((one.newest_at for one in found if one.newest_at is not None), default=None),
        schedules=schedules,
        disk=measure_space(project.models_dir),
        plugins=_summarize(needed for needed, _ in algorithms.values()),
    )


def _count(model_type: ModelTypeName, models: Iterable[ModelOverview]) -> ModelTypeCounts:
    of_type = [model for model in models if model.model_type == model_type]
    return ModelTypeCounts(
        model_type=model_type,
        enabled=sum(model.enabled for model in of_type),
        live=sum(model.live is not None for model in of_type),
        due=sum(model.due.is_due for model in of_type),
        held=sum(model.hold is not None for model in of_type),
        failed=sum(model.failure is not None for model in of_type),
    )


def _stream_problems(project: Project, streams: Iterable[StreamOverview], now: datetime) -> Iterator[Problem]:
    silent = [one for one in streams if _may_be_stale(one, now)]
    freshness = project.posts.table.list_freshness([one.stream for one in silent], now)
    for one in streams:
        if not one.posts or one.stream in freshness:
            yield from posts_problems(freshness.get(one.stream), one.stream, several=True)
        for model in one.models:
            key = ModelKey(one.stream, model.model_type)
            is_live = model.live is not None
            yield from model_problems(
                key, model.last_run, model.due_at, now, enabled=model.enabled, is_live=is_live, several=True
            )


def _may_be_stale(one: StreamOverview, now: datetime) -> bool:
    """Whether it takes a look at all posts of a stream to know that they are not stale."""
    if one.first_at is None or one.newest_at is None or one.posts < 2:  # noqa: PLR2004  two posts make a gap
        return False
    mean_gap = max((one.newest_at - one.first_at) / (one.posts - 1), timedelta())
    return now - one.newest_at > mean_gap * (2 if one.posts <= _FEW_GAPS else 1)


def _case(settings: Settings, name: str, model_type: ModelTypeName) -> _Case:
    """Return what decides whether an algorithm can be used; its options count only if the settings choose it."""
    model = settings.model(model_type)
    options = model.options(name) if model.algorithm == name else {}
    return name, model_type, json.dumps(options, sort_keys=True, default=str)


def _needed_algorithms(project: Project, streams: Iterable[StreamOverview]) -> dict[_Case, tuple[NeededAlgorithm, str]]:
    """Load each algorithm of the settings and of production, once with each options; return also one of its streams."""
    needed: dict[_Case, str] = {}
    settings = project.settings.for_streams(one.stream for one in streams)
    for one in streams:
        for model in one.models:
            names = [model.live.algorithm] if model.live is not None else []
            if model.enabled:
                names.append(settings[one.stream].model(model.model_type).algorithm)
            for name in names:
                needed.setdefault(_case(settings[one.stream], name, model.model_type), one.stream)
    return {
        case: (NeededAlgorithm(*case[:2], find_problem(project.for_stream(stream), *case[:2])), stream)
        for case, stream in needed.items()
    }


def _summarize(algorithms: Iterable[NeededAlgorithm]) -> list[NeededAlgorithm]:
    """Return each algorithm once for each model type, with a problem if it has one with any options."""
    found: dict[tuple[str, ModelTypeName], NeededAlgorithm] = {}
    for one in algorithms:
        if one.problem is not None:
            found[one.name, one.model_type] = one
        found.setdefault((one.name, one.model_type), one)
    return list(found.values())


def _algorithm_problems(project: Project, algorithms: Mapping[_Case, tuple[NeededAlgorithm, str]]) -> Iterator[Problem]:
    """Report each problem once: of the whole project if it is one of the settings of all streams, else of a stream."""
    reported: set[NeededAlgorithm] = set()
    of_all = {case for case in algorithms if case == _case(project.settings.for_all, *case[:2])}
    for case, (needed, stream) in sorted(algorithms.items(), key=lambda item: item[0] not in of_all):
        if needed.problem is None or needed in reported:
            continue
        reported.add(needed)
        concerned = None if case in of_all else stream
        of = "" if concerned is None else of_stream(concerned, several=True)
        message = f"the configured {needed.model_type} algorithm{of} cannot be used: {needed.problem}"
        yield Problem("unusable_algorithm", needed.name, message, "", concerned)
