"""The record of a run: started as the lock of its model type, kept alive, and closed whatever happens."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrainer.algorithms.events import Event
from retrainer.errors import RetrainerError, RunInProgress
from retrainer.logs import run_log_context
from retrainer.pipeline.evaluations import evaluate_model
from retrainer.pipeline.promotion import publish_change
from retrainer.pipeline.timeout import time_limit
from retrainer.redaction import redact
from retrainer.registry.liveness import HEARTBEAT_SECONDS
from retrainer.registry.promotions import Change
from retrainer.registry.runs import Spending

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import pandas as pd

    from retrainer.algorithms.budget import Budget
    from retrainer.algorithms.loaded_algorithm import LoadedAlgorithm
    from retrainer.algorithms.model import TrainedModel
    from retrainer.config import RetrainingSettings
    from retrainer.evaluation.evaluate import Evaluation
    from retrainer.evaluation.windows import Window
    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.registry import Registry
    from retrainer.registry.tables import TrainingRun
    from retrainer.runtime import Runtime, Stopwatch

log = logging.getLogger(__name__)

POLL_SECONDS = 0.25  # while waiting for another run


def start_run(
    project: Project,
    model_type: ModelTypeName,
    algorithm: LoadedAlgorithm,
    stopwatch: Stopwatch,
    *,
    as_of: bool,
    wait_seconds: float,
) -> TrainingRun:
    """Start a run, waiting for another run of this model type to end for at most `wait_seconds`.

    Raises:
        RunInProgress: another run of this model type is still in progress.
    """
    deadline = time.monotonic() + wait_seconds
    started_at = stopwatch.started_at
    while True:
        try:
            return project.registry.start_run(
                model_type, algorithm.name, started_at, stopwatch.started_at if as_of else None
            )
        except RunInProgress:
            if time.monotonic() >= deadline:
                raise
            if started_at == stopwatch.started_at:
                log.info("Waiting for another %s run to end...", model_type)
            time.sleep(min(POLL_SECONDS, max(deadline - time.monotonic(), 0)))
            started_at = stopwatch.now()


@dataclass(frozen=True)
class RunContext:
    """What the steps of a run share.

    Attributes:
        run: the recorded run; None for a dry run.
    """

    project: Project
    runtime: Runtime
    model_type: ModelTypeName
    stopwatch: Stopwatch
    budget: Budget
    run: TrainingRun | None = None

    @property
    def settings(self) -> RetrainingSettings:
        return self.project.settings.retraining

    @property
    def registry(self) -> Registry:
        """The project's registry."""
        return self.project.registry

    @property
    def run_id(self) -> str | None:
        """The id of the recorded run; None for a dry run."""
        return None if self.run is None else self.run.run_id

    @property
    def spending(self) -> Spending:
        """What the paid calls of the run have used so far."""
        tokens = self.budget.input_tokens + self.budget.output_tokens
        return Spending(tokens, self.budget.cost_usd, self.budget.refusals)

    def evaluate(self, model: TrainedModel, posts: pd.DataFrame, window: Window) -> Evaluation:
        """Evaluate a model on a window, within the budget of the run."""
        return evaluate_model(self.runtime, model, posts, window, self.budget)


@contextmanager
def track_run(project: Project, runtime: Runtime, run: TrainingRun, stopwatch: Stopwatch) -> Iterator[RunContext]:
    """Keep a run alive and give it a budget; close it as failed, with the reason, if the block fails.

    Raises:
        RunTimeout: it took longer than `max_run_minutes`.
    """
    registry, settings = project.registry, project.settings

    def give_up(error: RetrainerError) -> None:
        _publish_failed_run(runtime, registry.fail_run(run.run_id, str(error), stopwatch.now()))
        runtime.events.publish(Event("end", run.model_type_name, None, str(error), stream=run.stream))

    # A notification and a healthcheck ping may each take as long as the timeout.
    publish_seconds = 2 * settings.notifications.timeout_seconds
    try:
        with (
            run_log_context(run.run_id),
            time_limit(settings.retraining.max_run_minutes, give_up, publish_seconds),
            _heartbeat(registry, run.run_id),
            runtime.open_budget() as budget,
        ):
            context = RunContext(project, runtime, run.model_type_name, stopwatch, budget, run)
            try:
                yield context
            except BaseException:
                with suppress(RetrainerError):  # the first failure is the one to report
                    registry.record_spending(run.run_id, context.spending)
                raise
    except BaseException as error:
        closed = close_as_failed(registry, run, error, stopwatch.now())
        if closed.promoted_to_production:  # interrupted after its decision was committed: the decision stands
            version_id, reason = str(closed.model_version_id), str(closed.promotion_reason)
            change = Change(closed.model_type_name, closed.compared_with, version_id, reason, closed.stream)
            publish_change(project, runtime, "promotion", change)
        _publish_failed_run(runtime, closed)
        raise


def close_as_failed(registry: Registry, run: TrainingRun, error: BaseException, now: datetime) -> TrainingRun:
    """Close a run with the error that ended it, unless it is closed already."""
    interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
    reason = "interrupted" if interrupted else redact(str(error)) or type(error).__name__
    error.run_id = run.run_id  # type: ignore[attr-defined]  # for the report of the failure
    return registry.fail_run(run.run_id, reason, now)


def _publish_failed_run(runtime: Runtime, run: TrainingRun) -> None:
    version_id = run.model_version_id if run.status == "completed" else None
    with run_log_context(run.run_id):
        runtime.events.publish(
            Event("run", run.model_type_name, version_id, run.error or run.promotion_reason, run=run, stream=run.stream)
        )


@contextmanager
def _heartbeat(registry: Registry, run_id: str) -> Iterator[None]:
    """Record at intervals that the run's process is alive."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            try:
                registry.record_heartbeat(run_id)
            except RetrainerError as error:
                log.debug("Cannot record a heartbeat: %s", error)

    thread = threading.Thread(target=beat, name=f"heartbeat of {run_id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
