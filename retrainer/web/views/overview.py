"""The overview of a stream: what is live and how good it is, what comes next, what is due, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retrainer.model_types import MODEL_TYPE_NAMES
from retrainer.model_types.base import skill_score
from retrainer.pipeline.loading import load_score_intervals
from retrainer.registry.promotions import PRODUCTION_CHANGE_ACTIONS
from retrainer.render.charts import forecasts, scores, style
from retrainer.status import get_status
from retrainer.web.forecasts import Upcoming, forecast_next
from retrainer.web.rendering import Page
from retrainer.web.specs import page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from retrainer.model_types import ModelTypeName
    from retrainer.pipeline.loading import ScoreIntervals
    from retrainer.posts.freshness import PostsActivity
    from retrainer.project import Project
    from retrainer.registry.tables import LedgerEntry, ModelEvaluation, ModelVersion, TrainingRun
    from retrainer.render.charts.chart import Chart
    from retrainer.runtime import Runtime
    from retrainer.status import ModelTypeStatus, Status
    from retrainer.web.site import Visit

    GetIntervals = Callable[[Project, ModelVersion, ModelEvaluation], ScoreIntervals | None]
    GetForecast = Callable[[Project, ModelVersion, PostsActivity, datetime], Upcoming]

CHART_RUNS = 60  # whose scores are drawn
LAST_RUNS = 5
TITLES = {"timing": "Timing: when the next post comes", "content": "Content: what the next post says"}


@dataclass(frozen=True)
class Side:
    """A score on the test of the live version.

    Attributes:
        name: whose score it is.
        version_id: None for the naive forecast.
        interval: the 95% interval; None if it is not known.
        metrics: all scores of it.
    """

    name: str
    version_id: str | None
    score: float
    interval: tuple[float, float] | None
    metrics: dict[str, Any]
    line: style.Line


@dataclass(frozen=True)
class LiveScore:
    """How good the live version was on its test.

    Attributes:
        sides: it, then the version that it was compared with, if any, then the naive forecast; on the same posts.
        skill: its gain over the naive forecast.
        posts: on how many posts.
        start, end: of the test, as recorded.
    """

    sides: Sequence[Side]
    skill: float
    posts: int
    start: str | None
    end: str | None


@dataclass(frozen=True)
class ModelOverview:
    """One model type.

    Attributes:
        status: what is live, due, on hold.
        score: of the live version; None without one or without an evaluation.
        change: how the live version went live.
        upcoming: the forecast of the next post.
        runs: the latest ones, newest first.
        trained: how many posts the live fit knows, and through which time.
    """

    model_type: ModelTypeName
    title: str
    status: ModelTypeStatus
    score: LiveScore | None
    change: LedgerEntry | None
    can_roll_back: bool
    upcoming: Upcoming
    runs: Sequence[TrainingRun]
    next_post: Chart | None
    intervals: Chart | None
    history: Chart | None


@dataclass(frozen=True)
class Overview:
    """A stream."""

    status: Status
    models: Sequence[ModelOverview]


def gather_overview(
    project: Project,
    runtime: Runtime,
    now: datetime,
    model_types: Sequence[ModelTypeName] = MODEL_TYPE_NAMES,
    *,
    intervals: GetIntervals = load_score_intervals,
    forecast: GetForecast | None = None,
) -> Overview:
    """Gather what the overview of a stream shows. Nothing is written, and nothing is paid for.

    Args:
        project: the project seen from the stream.
        runtime: for the forecasts.
        model_types: the types to show.
        intervals: returns the intervals of an evaluation.
        forecast: returns the forecast of a production version; None makes it at once.
    """
    status = get_status(project, now)

    def forecast_at_once(seen: Project, version: ModelVersion, _posts: PostsActivity, at: datetime) -> Upcoming:
        return forecast_next(seen, runtime, version, at)

    get = forecast or forecast_at_once
    models = [
        _gather_model(project, one, status.posts, now, intervals, get)
        for one in status.types
        if one.model_type in model_types
    ]
    return Overview(status, models)


def _gather_model(
    project: Project,
    one: ModelTypeStatus,
    posts: PostsActivity,
    now: datetime,
    intervals: GetIntervals,
    forecast: GetForecast,
) -> ModelOverview:
    registry, name, live = project.registry, one.model_type, one.production
    runs = registry.list_runs(name, CHART_RUNS)
    changes = registry.list_ledger_entries(name, PRODUCTION_CHANGE_ACTIONS, CHART_RUNS)
    score = None if live is None else _live_score(project, live, intervals)
    upcoming = Upcoming() if live is None or posts.freshness is None else forecast(project, live, posts, now)
    sides = [] if score is None else score.sides
    shown = tuple(scores.ScoreInterval(side.name, side.score, side.interval, side.line) for side in sides)
    title = f"{name.capitalize()}: scores on the same posts, with 95% intervals"
    return ModelOverview(
        name,
        TITLES[name],
        one,
        score,
        changes[0] if changes else None,
        can_roll_back=any(change.action == "promotion" and change.from_version_id for change in changes),
        upcoming=upcoming,
        runs=runs[:LAST_RUNS],
        next_post=None if upcoming.forecast is None else forecasts.next_post(upcoming.forecast),
        intervals=scores.intervals(title, shown),
        history=scores.history(name, runs, changes, registry.naive_scores(runs)),
    )


def _live_score(project: Project, live: ModelVersion, intervals: GetIntervals) -> LiveScore | None:
    """Return the score of the live version in its own run, where it was compared; else in its latest evaluation."""
    registry = project.registry
    run = registry.get_run_of(live.version_id)
    rows = registry.list_evaluations(live.version_id, run.run_id, limit=1) if run is not None else []
    rows = rows or registry.list_evaluations(live.version_id, limit=1)
    if not rows:
        return None
    (row,) = rows
    found = intervals(project, live, row)
    sides = [
        Side("live", live.version_id, row.overall_score, found.version if found else None, row.metrics, style.VERSION)
    ]
    compared = run.compared_with if run is not None and row.run_id == run.run_id else None
    if compared is not None and run is not None:
        sides += _compared_side(project, compared, run, row, intervals)
    naive = float(row.baseline_metrics["overall_score"])
    interval = found.naive if found else None
    sides.append(Side("naive forecast", None, naive, interval, row.baseline_metrics, style.NAIVE))
    window = row.window
    return LiveScore(
        sides, skill_score(row.overall_score, naive), row.num_predictions, window.get("start"), window.get("end")
    )


def _compared_side(
    project: Project, version_id: str, run: TrainingRun, row: ModelEvaluation, intervals: GetIntervals
) -> list[Side]:
    """Return the score of the previous version on the same posts, if it is recorded."""
    others = project.registry.list_evaluations(version_id, run.run_id, limit=1)
    if not others or others[0].window != row.window:
        return []
    before = project.registry.get_version(version_id)
    found = intervals(project, before, others[0])
    interval = found.version if found else None
    return [Side("previous version", version_id, others[0].overall_score, interval, others[0].metrics, style.OTHER)]


def overview(visit: Visit) -> Page:
    site = visit.site

    def intervals(project: Project, version: ModelVersion, row: ModelEvaluation) -> ScoreIntervals | None:
        key = ("score intervals", row.evaluation_id)
        return site.background.get(key, lambda: load_score_intervals(project, version, row))

    found = gather_overview(
        visit.project,
        site.runtime,
        visit.now,
        intervals=intervals,
        forecast=site.forecasts.get,
    )
    is_pending = any(model.upcoming.is_pending for model in found.models)
    return Page("overview.html", "Overview", {"overview": found}, "/overview", reloads_itself=is_pending)


ROUTES = [page("/overview", overview)]
