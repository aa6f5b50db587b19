"""The state of every stream of a project in a few queries, whatever their number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, get_args

from retrainer.model_types import MODEL_TYPE_NAMES, parse_model_type
from retrainer.model_types.base import skill_score
from retrainer.schedule.due import due_of_streams
from retrainer.streams import ModelKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from retrainer.config import RetrainingSettings
    from retrainer.model_types import ModelTypeName
    from retrainer.posts.table import PostsSpan
    from retrainer.project import Project
    from retrainer.registry.overviews import LiveVersion, RunSummary
    from retrainer.registry.tables import Hold
    from retrainer.schedule.due import Due

SortKey = Literal["name", "posts", "newest", "score", "skill", "failure"]
SORT_KEYS: tuple[SortKey, ...] = get_args(SortKey)

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class ModelOverview:
    """One model type of a stream.

    Attributes:
        enabled: whether it is retrained.
        live: the production version, if any, with the scores of its latest evaluation.
        due: whether it is due.
        hold: the stop of automatic promotion, if any.
        due_at: when it is due by `schedule_days`; None if it is not retrained, or no run has completed.
        last_run: the latest run, whatever its outcome.
    """

    model_type: ModelTypeName
    enabled: bool
    live: LiveVersion | None
    due: Due
    due_at: datetime | None
    hold: Hold | None
    last_run: RunSummary | None

    @property
    def failure(self) -> RunSummary | None:
        """The latest run if it failed."""
        return self.last_run if self.last_run is not None and self.last_run.status == "failed" else None

    @property
    def skill(self) -> float | None:
        """The gain of the score over that of the naive forecast; None without an evaluation."""
        if self.live is None or self.live.score is None or self.live.naive_score is None:
            return None
        return skill_score(self.live.score, self.live.naive_score)


@dataclass(frozen=True)
class StreamOverview:
    """One stream.

    Attributes:
        posts: the number of posts.
        first_at, newest_at: the times of the first and the newest one, UTC; None without posts.
        models: its model types, or those asked for.
    """

    stream: str
    posts: int
    first_at: datetime | None
    newest_at: datetime | None
    models: list[ModelOverview]


@dataclass(frozen=True)
class OverviewFilter:
    """Which models count; a stream is listed if one of its models does.

    Attributes:
        model_type: only models of this type.
        due, held, failed: only those that are due, on hold, or whose latest run failed.
        not_live: only those that are retrained, but have no production version.
    """

    model_type: ModelTypeName | None = None
    due: bool = False
    held: bool = False
    failed: bool = False
    not_live: bool = False

    def accepts(self, model: ModelOverview) -> bool:
        """Whether a model counts."""
        return (
            self.model_type in {None, model.model_type}
            and (not self.due or model.due.is_due)
            and (not self.held or model.hold is not None)
            and (not self.failed or model.failure is not None)
            and (not self.not_live or (model.enabled and model.live is None))
        )


def list_streams(
    project: Project,
    now: datetime,
    streams: Sequence[str] | None = None,
    only: OverviewFilter = OverviewFilter(),
    *,
    sort: SortKey = "name",
    limit: int | None = None,
    offset: int = 0,
) -> tuple[list[StreamOverview], int]:
    """Return streams with their models that count, and the number of streams that have one.

    Args:
        streams: only these; None for all.
        only: which models count.
        sort: `name`; `posts`, `newest` or `failure`, the most or latest first; `score` or `skill`, the lowest first.
        limit: the maximum number of streams to return.
        offset: how many to skip.
    """
    found = [replace(one, models=list(filter(only.accepts, one.models))) for one in overview(project, now, streams)]
    found = [one for one in found if one.models]
    if sort != "name":
        found.sort(key=_SORT[sort])
    return found[offset : None if limit is None else offset + limit], len(found)


def overview(project: Project, now: datetime, streams: Sequence[str] | None = None) -> list[StreamOverview]:
    """Return the state of streams, by name; None for all."""
    names = project.list_streams() if streams is None else sorted(streams)
    registry = project.registry.across(None)
    posts = project.posts.table.spans(now)
    live, last = registry.live_versions(), registry.last_runs()
    completed = {key: run for key, run in last.items() if run.status == "completed"}
    if others := {key.stream for key in last.keys() - completed.keys()}:
        completed = registry.across(others).last_completed_runs() | completed
    holds = {ModelKey(hold.stream, parse_model_type(hold.model_type)): hold for hold in registry.list_holds()}
    dead = {run.run_id: reason for run, reason in registry.find_dead_runs()}
    due = due_of_streams(project, names, MODEL_TYPE_NAMES, now, completed, look_for_drift=False)
    settings = project.settings.for_streams(names)

    def model(key: ModelKey) -> ModelOverview:
        run = last.get(key)
        if run is not None and run.run_id in dead:
            run = run._replace(status="failed", error=f"The run was interrupted: {dead[run.run_id]}")
        return ModelOverview(
            model_type=key.model_type,
            enabled=settings[key.stream].retraining.is_enabled(key.model_type),
            live=live.get(key),
            due=due[key],
            due_at=_due_at(completed.get(key), settings[key.stream].retraining, key.model_type),
            hold=holds.get(key),
            last_run=run,
        )

    return [
        _stream(name, posts.get(name), (model(ModelKey(name, model_type)) for model_type in MODEL_TYPE_NAMES))
        for name in names
    ]


def _due_at(last: RunSummary | None, settings: RetrainingSettings, model_type: ModelTypeName) -> datetime | None:
    if last is None or not settings.is_enabled(model_type):
        return None
    return last.started_at + timedelta(days=settings.schedule_days)


def _stream(name: str, posts: PostsSpan | None, models: Iterable[ModelOverview]) -> StreamOverview:
    if posts is None:
        return StreamOverview(name, 0, None, None, list(models))
    return StreamOverview(name, posts.count, posts.first, posts.last, list(models))


def _lowest(values: Iterable[float | None]) -> tuple[bool, float]:
    """Return what sorts by the lowest value, those without any last."""
    known = [value for value in values if value is not None]
    return (not known, min(known, default=0.0))


_SORT: dict[SortKey, Callable[[StreamOverview], tuple[bool, float] | float]] = {
    "posts": lambda one: -one.posts,
    "newest": lambda one: -(one.newest_at or _NEVER).timestamp(),
    "score": lambda one: _lowest(model.live and model.live.score for model in one.models),
    "skill": lambda one: _lowest(model.skill for model in one.models),
    "failure": lambda one: -max((m.failure.started_at for m in one.models if m.failure), default=_NEVER).timestamp(),
}
