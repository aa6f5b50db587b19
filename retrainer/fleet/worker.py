"""The work of a fleet's worker: it opens the project once, reviews the model of each unit, and makes its run."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

from retrainer.algorithms.events import EventBus
from retrainer.algorithms.manager import load_algorithm
from retrainer.errors import RetrainerError, RunInProgress, UsageError, wrap_unexpected
from retrainer.fleet.units import Outcome, UnitError
from retrainer.live.review import review
from retrainer.logs import run_log_context
from retrainer.parallel.remote_project import open_elsewhere
from retrainer.pipeline import recovery
from retrainer.pipeline.loading import load_configured_algorithm
from retrainer.pipeline.run import costs_money, retrain
from retrainer.pipeline.run_context import close_as_failed
from retrainer.pipeline.stale_posts import find_stale_posts, report_stale_posts
from retrainer.project import Project, folder_of
from retrainer.registry.budgets import SharedBudget
from retrainer.registry.liveness import HEARTBEAT_SECONDS, MAX_MISSED_HEARTBEATS
from retrainer.registry.runs import RunFilter
from retrainer.render.events import event_document
from retrainer.runtime import Runtime

if TYPE_CHECKING:
    from pathlib import Path

    from retrainer.fleet.units import Unit, WorkerSpec
    from retrainer.pipeline.results import RunResult
    from retrainer.registry.tables import TrainingRun

# After which a run counts as dead, even if the clocks of two machines differ by a minute.
DEAD_SECONDS = (MAX_MISSED_HEARTBEATS + 2) * HEARTBEAT_SECONDS + 60
RETRY_SECONDS = 4

log = logging.getLogger(__name__)


def run_unit(spec: WorkerSpec, unit: Unit) -> Outcome:
    """Make the run of a unit, and return what came of it; a failure is an outcome too.

    Events reach the installed observers; the fleet sends one notification for all of its runs.
    """
    try:
        project = open_project(spec.config_file, spec.settings).for_stream(unit.stream)
        with project.posts.keep_loaded():  # the review and the run need the same
            return _make_run(spec, unit, project)
    except Exception as error:
        run_id = getattr(error, "run_id", None)
        if isinstance(error, RunInProgress) and run_id is None:  # else another process closed this run
            return Outcome(*unit[:2], "skipped", reason=str(error))
        failure = error if isinstance(error, RetrainerError) else wrap_unexpected(error)
        with run_log_context(run_id):
            log.debug("Model training failed: %s [%s, %s]", failure, *unit[:2], exc_info=True)
        return Outcome(*unit[:2], "failed", run_id, error=UnitError.of(failure))


_opened: dict[tuple[Path, str | None], Project] = {}  # the last one
_load_algorithm = cache(load_algorithm)  # once for all runs of a project


def open_project(config_file: Path, settings: str | None = None) -> Project:
    """Open the project of a settings file, or of settings that were handed over; keep it open until another is asked.

    A run with settings that were handed over is one of the project that did so, wherever the worker keeps model files.
    """
    key = (config_file, settings)
    if key not in _opened:
        close_project()
        if settings is None:
            _opened[key] = Project.find(config_file.parent, os.environ, config_file)
        else:
            _opened[key] = open_elsewhere(config_file, settings, os.environ)
            _opened[key].registry.database.project_folder = folder_of(config_file)
            if not _opened[key].settings.uses_store:
                recovery.clear_leftovers(_opened[key])  # nothing else does in a folder of this machine alone
    return _opened[key]


def close_project() -> None:
    _load_algorithm.cache_clear()
    while _opened:
        _opened.popitem()[1].close()


def _make_run(spec: WorkerSpec, unit: Unit, project: Project) -> Outcome:
    budget = SharedBudget(project.registry.database, spec.budget_id)
    runtime = Runtime(
        events=EventBus(event_document),
        algorithms=_load_algorithm,
        answers_dir=project.answers_dir,
        shared_budget=budget,
    )
    now = spec.as_of or unit.started_at or datetime.now(UTC)
    review(project, runtime, unit.model_type, now, roll_back=False)  # the fleet decides on all together
    if unit.only_reviews:
        return Outcome(*unit[:2], "reviewed")
    stale = None if spec.as_of else find_stale_posts(project, [unit.model_type], now, unit.last_run_at)
    outcome = _completed(unit, _retrain(spec, unit, project, runtime, now))
    if stale is not None and report_stale_posts(project, runtime, stale):
        return replace(outcome, stale=stale.reason)
    return outcome


def _retrain(spec: WorkerSpec, unit: Unit, project: Project, runtime: Runtime, now: datetime) -> RunResult:
    chosen, _ = load_configured_algorithm(project.settings, runtime, unit.model_type, spec.algorithm)
    production = project.registry.get_production(unit.model_type)
    if spec.budget_id is None and costs_money(runtime, chosen, production):
        # the settings, or production, changed after the fleet had looked
        raise UsageError(
            f"forecasts of the {unit.model_type} model of '{unit.stream}' cost money, but there is no --max-cost",
            hint="Start it again with --max-cost",
        )
    run = _start_run(spec, unit, project, chosen.name, now)
    try:
        return retrain(
            project,
            runtime,
            unit.model_type,
            now,
            algorithm=spec.algorithm,
            auto_promote=spec.auto_promote,
            as_of=spec.as_of is not None,
            opened=run,
            production=None if unit.is_retry else production,  # before a retry, it may have waited for minutes
        )
    except BaseException as error:
        close_as_failed(project.registry, run, error, now)  # if it failed before it was tracked
        raise


def _start_run(spec: WorkerSpec, unit: Unit, project: Project, algorithm: str, now: datetime) -> TrainingRun:
    """Start the run; after a lost worker, wait until its run counts as dead."""
    registry = project.registry
    deadline = time.monotonic() + (DEAD_SECONDS if unit.is_retry else 0)
    while True:
        try:
            return registry.start_run(
                unit.model_type,
                algorithm,
                now,
                spec.as_of,
                last_run_id=unit.last_run_id,
                durable=False,  # nobody knows of the run yet, and a unit is tried again
            )
        except RunInProgress:
            running = registry.list_runs(unit.model_type, 1, RunFilter(status="running"))
            if not running or time.monotonic() >= deadline:
                raise
            time.sleep(RETRY_SECONDS)  # each try takes the lock of all writers


def _completed(unit: Unit, result: RunResult) -> Outcome:
    run = result.run
    metrics = result.evaluation.metrics if result.evaluation is not None else {}
    return Outcome(
        *unit[:2],
        "promoted" if result.promoted else "not_promoted",
        run_id=run.run_id if run else None,
        version_id=run.model_version_id if run else None,
        algorithm=result.algorithm,
        score=metrics.get("overall_score"),
        skill=metrics.get("skill"),
        seconds=run.duration_seconds if run else None,
        cost_usd=run.cost_usd if run else None,
        reason=result.reason,
        needs_attention=result.needs_attention,
    )
