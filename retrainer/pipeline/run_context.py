"""One attempt at a run, in the record: begun as the lock of its type, kept alive, and closed whatever happens."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager, suppress
from contextvars import copy_context
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from retrainer.algorithms.budget import opened_workspace, workspace
from retrainer.algorithms.events import publish
from retrainer.errors import RetrainerError, RunInProgress
from retrainer.logs import run_log_context
from retrainer.pipeline.promotion import publish_change
from retrainer.pipeline.timeout import time_limit
from retrainer.registry.liveness import HEARTBEAT_SECONDS
from retrainer.registry.promotions import Change
from retrainer.render.documents.runs import run_document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retrainer.algorithms.manager import LoadedAlgorithm
    from retrainer.model_types import ModelTypeName
    from retrainer.project import Project
    from retrainer.registry.registry import Registry
    from retrainer.registry.tables import TrainingRun

log = logging.getLogger(__name__)

POLL_SECONDS = 0.25  # between looks at a run that is waited for


class Stopwatch:
    """Tells the time of a run: the moment it counts from, plus what has passed since."""

    def __init__(self, now: datetime, *, stands_still: bool = False) -> None:
        """Start at a moment; where it stands still, the run takes no time, whatever the machine does meanwhile."""
        self.started_at = now
        self._stands_still = stands_still
        self._monotonic = time.monotonic()

    def now(self) -> datetime:
        """Return the run's time, UTC."""
        passed = 0.0 if self._stands_still else time.monotonic() - self._monotonic
        return self.started_at + timedelta(seconds=passed)


def start_run(
    project: Project,
    model_type: ModelTypeName,
    algorithm: LoadedAlgorithm,
    watch: Stopwatch,
    *,
    as_of: bool,
    wait_seconds: float,
) -> TrainingRun:
    """Begin a run; wait for another run of the type to end, but not longer than told.

    Raises:
        RunInProgress: another run of this type is still going on.
    """
    deadline = time.monotonic() + wait_seconds
    moment = watch.started_at
    while True:
        try:
            return project.registry.start_run(model_type, algorithm.name, moment, watch.started_at if as_of else None)
        except RunInProgress:
            if time.monotonic() >= deadline:
                raise
            if moment == watch.started_at:
                log.info("Waiting for another %s run to end...", model_type)
            time.sleep(min(POLL_SECONDS, max(deadline - time.monotonic(), 0)))
            moment = watch.now()


@contextmanager
def track_run(project: Project, run: TrainingRun, watch: Stopwatch) -> Iterator[None]:
    """Keep an open run alive; close it as failed, with the reason, if the block does not come to its end.

    Raises:
        RunTimeout: it took longer than `max_run_minutes`.
    """
    registry = project.registry
    here = copy_context()  # the observers of this process; the time limit is kept by another thread

    def give_up(error: RetrainerError) -> None:
        here.run(_publish_failed_run, registry.fail_run(run.run_id, str(error), watch.now()))
        here.run(publish, {"kind": "end", "model_type": run.model_type, "version_id": None, "reason": str(error)})

    settings = project.settings
    telling_seconds = 2 * settings.notifications.timeout_seconds  # a message, and the ping of a healthcheck

    try:
        with (
            run_log_context(run.run_id),
            time_limit(settings.retraining.max_run_minutes, give_up, telling_seconds),
            _heartbeat(registry, run.run_id),
            opened_workspace(project.answers_dir),
            _spending_noted(registry, run),
        ):
            yield
    except BaseException as error:
        closed = close_as_failed(registry, run, error, watch.now())
        if closed.promoted_to_production:  # ended between the commit of its decision and here: the decision stands
            version, reason = str(closed.model_version_id), str(closed.promotion_reason)
            publish_change(project, "promotion", Change(closed.model_type_name, closed.compared_with, version, reason))
        _publish_failed_run(closed)
        raise


def _publish_failed_run(run: TrainingRun) -> None:
    """Tell the observers of a run that did not come back to its command, as what it is recorded."""
    version_id = run.model_version_id if run.status == "completed" else None
    event = {"kind": "run", "model_type": run.model_type, "version_id": version_id}
    with run_log_context(run.run_id):
        publish({**event, "reason": run.error or run.promotion_reason, "run": run_document(run)})


def close_as_failed(registry: Registry, run: TrainingRun, error: BaseException, now: datetime) -> TrainingRun:
    """Close a run by what ended it, unless it is closed already."""
    interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
    reason = "interrupted" if interrupted else str(error) or type(error).__name__
    error.run_id = run.run_id  # type: ignore[attr-defined]  # for whoever tells of the failure
    return registry.fail_run(run.run_id, reason, now)


@contextmanager
def _spending_noted(registry: Registry, run: TrainingRun) -> Iterator[None]:
    """Record what the paid calls of a run took also where it fails; else `retrain` does before it is completed."""
    try:
        yield
    except BaseException:
        with suppress(RetrainerError):  # the failure that is told is the first one
            record_spending(registry, run.run_id)
        raise


def record_spending(registry: Registry, run_id: str) -> None:
    """Record what the paid calls of a run took so far."""
    account = workspace().account
    tokens = account.input_tokens + account.output_tokens
    registry.record_spending(run_id, tokens=tokens, cost_usd=account.cost_usd, refusals=account.refusals)


@contextmanager
def _heartbeat(registry: Registry, run_id: str) -> Iterator[None]:
    """Say at intervals that the run's process lives."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT_SECONDS):
            try:
                registry.record_heartbeat(run_id)
            except RetrainerError as error:
                log.debug("No heartbeat could be written: %s", error)

    thread = threading.Thread(target=beat, name=f"heartbeat of {run_id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
